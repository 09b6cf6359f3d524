"""What the receiver's gRPC side answers to what; a row of the table in `docs/receiver.md` for each test."""

from __future__ import annotations

import grpc
import pytest
from google.rpc.status_pb2 import Status

from comet_otel.streams import ROUTES
from tests.support.otlp_requests import (
    TRACES_METHOD,
    log_request,
    metric_request,
    trace_request,
    trace_request_of,
)

pytestmark = pytest.mark.integration

KIB = 1024


def call(node, body: bytes, method: str = TRACES_METHOD, **options) -> bytes:
    """Call a method with raw bytes, on a connection of its own."""
    with grpc.insecure_channel(node.grpc) as channel:
        return channel.unary_unary(method)(body, timeout=60, **options)


def refusal(node, body: bytes, method: str = TRACES_METHOD, **options) -> grpc.RpcError:
    """Call a method that is to fail, and return how."""
    with pytest.raises(grpc.RpcError) as caught:
        call(node, body, method, **options)
    return caught.value


def test_each_service_stores_its_signal_unchanged(node) -> None:
    """The bytes of each signal go to its stream as they came; the answer is an empty response."""
    bodies = {"traces": trace_request(3), "metrics": metric_request(), "logs": log_request()}
    for route in ROUTES:
        body = bodies[route.signal.value]
        assert call(node, body, route.grpc_method) == b""
        assert node.stored(route.stream) == [body]


def test_a_compressed_message_is_stored_decompressed(node) -> None:
    """Gzip of gRPC's own is taken; the entry is the message itself."""
    body = trace_request(20)
    assert call(node, body, compression=grpc.Compression.Gzip) == b""
    assert node.stored() == [body]


def test_an_empty_message_succeeds_and_is_not_stored(node) -> None:
    """A message without a resource is a success, and nothing to keep."""
    assert call(node, b"") == b""
    assert node.stored() == []


def test_unknown_fields_are_kept(node) -> None:
    """A newer client's fields are no error, and are stored."""
    body = trace_request() + b"\xaa\x06\x03new"
    assert call(node, body) == b""
    assert node.stored() == [body]


@pytest.mark.parametrize(
    "body",
    [trace_request(2)[:-1], b"\xff", trace_request(1, "caf\u00e9").replace("caf\u00e9".encode(), b"caf\xc3\x28")],
    ids=["truncated", "no message", "text that is not UTF-8"],
)
def test_what_is_no_request_is_an_invalid_argument(node, body) -> None:
    """Truncated bytes, other bytes and wrong text get INVALID_ARGUMENT, with a status that says so, for good."""
    error = refusal(node, body)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    trailers = dict(error.trailing_metadata())
    status = Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.details[0].type_url) == (3, "type.googleapis.com/google.rpc.BadRequest")
    assert "google.rpc.retryinfo-bin" not in trailers
    assert node.stored() == []


def test_a_message_at_the_limit_is_taken_and_one_over_it_is_not(start) -> None:
    """The limit counts bytes of the message as it comes and decompressed; one more gets RESOURCE_EXHAUSTED."""
    node = start(max_body_bytes=100 * KIB)
    body = trace_request_of(100 * KIB)
    assert call(node, body) == b""
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        error = refusal(node, trace_request_of(100 * KIB + 1), compression=compression)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(error.trailing_metadata() or {}) == {}
    assert node.stored() == [body]


@pytest.mark.parametrize(
    "method",
    [
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
    ],
)
def test_another_method_is_unimplemented(node, method) -> None:
    """Methods and services that are not there get UNIMPLEMENTED."""
    assert refusal(node, trace_request(), method).code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_without_a_message_is_an_invalid_argument(node) -> None:
    """A call that ends before its message gets INVALID_ARGUMENT."""
    with grpc.insecure_channel(node.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(TRACES_METHOD)(iter(()), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_calls_share_a_connection(node) -> None:
    """Calls at the same time on one connection are each answered, and all are stored."""
    bodies = [trace_request(name=f"call {number}") for number in range(50)]
    with grpc.insecure_channel(node.grpc) as channel:
        method = channel.unary_unary(TRACES_METHOD)
        assert [found.result(60) for found in [method.future(body) for body in bodies]] == [b""] * 50
    assert sorted(node.stored()) == sorted(bodies)


def test_metadata_over_the_limit_is_refused(start) -> None:
    """Metadata of more than the limit gets RESOURCE_EXHAUSTED."""
    node = start(max_header_bytes=4 * KIB)
    error = refusal(node, trace_request(), metadata=(("x-long", "x" * 8 * KIB),))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
