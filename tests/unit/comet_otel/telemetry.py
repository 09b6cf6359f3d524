"""Makes SDK objects for tests, the ordinary and the odd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, TraceFlags

if TYPE_CHECKING:
    from collections.abc import Mapping

RESOURCE = Resource({"service.name": "test"})
SCOPE = InstrumentationScope("tests", "1")


def span(number: int, *, name: Any = None, attributes: Mapping[str, Any] | None = None) -> ReadableSpan:
    """Return an ended span whose ids are made from `number`, which must not be 0."""
    return ReadableSpan(
        name=f"span {number}" if name is None else name,
        context=SpanContext(number, number, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)),
        resource=RESOURCE,
        attributes=attributes or {"number": number},
        kind=SpanKind.INTERNAL,
        status=Status(),
        start_time=1_000 + number,
        end_time=2_000 + number,
        instrumentation_scope=SCOPE,
    )


def log_record(
    body: Any, *, scope: InstrumentationScope = SCOPE, attributes: Mapping[str, Any] | None = None
) -> ReadableLogRecord:
    """Return a log record."""
    return ReadableLogRecord(
        log_record=LogRecord(
            timestamp=1_000,
            observed_timestamp=1_000,
            severity_text="INFO",
            severity_number=SeverityNumber.INFO,
            body=body,
            attributes=attributes or {"a": 1},
        ),
        resource=RESOURCE,
        instrumentation_scope=scope,
    )


def metrics_data(counters: int = 1, points: int = 1, *, meters: int = 1) -> MetricsData:
    """Return collected metrics: per meter some counters of some data points each."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], resource=RESOURCE, shutdown_on_exit=False)
    for meter_number in range(meters):
        meter = provider.get_meter(f"meter {meter_number}")
        for number in range(counters):
            counter = meter.create_counter(f"counter.{number}")
            for point in range(points):
                counter.add(1 + point, {"point": point})
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    return data
