"""The table of answers and what they mean."""

from __future__ import annotations

import grpc
import pytest

from shipper.outcome import (
    GRPC_KINDS,
    Delivered,
    Partial,
    Pause,
    Reject,
    Retry,
    Split,
    from_grpc,
    from_http,
    overridden,
)


def test_every_grpc_status_but_ok_is_in_the_table() -> None:
    """A status that gRPC knows and the table does not would be an accident."""
    assert set(GRPC_KINDS) == {code.name for code in grpc.StatusCode} - {"OK"}


@pytest.mark.parametrize(
    "code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]
)
def test_statuses_that_the_specification_lets_retry_are_retried(code) -> None:
    """With or without a wish for when."""
    assert from_grpc(code, "m", None) == Retry(code, "m", None)
    assert from_grpc(code, "m", 7.0) == Retry(code, "m", 7.0)


def test_resource_exhausted_is_what_its_details_say() -> None:
    """A wish to wait, a message that is too large, or a quota of which nobody says when it is filled again."""
    assert from_grpc("RESOURCE_EXHAUSTED", "m", 2.0) == Retry("RESOURCE_EXHAUSTED", "m", 2.0, throttled=True)
    for text in (
        "grpc: received message larger than max (5 vs. 4)",
        "SERVER: Received message larger than max (5 vs. 4)",
    ):
        assert from_grpc("RESOURCE_EXHAUSTED", text, None) == Split("RESOURCE_EXHAUSTED", text)
    assert from_grpc("RESOURCE_EXHAUSTED", "quota", None) == Pause("RESOURCE_EXHAUSTED", "quota")
    own = "Stream removed (CLIENT: Received message larger than max (5000000 vs. 4194304))"
    assert from_grpc("RESOURCE_EXHAUSTED", own, None) == Pause("answer too long", own)


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND"])
def test_statuses_about_the_destination_pause(code) -> None:
    """The data is fine; somebody has to mend credentials or the address."""
    assert from_grpc(code, "m", None) == Pause(code, "m")


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "INTERNAL", "UNKNOWN", "FAILED_PRECONDITION", "NEW_IN_2030"])
def test_other_statuses_reject_the_request(code) -> None:
    """Also one that a later gRPC may invent."""
    assert from_grpc(code, "m", None) == Reject(code, "m")


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_http_statuses_that_may_be_retried_are(status) -> None:
    """Those of the specification, and the one that says that the request took too long to arrive."""
    assert from_http(status, "m", 3.0) == Retry(f"HTTP {status}", "m", 3.0, throttled=status == 429)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404, 405, 407, 501])
def test_http_statuses_about_the_destination_pause(status) -> None:
    """A redirect is never followed and never a success."""
    assert isinstance(from_http(status, "m", None), Pause)


@pytest.mark.parametrize("status", [204, 206])
def test_other_successes_are_not_an_otlp_answer(status) -> None:
    """OTLP answers success with 200 alone; anything else comes from something that did not take the data."""
    assert isinstance(from_http(status, "", None), Pause)


@pytest.mark.parametrize("status", [400, 415, 422, 500, 599])
def test_other_http_statuses_reject_the_request(status) -> None:
    """Sending the same again would give the same answer."""
    assert isinstance(from_http(status, "m", None), Reject)


def test_a_request_that_is_too_large_for_http_is_split() -> None:
    """Smaller ones may be taken."""
    assert from_http(413, "m", None) == Split("HTTP 413", "m")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("retry", Retry("HTTP 500", "m")),
        ("pause", Pause("HTTP 500", "m")),
        ("split", Split("HTTP 500", "m")),
        ("reject", Reject("HTTP 500", "m")),
    ],
)
def test_a_destination_may_have_its_own_meaning_of_an_answer(kind, expected) -> None:
    """Named as in log lines; others, and successes, are not touched."""
    overrides = (("HTTP 500", kind),)
    assert overridden(from_http(500, "m", None), overrides) == expected
    assert overridden(from_http(400, "m", None), overrides) == Reject("HTTP 400", "m")
    for success in (Delivered(), Partial(1, "m")):
        assert overridden(success, overrides) == success
