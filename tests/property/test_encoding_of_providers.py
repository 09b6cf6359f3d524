"""Does what the SDK's own providers make, with limits in force, come out as from the stock encoder?"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common import _log_encoder, metrics_encoder, trace_encoder
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from comet_otel.encoding import encode_logs, encode_metrics, encode_spans
from tests.support import odd_telemetry as odd
from tests.support.makers import one_of

ATTRIBUTES = one_of(odd.PLAIN, odd.ODD).strategy
LIMITS = st.one_of(st.none(), st.integers(0, 3))
REMOTE = set_span_in_context(
    NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the SDK from logging a line about each odd or dropped value."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def steps() -> st.SearchStrategy[list[tuple[str, Any]]]:
    """Give what an application does with a span, in order."""
    return st.lists(
        st.one_of(
            st.tuples(st.just("attributes"), ATTRIBUTES),
            st.tuples(st.just("event"), ATTRIBUTES),
            st.tuples(st.just("link"), ATTRIBUTES),
            st.tuples(st.just("exception"), odd.TEXT.strategy),
            st.tuples(st.just("status"), odd.TEXT.strategy),
            st.tuples(st.just("name"), odd.TEXT.strategy),
        ),
        max_size=6,
    )


def take(span: Any, step: str, value: Any) -> None:
    """Do one thing with a span."""
    if step == "attributes":
        span.set_attributes(value)
    elif step == "event":
        span.add_event("event", value)
    elif step == "link":
        span.add_link(SpanContext(3, 4, is_remote=False), value)
    elif step == "exception":
        span.record_exception(ValueError(value))
    elif step == "status":
        span.set_status(Status(StatusCode.ERROR, value))
    else:
        span.update_name(value)


@given(
    st.builds(
        SpanLimits,
        max_span_attributes=LIMITS,
        max_events=LIMITS,
        max_links=LIMITS,
        max_event_attributes=LIMITS,
        max_link_attributes=LIMITS,
        max_attribute_length=LIMITS,
    ),
    st.lists(st.tuples(st.sampled_from(SpanKind), st.sampled_from([None, REMOTE]), ATTRIBUTES, steps()), max_size=3),
)
def test_spans_of_a_tracer_are_encoded_as_by_the_stock_encoder(limits, made) -> None:
    """Whatever the limits cut, counted or kept, also of parents and children, and of spans that go on."""
    finished = InMemorySpanExporter()
    provider = TracerProvider(span_limits=limits, resource=Resource({"a": 1}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(finished))
    with contextlib.ExitStack() as parents:
        for number, (kind, context, attributes, todo) in enumerate(made):
            tracer = provider.get_tracer(f"tracer {number % 2}", "1", attributes={"number": number % 2})
            links = [Link(SpanContext(5, 6, is_remote=True), attributes)]
            span = tracer.start_as_current_span("span", context, kind, attributes, links)
            recording: Any = parents.enter_context(span)
            for step, value in todo:
                take(recording, step, value)
            unfinished = [recording._readable_span(), recording] if number == 1 else []
            for one in unfinished:
                one._end_time = one._end_time or 5 if one is not recording else None
            assert encode_spans(unfinished) == trace_encoder.encode_spans(unfinished).SerializeToString()
    spans = finished.get_finished_spans()
    provider.shutdown()
    assert len(spans) == len(made)
    assert encode_spans(spans) == trace_encoder.encode_spans(spans).SerializeToString()


@given(
    st.builds(LogRecordLimits, max_attributes=LIMITS, max_attribute_length=LIMITS),
    st.lists(st.tuples(st.sampled_from(SeverityNumber), odd.VALUES.strategy, ATTRIBUTES), max_size=3),
)
def test_records_of_a_logger_are_encoded_as_by_the_stock_encoder(limits, made) -> None:
    """With attributes that were cut and counted, inside and outside of a span."""
    finished = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=Resource({"a": 1}), log_record_limits=limits, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(finished))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (severity, body, attributes) in enumerate(made):
            provider.get_logger(f"logger {number % 2}").emit(
                severity_number=severity,
                severity_text=severity.name,
                body=body,
                attributes=attributes,
                context=REMOTE if number else None,
                event_name=["", None, "event"][number],
            )
    records = finished.get_finished_logs()
    provider.shutdown()
    assert len(records) == len(made)
    assert encode_logs(records) == _log_encoder.encode_logs(records).SerializeToString()


MEASURED = st.one_of(st.integers(-1000, 2**40), st.floats(allow_nan=False, allow_infinity=False, width=32))


@given(
    st.sampled_from(AggregationTemporality),
    st.lists(st.tuples(st.integers(0, 5), MEASURED, odd.POINT_ATTRIBUTES.strategy), max_size=8),
)
def test_metrics_of_a_meter_are_encoded_as_by_the_stock_encoder(temporality, measured) -> None:
    """All kinds of instruments, both kinds of histograms, with exemplars, collected twice."""
    if temporality is AggregationTemporality.UNSPECIFIED:
        temporality = AggregationTemporality.CUMULATIVE
    reader = InMemoryMetricReader(preferred_temporality={Histogram: temporality})
    provider = MeterProvider(
        metric_readers=[reader],
        resource=Resource({"a": 1}),
        exemplar_filter=AlwaysOnExemplarFilter(),
        views=[View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())],
        shutdown_on_exit=False,
    )
    meter = provider.get_meter("meter", "1", "https://schema")
    observed: list[Any] = []
    meter.create_observable_gauge("observed", [lambda _: observed], "1", "What was last observed")
    record = [
        meter.create_counter("counter", "1", "How many").add,
        meter.create_up_down_counter("up_down_counter").add,
        meter.create_gauge("gauge").set,
        meter.create_histogram("histogram", "ms").record,
        meter.create_histogram("exponential").record,
    ]
    for _ in range(2):
        for instrument, value, attributes in measured:
            if instrument < len(record):
                record[instrument](abs(value), attributes, REMOTE)
        data = reader.get_metrics_data()
        if data is not None:
            # Parsed, because an exemplar stands before an integer there and behind it here.
            request = metrics_encoder.encode_metrics(data)
            assert type(request).FromString(encode_metrics(data)) == request
    provider.shutdown()
