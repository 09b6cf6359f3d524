"""What the direct encoder does otherwise than the stock one, each as listed in docs/encoding.md."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common import metrics_encoder
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Link, SpanContext, TraceState

from comet_otel.encoding import (
    LOG_RECORDS,
    METRICS,
    SPANS,
    encode_metrics,
    encode_parts,
    encode_spans,
)
from tests.unit.comet_otel.telemetry import RESOURCE, SCOPE, log_record, span


def only_span(payload: bytes) -> Any:
    """Return the one span of a request."""
    return ExportTraceServiceRequest.FromString(payload).resource_spans[0].scope_spans[0].spans[0]


def nested(depth: int) -> Any:
    """Return lists inside each other."""
    value: Any = "core"
    for _ in range(depth):
        value = [value]
    return value


def test_a_link_keeps_its_trace_state() -> None:
    """As the specification has it; the stock encoder forgets it."""
    one = span(1)
    one._links = [Link(SpanContext(1, 2, is_remote=True, trace_state=TraceState([("a", "1"), ("b", "2")])))]
    assert only_span(encode_spans([one])).links[0].trace_state == "a=1,b=2"


def test_a_link_with_an_odd_trace_state_loses_that_alone() -> None:
    """The stock encoder, which never looks at it, keeps such a span."""
    one = span(1)
    one._links = [Link(SpanContext(1, 2, is_remote=True, trace_state={"a": "\ud800"}))]  # type: ignore[arg-type]
    link = only_span(encode_spans([one])).links[0]
    assert link.span_id == (2).to_bytes(8, "big")
    assert link.trace_state == ""


def metrics(*data: Any, resources: int = 1) -> MetricsData:
    """Return each of the data as a metric of each of some equal resources."""
    kinds = [Metric(f"metric {number}", "", "", one) for number, one in enumerate(data)]
    return MetricsData(
        [
            ResourceMetrics(Resource(dict(RESOURCE.attributes)), [ScopeMetrics(SCOPE, kinds, "")], "")
            for _ in range(resources)
        ]
    )


def test_a_gauge_keeps_its_start_time() -> None:
    """Where the SDK gives one; the stock encoder forgets it."""
    request = ExportMetricsServiceRequest.FromString(
        encode_metrics(metrics(Gauge([NumberDataPoint({}, 7, 8, 1), NumberDataPoint({}, None, 8, 1)])))  # type: ignore[arg-type]
    )
    points = request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points
    assert [point.start_time_unix_nano for point in points] == [7, 0]


def test_metrics_of_equal_resources_and_scopes_are_all_kept() -> None:
    """The stock encoder keeps the last of them and loses the others."""
    data = metrics(Sum([NumberDataPoint({}, 1, 2, 3)], AggregationTemporality.DELTA, is_monotonic=True), resources=2)
    assert len(metrics_encoder.encode_metrics(data).resource_metrics) == 1
    request = ExportMetricsServiceRequest.FromString(encode_metrics(data))
    assert [len(one.scope_metrics[0].metrics) for one in request.resource_metrics] == [1, 1]


@pytest.mark.parametrize("depth", [48, 200, 100_000])
def test_an_attribute_that_is_nested_too_deeply_costs_only_itself(depth) -> None:
    """A receiver's protobuf library would refuse the request with everything that is in it."""
    one = span(1)
    one._attributes = {"deep": nested(depth), "good": 1}
    encoded = encode_parts(SPANS, [one])
    assert [attribute.key for attribute in only_span(encoded.payloads[0]).attributes] == ["good"]
    assert (encoded.unencodable_items, encoded.unencodable_attributes) == (0, 1)


def test_what_is_nested_as_deeply_as_receivers_read_is_kept() -> None:
    """Up to the last level, in the place where least is left for it."""
    one = span(1)
    one._attributes = {"deep": nested(47)}
    assert only_span(encode_spans([one])).attributes[0].key == "deep"


@pytest.mark.parametrize("depth", [49, 100_000])
def test_a_body_that_is_nested_too_deeply_costs_its_record(depth) -> None:
    """There is nothing else to say about it."""
    encoded = encode_parts(LOG_RECORDS, [log_record(nested(depth)), log_record(nested(48))])
    request = ExportLogsServiceRequest.FromString(encoded.payloads[0])
    assert len(request.resource_logs[0].scope_logs[0].log_records) == 1
    assert encoded.unencodable_items == 1


def test_a_value_that_contains_itself_costs_only_its_attribute() -> None:
    """It has no end."""
    loop: list[Any] = []
    loop.append(loop)
    one = span(1)
    one._attributes = {"loop": loop, "good": 1}
    encoded = encode_parts(SPANS, [one])
    assert [attribute.key for attribute in only_span(encoded.payloads[0]).attributes] == ["good"]


def test_a_resource_that_cannot_be_encoded_costs_its_own_items() -> None:
    """Those of other resources in the batch are kept."""
    bad = span(2)
    bad._resource = Resource({}, schema_url="\ud800")
    encoded = encode_parts(SPANS, [span(1), bad, span(3)])
    spans = ExportTraceServiceRequest.FromString(b"".join(encoded.payloads)).resource_spans[0].scope_spans[0].spans
    assert [int.from_bytes(one.span_id, "big") for one in spans] == [1, 3]
    assert encoded.unencodable_items == 1

    points = Gauge([NumberDataPoint({}, 1, 2, 3), NumberDataPoint({}, 1, 2, 4)])
    data = metrics(points)
    worse = metrics(points)
    object.__setattr__(worse.resource_metrics[0], "resource", Resource({}, schema_url="\ud800"))
    both = encode_parts(METRICS, MetricsData([*worse.resource_metrics, *data.resource_metrics]))
    assert both.payloads == encode_parts(METRICS, data).payloads
    assert both.unencodable_items == 2


def test_a_resource_that_cannot_be_hashed_does_not_trouble_the_others() -> None:
    """Resources are compared by making JSON of their attributes, which not every number survives."""
    odd, twin = span(2), span(3)
    odd._resource = twin._resource = Resource({"number": 10**5_000, "a": 1})
    encoded = encode_parts(SPANS, [span(1), odd, span(4), twin])
    found = ExportTraceServiceRequest.FromString(encoded.payloads[0]).resource_spans
    numbers = [[int.from_bytes(one.span_id, "big") for one in resource.scope_spans[0].spans] for resource in found]
    assert numbers == [[1, 4], [2, 3]]
    assert (encoded.unencodable_items, encoded.unencodable_attributes) == (0, 1)
