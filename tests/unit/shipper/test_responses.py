"""Reading collectors' answers."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from shipper.outcome import Delivered, Partial
from shipper.sending.responses import (
    MESSAGE_LENGTH_MAX,
    retry_after_header,
    retry_delay,
    shortened,
    status_message,
    success_outcome,
)


def packed(message) -> AnyMessage:
    """Return a message wrapped as a detail of a status."""
    any_message = AnyMessage()
    any_message.Pack(message)
    return any_message


def test_an_answer_without_partial_success_is_delivery() -> None:
    """Also an empty one, and one whose partial success says nothing."""
    assert success_outcome(b"") == Delivered()
    empty = ExportTraceServiceResponse()
    empty.partial_success.SetInParent()
    assert success_outcome(empty.SerializeToString()) == Delivered()


def test_partial_success_is_read_for_every_signal() -> None:
    """The fields have the same numbers in all of them."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 7
    answer.partial_success.error_message = "too old"
    assert success_outcome(answer.SerializeToString()) == Partial(7, "too old")

    warning = ExportLogsServiceResponse()
    warning.partial_success.error_message = "please upgrade"
    assert success_outcome(warning.SerializeToString()) == Partial(0, "please upgrade")


def test_retry_delay_is_found_among_other_details() -> None:
    """As servers send it, in the details of a status."""
    retry = RetryInfo(retry_delay=Duration(seconds=12, nanos=500_000_000))
    status = Status(code=14, message="busy", details=[packed(BadRequest()), packed(retry)])
    assert retry_delay(status.SerializeToString()) == 12.5
    assert status_message(status.SerializeToString()) == "busy"
    assert retry_delay(Status(code=14).SerializeToString()) is None
    assert retry_delay(Status(details=[packed(RetryInfo())]).SerializeToString()) == 0.0


def test_negative_and_impossible_delays_are_no_wish() -> None:
    """A server may send anything."""
    for duration in (Duration(seconds=-5), Duration(seconds=1, nanos=-1)):
        status = Status(details=[packed(RetryInfo(retry_delay=duration))])
        assert retry_delay(status.SerializeToString()) is None


@given(st.binary(max_size=200))
def test_garbage_is_read_without_an_error(garbage) -> None:
    """An answer that is no protobuf message at all says nothing, and says it quietly."""
    assert isinstance(success_outcome(garbage), Delivered | Partial)
    status_message(garbage)
    retry_delay(garbage)


@given(st.integers(0, 60))
def test_truncated_answers_are_read_without_an_error(length) -> None:
    """A connection may be cut anywhere."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 300
    answer.partial_success.error_message = "some of it was too old"
    assert isinstance(success_outcome(answer.SerializeToString()[:length]), Delivered | Partial)


def test_retry_after_is_seconds_or_a_date() -> None:
    """Both forms of the header are understood, and what is neither counts as absent."""
    assert retry_after_header(None) is None
    assert retry_after_header("") is None
    assert retry_after_header("120") == 120.0
    assert retry_after_header("Wed, 21 Oct 2015 07:28:00 GMT", now=1445412420.0) == 60.0
    assert retry_after_header("Wed, 21 Oct 2015 07:28:00 GMT", now=1545412420.0) == 0.0
    for nonsense in ("soon", "-5", "1.5.2", "Wed, 99 Oct 2015"):
        assert retry_after_header(nonsense) is None


def test_texts_from_outside_fit_one_log_line() -> None:
    """Whatever a server sends, it can neither break lines nor flood the log."""
    assert shortened(b"two\nlines\x1b[31m\xff") == "two lines [31m\ufffd"
    assert len(shortened("x" * 100_000)) == MESSAGE_LENGTH_MAX
