"""Requests as bytes, against the protobuf messages that everybody else reads them with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from comet_otel import wire
from comet_otel.streams import Signal
from comet_otel.wire.counting import count_by_walking

NAMES = st.sampled_from(["", "a", "checkout", "x" * 200, "é"])
SIZES = st.integers(min_value=1, max_value=3000)


def _resource(target: Any, name: str, schema: str) -> None:
    if name:
        attribute = target.resource.attributes.add()
        attribute.key, attribute.value.string_value = "service.name", name
    target.schema_url = schema


@st.composite
def trace_requests(draw) -> bytes:
    """Return a serialized request with some resources, scopes and spans, or none."""
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 3))):
        resource = request.resource_spans.add()
        _resource(resource, draw(NAMES), draw(NAMES))
        for _ in range(draw(st.integers(0, 3))):
            scope = resource.scope_spans.add()
            scope.scope.name, scope.schema_url = draw(NAMES), draw(st.sampled_from(["", "s"]))
            for _ in range(draw(st.integers(0, 4))):
                scope.spans.add(name="n" * draw(st.integers(0, 300)), start_time_unix_nano=draw(st.integers(0, 2**40)))
    return request.SerializeToString()


@st.composite
def log_requests(draw) -> bytes:
    """Return a serialized request with log records."""
    request = ExportLogsServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        resource = request.resource_logs.add()
        _resource(resource, draw(NAMES), "")
        for _ in range(draw(st.integers(0, 2))):
            scope = resource.scope_logs.add()
            scope.scope.name = draw(NAMES)
            for _ in range(draw(st.integers(0, 4))):
                scope.log_records.add(severity_text=draw(NAMES))
    return request.SerializeToString()


@st.composite
def metric_requests(draw) -> bytes:
    """Return a serialized request with metrics of every kind."""
    request = ExportMetricsServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        resource = request.resource_metrics.add()
        _resource(resource, draw(NAMES), "")
        scope = resource.scope_metrics.add()
        for _ in range(draw(st.integers(0, 3))):
            metric = scope.metrics.add(name=draw(NAMES), unit="s")
            kind = draw(st.sampled_from(["gauge", "sum", "histogram", "exponential_histogram", "summary"]))
            points = getattr(metric, kind).data_points
            if kind == "sum":
                metric.sum.is_monotonic = True
            for _ in range(draw(st.integers(0, 5))):
                points.add(time_unix_nano=draw(st.integers(1, 2**50)))
    return request.SerializeToString()


KINDS = {
    Signal.TRACES: (ExportTraceServiceRequest, trace_requests()),
    Signal.LOGS: (ExportLogsServiceRequest, log_requests()),
    Signal.METRICS: (ExportMetricsServiceRequest, metric_requests()),
}


def items(signal: Signal, payload: bytes) -> list[tuple[bytes, ...]]:
    """Each item with what it belongs to, in order, as protobuf reads it."""
    request = KINDS[signal][0].FromString(payload)
    found = []
    for resource in next(iter(request.ListFields()), (None, ()))[1]:
        scopes = {
            Signal.TRACES: lambda r: [(s, s.spans) for s in r.scope_spans],
            Signal.LOGS: lambda r: [(s, s.log_records) for s in r.scope_logs],
            Signal.METRICS: lambda r: [(s, s.metrics) for s in r.scope_metrics],
        }[signal](resource)
        for scope, children in scopes:
            owner = (
                resource.resource.SerializeToString(deterministic=True),
                resource.schema_url.encode(),
                scope.scope.SerializeToString(deterministic=True),
                scope.schema_url.encode(),
            )
            for child in children:
                if signal is Signal.METRICS:
                    found += [(*owner, *point) for point in _points(child)]
                else:
                    found.append((*owner, child.SerializeToString(deterministic=True)))
    return found


def _points(metric: Any) -> list[tuple[bytes, ...]]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return []
    data = getattr(metric, kind)
    rest = type(metric)()
    rest.CopyFrom(metric)
    getattr(rest, kind).ClearField("data_points")
    head = rest.SerializeToString(deterministic=True)
    return [(head, point.SerializeToString(deterministic=True)) for point in data.data_points]


@pytest.mark.parametrize("signal", list(Signal))
@given(data=st.data())
def test_items_are_counted_as_protobuf_counts_them(signal, data) -> None:
    """Spans, log records and data points, wherever they are."""
    payload = data.draw(KINDS[signal][1])
    assert wire.count_items(payload, signal) == len(items(signal, payload))
    assert count_by_walking(payload, signal) == len(items(signal, payload))


@pytest.mark.parametrize("signal", list(Signal))
@given(data=st.data())
def test_parts_hold_every_item_once_in_order_and_within_the_limit(signal, data) -> None:
    """Each with its own copy of resource, scope and metric; only what is marked is larger, and holds one item."""
    payload, limit = data.draw(KINDS[signal][1]), data.draw(SIZES)
    parts = wire.split_request(payload, signal, limit)
    assert [item for part in parts for item in items(signal, part.payload)] == items(signal, payload)
    for part in parts:
        assert part.items == len(items(signal, part.payload))
        assert part.too_large == (len(part.payload) > limit)
    if len(payload) <= limit:
        assert [part.payload for part in parts] == [payload]


@given(payload=trace_requests(), limit=st.integers(600, 3000))
def test_parts_that_are_too_large_hold_one_item(payload, limit) -> None:
    """Where resource and scope leave room for an item, nothing is left together that could be cut."""
    for part in wire.split_request(payload, Signal.TRACES, limit):
        assert not part.too_large or part.items <= 1


@pytest.mark.parametrize("signal", list(Signal))
@given(data=st.data())
def test_coalescing_changes_no_item_and_no_order(signal, data) -> None:
    """The same items, with what they belong to, as in the requests one after the other."""
    payloads = data.draw(st.lists(KINDS[signal][1], max_size=6))
    repeated = [payload for payload in payloads for _ in range(data.draw(st.integers(1, 3)))]
    joined = wire.coalesce(repeated)
    assert items(signal, joined) == items(signal, b"".join(repeated))
    assert wire.count_items(joined, signal) == wire.count_items(b"".join(repeated), signal)
    assert len(joined) <= len(b"".join(repeated)) + 16  # a length may take a byte more
    assert wire.is_framed(joined)


@given(payload=st.binary(max_size=200), limit=st.integers(1, 100))
def test_bytes_that_are_no_request_raise_one_error_or_are_taken_whole(payload, limit) -> None:
    """Nothing but MalformedError leaves the helpers, and it leaves nothing half done."""
    for attempt in (
        lambda: wire.count_items(payload, Signal.TRACES),
        lambda: wire.count_items(payload, Signal.METRICS),
        lambda: wire.split_request(payload, Signal.METRICS, limit),
        lambda: wire.coalesce([payload, payload]),
        lambda: list(wire.walk(payload)),
    ):
        try:
            attempt()
        except wire.MalformedError:
            continue
    wire.is_framed(payload)


@given(payload=trace_requests().filter(len), cut=st.integers(1, 40))
def test_a_cut_request_is_never_joined_to_others(payload, cut) -> None:
    """A request that lacks its end would take bytes of the next one for its own."""
    assert wire.is_framed(payload)
    shorter = payload[: max(1, len(payload) - cut)]
    if shorter != payload and wire.is_framed(shorter):
        # Cut exactly between two resources: then it is a whole request of fewer.
        assert payload.startswith(shorter)
        ExportTraceServiceRequest.FromString(shorter)
