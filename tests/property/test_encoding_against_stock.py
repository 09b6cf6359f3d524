"""Are our requests, once parsed, the stock encoder's, and is the same left out of them?

`make property` asks about 20,000 batches of each signal.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from opentelemetry.exporter.otlp.proto.common import _log_encoder, metrics_encoder, trace_encoder
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import MetricsData

from comet_otel.encoding import LOG_RECORDS, METRICS, SPANS, Codec, encode_parts
from tests.support import odd_telemetry as odd

MANY = settings(max_examples=4 * settings.default.max_examples)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the SDK from logging thousands of lines about odd values."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def encodable(stock: Callable[[Any], Any], item: Any) -> bool:
    """Say whether the stock encoder takes an item."""
    try:
        stock(item).SerializeToString()
    except Exception:
        return False
    return True


@dataclasses.dataclass
class Expected:
    """What the stock encoder makes of a batch.

    Attributes:
        request: the request of those items that it encodes alone.
        left_out: how many others there are.
        attributes: how many attributes of the first are not in the request.
    """

    request: Any
    left_out: int
    attributes: int


def of_sequence(stock: Callable[[Any], Any], batch: Sequence[Any]) -> Expected:
    """Tell what is expected of a batch that is a sequence of items."""
    with odd.attribute_failures():
        kept = [item for item in batch if encodable(stock, [item])]
    with odd.attribute_failures() as failures:
        request = stock(kept)
    return Expected(request, len(batch) - len(kept), failures.count)


def of_metrics(batch: MetricsData) -> Expected:
    """Tell what is expected of metrics, whose items are data points."""
    left_out = 0

    def kept_points(resource_metrics: Any, scope_metrics: Any, metric: Any) -> Any:
        nonlocal left_out

        def only(points: Sequence[Any]) -> Any:
            data = dataclasses.replace(metric.data, data_points=points) if points is not None else metric.data
            own = dataclasses.replace(metric, data=data)
            scope = dataclasses.replace(scope_metrics, metrics=[own])
            return MetricsData([dataclasses.replace(resource_metrics, scope_metrics=[scope])])

        if not dataclasses.is_dataclass(metric.data):
            left_out += 1
            return metric if encodable(metrics_encoder.encode_metrics, only(None)) else None  # type: ignore[arg-type]
        points = metric.data.data_points
        kept = [point for point in points if encodable(metrics_encoder.encode_metrics, only([point]))]
        left_out += len(points) - len(kept)
        if not kept and (points or not encodable(metrics_encoder.encode_metrics, only([]))):
            return None
        return dataclasses.replace(metric, data=dataclasses.replace(metric.data, data_points=kept))

    resources = []
    with odd.attribute_failures():
        for resource_metrics in batch.resource_metrics:
            scopes = []
            for scope_metrics in resource_metrics.scope_metrics:
                metrics = [kept_points(resource_metrics, scope_metrics, metric) for metric in scope_metrics.metrics]
                empty = dataclasses.replace(scope_metrics, metrics=[])
                alone = MetricsData([dataclasses.replace(resource_metrics, scope_metrics=[empty])])
                if any(metrics) or (not metrics and encodable(metrics_encoder.encode_metrics, alone)):
                    scopes.append(dataclasses.replace(scope_metrics, metrics=[one for one in metrics if one]))
            alone = MetricsData([dataclasses.replace(resource_metrics, scope_metrics=[])])
            if scopes or (not resource_metrics.scope_metrics and encodable(metrics_encoder.encode_metrics, alone)):
                resources.append(dataclasses.replace(resource_metrics, scope_metrics=scopes))
    with odd.attribute_failures() as failures:
        request = metrics_encoder.encode_metrics(MetricsData(resources))
    return Expected(request, left_out, failures.count)


def check(codec: Codec[Any], batch: Any, expected: Expected, without_additions: Callable[[Any], None]) -> None:
    """Compare what our encoder makes of a batch with what is expected of it."""
    encoded = encode_parts(codec, batch)
    ours = type(expected.request).FromString(b"".join(encoded.payloads))
    without_additions(ours)
    # Compared as bytes, because NaN differs from itself.
    as_bytes = ours.SerializeToString(deterministic=True)
    assert as_bytes == expected.request.SerializeToString(deterministic=True), (ours, expected.request)
    assert encoded.unencodable_items == expected.left_out
    assert encoded.first_error is not None or not expected.left_out
    assert encoded.unencodable_attributes == expected.attributes
    assert len(encoded.payloads) <= 1


def without_link_trace_states(request: ExportTraceServiceRequest) -> None:
    """Take away what is ours alone in a request of spans."""
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                for link in span.links:
                    link.ClearField("trace_state")


def without_gauge_starts(request: ExportMetricsServiceRequest) -> None:
    """Take away what is ours alone in a request of metrics."""
    for resource_metrics in request.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                if metric.HasField("gauge"):
                    for point in metric.gauge.data_points:
                        point.ClearField("start_time_unix_nano")


def without_anything(request: ExportLogsServiceRequest) -> None:
    """Take away nothing: requests of log records have no additions."""


@MANY
@given(odd.SPAN_BATCHES.strategy)
def test_spans_are_encoded_as_by_the_stock_encoder(batch) -> None:
    """Every span that it encodes alone and no other, with the same attributes."""
    check(SPANS, batch, of_sequence(trace_encoder.encode_spans, batch), without_link_trace_states)


@MANY
@given(odd.LOG_BATCHES.strategy)
def test_log_records_are_encoded_as_by_the_stock_encoder(batch) -> None:
    """Every record that it encodes alone and no other, with the same attributes."""
    check(LOG_RECORDS, batch, of_sequence(_log_encoder.encode_logs, batch), without_anything)


@MANY
@given(odd.METRIC_BATCHES.strategy)
def test_metrics_are_encoded_as_by_the_stock_encoder(batch) -> None:
    """Every data point that it encodes alone and no other, with the same attributes."""
    check(METRICS, batch, of_metrics(batch), without_gauge_starts)
