"""Requests as bytes: the cases that examples show better than properties."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from comet_otel import wire
from comet_otel.streams import Signal


def one_span(name: str, *, service: str = "shop", scope: str = "scope") -> bytes:
    """Return the request that a processor stores for one span."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", service
    scope_spans = resource.scope_spans.add()
    scope_spans.scope.name = scope
    scope_spans.spans.add(name=name)
    return request.SerializeToString()


def test_many_requests_of_one_span_share_one_resource_and_one_scope() -> None:
    """What a thousand copies of the same bytes would have cost is saved."""
    payloads = [one_span(f"span {i}") for i in range(1000)]
    request = ExportTraceServiceRequest.FromString(wire.coalesce(payloads))
    ((scope,),) = [list(resource.scope_spans) for resource in request.resource_spans]
    assert [span.name for span in scope.spans] == [f"span {i}" for i in range(1000)]


def test_a_resource_in_between_keeps_its_place() -> None:
    """Order comes before size."""
    payloads = [one_span("a"), one_span("b", service="other"), one_span("c"), one_span("d", scope="x"), one_span("e")]
    request = ExportTraceServiceRequest.FromString(wire.coalesce(payloads))
    assert [len(resource.scope_spans) for resource in request.resource_spans] == [1, 1, 3]


def test_an_item_that_is_too_large_alone_is_marked_and_the_others_are_not_held_up() -> None:
    """It stands where it stood."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for size in (10, 5000, 10):
        scope.spans.add(name="x" * size)
    parts = wire.split_request(request.SerializeToString(), Signal.TRACES, 1000)
    assert [(part.items, part.too_large) for part in parts] == [(1, False), (1, True), (1, False)]


def test_a_resource_that_leaves_no_room_is_not_multiplied() -> None:
    """A thousand spans under a resource larger than the limit stay one part."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add()
    attribute.key, attribute.value.string_value = "k", "v" * 2000
    for _ in range(1000):
        resource.scope_spans.add().spans.add(name="x")
    (part,) = wire.split_request(request.SerializeToString(), Signal.TRACES, 1000)
    assert part.too_large
    assert part.items == 1000


@pytest.mark.parametrize("payload", [b"\x0a\x05abc", b"\x0a", b"\xff" * 11, b"\x12\x00", b"hello", b"\x0a\x00\x00"])
def test_what_is_not_framed_is_told_apart(payload) -> None:
    """Whatever could swallow its neighbour's bytes, or is another message, is not to be joined."""
    assert not wire.is_framed(payload)


def test_broken_insides_are_taken_over_as_they_are() -> None:
    """Somebody else is to judge them; the neighbours are not touched."""
    broken = b"\x0a\x03\x12\x05a"
    joined = wire.coalesce([one_span("a"), broken, one_span("b")])
    assert broken in joined
    assert joined.startswith(one_span("a"))
    assert joined.endswith(one_span("b"))
