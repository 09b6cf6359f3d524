"""The table of answers and what they mean."""

from __future__ import annotations

import grpc
import pytest

from shipper.outcome import GRPC_KINDS, Pause, Reject, Retry, from_grpc, from_http


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


def test_resource_exhausted_is_retried_only_if_asked_for() -> None:
    """Without RetryInfo it is how gRPC servers answer a message that is too large."""
    assert from_grpc("RESOURCE_EXHAUSTED", "m", 2.0) == Retry("RESOURCE_EXHAUSTED", "m", 2.0)
    assert from_grpc("RESOURCE_EXHAUSTED", "m", None) == Reject("RESOURCE_EXHAUSTED", "m")


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
    assert from_http(status, "m", 3.0) == Retry(f"HTTP {status}", "m", 3.0)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404, 405, 407, 501])
def test_http_statuses_about_the_destination_pause(status) -> None:
    """A redirect is never followed and never a success."""
    assert isinstance(from_http(status, "m", None), Pause)


@pytest.mark.parametrize("status", [204, 206])
def test_other_successes_are_not_an_otlp_answer(status) -> None:
    """OTLP answers success with 200 alone; anything else comes from something that did not take the data."""
    assert isinstance(from_http(status, "", None), Pause)


@pytest.mark.parametrize("status", [400, 413, 415, 422, 500, 599])
def test_other_http_statuses_reject_the_request(status) -> None:
    """Sending the same again would give the same answer."""
    assert isinstance(from_http(status, "m", None), Reject)
