"""What senders are told when the log does not take their request, or not all of it."""

from __future__ import annotations

import dataclasses
import json

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from comet_otel.receiver import preparing
from comet_storage import CometConfig, Consumer
from comet_storage.config import RetentionConfig, StorageConfig
from tests.support.otlp_requests import JSON, TRACES_METHOD, ask, post, raw_connection, trace_request

pytestmark = pytest.mark.integration

KIB = 1024
MIB = 1024 * KIB

SMALL_ENTRIES = CometConfig(storage=StorageConfig(max_entry_bytes=64 * KIB))


def names(payloads: list[bytes]) -> list[str]:
    """Return the names of all spans in some requests."""
    found = []
    for payload in payloads:
        for resource in ExportTraceServiceRequest.FromString(payload).resource_spans:
            for scope in resource.scope_spans:
                found += [span.name for span in scope.spans]
    return found


def mixed_request() -> bytes:
    """Return a request of three spans, the second of which is too large for an entry of 64 KiB."""
    return trace_request(name="a") + trace_request(name="b", padding=100 * KIB) + trace_request(name="c")


def test_a_full_log_is_answered_with_a_time_to_come_back(start) -> None:
    """At the bound of a log that rejects, both protocols say: unavailable, come back; what was stored stays."""
    full = RetentionConfig(max_total_size=2 * MIB, when_full="reject_new", min_files_to_keep=1)
    node = start(log=CometConfig(retention=full, storage=StorageConfig(max_file_size=256 * KIB)))
    acknowledged = []
    with Consumer(node.client, "shipper", stream="traces:v1"):
        for _ in range(100):
            body = trace_request(padding=60 * KIB)
            answer = post(node.http, "/v1/traces", body)
            if answer.status != 200:
                break
            acknowledged.append(body)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        status = Status.FromString(answer.body)
        assert (status.code, status.details[0].type_url) == (14, "type.googleapis.com/google.rpc.RetryInfo")
        with grpc.insecure_channel(node.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(TRACES_METHOD)(trace_request(padding=60 * KIB), timeout=60)
        assert ask(node.http, "GET", "/readyz").status == 503
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    trailers = dict(caught.value.trailing_metadata())
    assert RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]).retry_delay.seconds == 5
    assert Status.FromString(trailers["grpc-status-details-bin"]).details[0].Is(RetryInfo.DESCRIPTOR)
    assert len(acknowledged) > 3
    assert node.stored() == acknowledged


def test_a_closed_log_is_answered_with_a_time_to_come_back(start) -> None:
    """Once the client is closed nothing is stored, senders keep their data, and the receiver says that it is broken."""
    node = start()
    assert post(node.http, "/v1/traces", trace_request()).status == 200
    node.client.close()
    assert post(node.http, "/v1/traces", trace_request()).status == 503
    assert node.receiver.broken is not None
    assert ask(node.http, "GET", "/readyz").status == 503
    assert ask(node.http, "GET", "/healthz").status == 200


def test_what_the_log_cannot_take_is_a_partial_success(start) -> None:
    """One item over the size of an entry is reported, in each encoding; the others are stored."""
    node = start(log=SMALL_ENTRIES)
    answer = post(node.http, "/v1/traces", mixed_request())
    assert answer.status == 200
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_spans == 1
    assert "65536" in partial.error_message
    assert names(node.stored()) == ["a 0", "c 0"]
    with grpc.insecure_channel(node.grpc) as channel:
        found = channel.unary_unary(TRACES_METHOD)(mixed_request(), timeout=60)
    assert ExportTraceServiceResponse.FromString(found).partial_success.rejected_spans == 1
    spans = [{"name": name, "attributes": [{"key": name}]} for name in ("a", "b" * 70 * KIB)]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    assert json.loads(post(node.http, "/v1/traces", body, JSON).body)["partialSuccess"]["rejectedSpans"] == "1"
    assert names(node.stored()) == ["a 0", "c 0", "a 0", "c 0", "a"]


def test_a_request_of_which_nothing_can_be_stored_is_too_large(start) -> None:
    """If no item fits, the request as a whole is refused for good."""
    node = start(log=SMALL_ENTRIES)
    answer = post(node.http, "/v1/traces", trace_request(padding=100 * KIB))
    assert (answer.status, "retry-after" in answer.headers) == (413, False)
    assert node.stored() == []


def test_a_large_request_becomes_entries_that_can_be_shipped(start) -> None:
    """A request over the size of an entry is cut at the boundaries of its items; each is stored once, in order."""
    node = start(log=SMALL_ENTRIES)
    assert post(node.http, "/v1/traces", trace_request(100, padding=2 * KIB)).status == 200
    entries = node.stored()
    assert len(entries) >= 4
    assert max(map(len, entries)) <= 64 * KIB
    assert names(entries) == [f"checkout {number}" for number in range(100)]


def test_a_request_of_too_many_tiny_parts_is_not_taken_apart(start, monkeypatch) -> None:
    """More empty resources than the limit, in a body that would have to be split, are refused; as one entry, stored."""
    monkeypatch.setattr(preparing, "FIELDS_MAX", 40_000)
    node = start(log=SMALL_ENTRIES)
    assert post(node.http, "/v1/traces", b"\x0a\x00" * 50_000).status == 413
    assert post(node.http, "/v1/traces", b"\x0a\x00" * 39_000).status == 200
    assert post(node.http, "/v1/traces", b"\x0a\x00" * 32_000).status == 200


def test_what_is_inside_of_items_is_not_counted_as_parts(start, monkeypatch) -> None:
    """A request is taken apart however many fields its spans have, as long as there are not too many spans."""
    monkeypatch.setattr(preparing, "FIELDS_MAX", 150)
    node = start(log=SMALL_ENTRIES)
    assert post(node.http, "/v1/traces", trace_request(100, padding=2 * KIB)).status == 200
    assert post(node.http, "/v1/traces", trace_request(150, padding=2 * KIB)).status == 413


def test_a_part_that_is_malformed_refuses_the_whole(start) -> None:
    """Of a request that is cut, each part is checked, however deep the fault is in the last of them."""
    node = start(log=SMALL_ENTRIES)
    good = trace_request(100, padding=2 * KIB)
    assert post(node.http, "/v1/traces", good.replace(b"checkout 99", b"checkout \xff\xff")).status == 400
    assert node.stored() == []
    assert post(node.http, "/v1/traces", good).status == 200


def test_json_that_would_take_too_much_memory_is_refused(start) -> None:
    """A body whose tree would be larger than all the memory for bodies is refused unread; one of long texts is not."""
    node = start()
    tiny_objects = b'{"x":[' + b"{}," * 1_500_000 + b"{}]}"
    answer = post(node.http, "/v1/traces", tiny_objects, JSON)
    assert (answer.status, "retry-after" in answer.headers) == (413, False)
    assert post(node.http, "/v1/traces", b'{"x":"' + b"a" * 20 * MIB + b'"}', JSON).status == 200


def test_too_many_bytes_at_once_are_refused_until_there_is_room(start) -> None:
    """While half-sent bodies hold all the memory there is, another gets 503 and a time; when they go, it is taken."""
    node = start(max_body_bytes=MIB, max_bytes_in_flight=MIB, admission_timeout=0.2)
    body = trace_request(padding=200 * KIB)
    begin = (
        f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: {MIB}\r\n\r\n"
    ).encode()
    with raw_connection(node.http) as holder:
        holder.send(
            begin.replace(b"Content-Length: 1048576", b"Transfer-Encoding: chunked") + b"ffffe\r\n" + bytes(MIB - 2)
        )
        refused = post(node.http, "/v1/traces", body)
        while refused.status == 200:  # the bytes are still on their way
            refused = post(node.http, "/v1/traces", body)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    answer = post(node.http, "/v1/traces", body)
    while answer.status == 503:
        answer = post(node.http, "/v1/traces", body)
    assert answer.status == 200


def test_only_an_exact_duplicate_of_the_shipper_is_dropped(start) -> None:
    """The same id with the same bytes is acknowledged and not stored again; other bytes, or no id, are stored."""
    node = start()
    first, second = trace_request(name="a"), trace_request(name="b")
    for body, headers in (
        (first, {"comet_request_id": "id-1"}),
        (first, {"comet_request_id": "id-1"}),
        (second, {"comet_request_id": "id-1"}),
        (first, {"comet_request_id": "id-2"}),
        (first, {}),
    ):
        assert post(node.http, "/v1/traces", body, **headers).status == 200
    with grpc.insecure_channel(node.grpc) as channel:
        method = channel.unary_unary(TRACES_METHOD)
        assert method(first, metadata=(("comet-request-id", "id-1"),), timeout=60) == b""
    assert node.stored() == [first, second, first, first]
    assert 'outcome="duplicate",protocol="http"' in ask(node.http, "GET", "/metrics").body.decode()


def test_without_a_window_no_duplicate_is_dropped(start) -> None:
    """A window of 0 turns the looking for duplicates off."""
    node = start(duplicate_window=0)
    for _ in range(2):
        assert post(node.http, "/v1/traces", trace_request(), comet_request_id="same").status == 200
    assert len(node.stored()) == 2


@pytest.mark.parametrize("durability", ["process", "always"])
def test_requests_at_the_same_time_are_all_stored(start, durability) -> None:
    """Many small requests at once are each answered and each stored once, whichever frame they share."""
    config = CometConfig(storage=dataclasses.replace(StorageConfig(), durability=durability))
    node = start(log=config, group_wait=0.02)
    bodies = [trace_request(name=f"request {number}") for number in range(200)]
    with grpc.insecure_channel(node.grpc) as channel:
        method = channel.unary_unary(TRACES_METHOD)
        for future in [method.future(body, timeout=60) for body in bodies]:
            assert future.result() == b""
    messages = node.client.list_recent("traces:v1", 1000)
    assert sorted(message.data for message in messages) == sorted(bodies)
    assert len({message.timestamp for message in messages}) < len(messages)  # entries of a frame have one


def test_a_large_message_that_finds_no_room_is_not_kept_waiting(start) -> None:
    """Where the bytes in flight are taken, a large gRPC message is refused at once, and stored when there is room."""
    node = start(admission_timeout=3600.0)
    memory = node.receiver._intake.memory
    body = trace_request(1) + b"\xfa\x01\x80\x80\x80\x01" + bytes(2 * 1024 * 1024)
    assert memory.try_take(memory.most)
    with grpc.insecure_channel(node.grpc) as channel:
        call = channel.unary_unary(TRACES_METHOD)
        with pytest.raises(grpc.RpcError) as refused:
            call(body, timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        memory.give(memory.most)
        assert call(body, timeout=60) == b""
    assert memory.taken == 0
    assert node.stored() == [body]
