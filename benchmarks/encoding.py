"""What the direct encoder costs beside the stock one: batches of 512 spans or log records, metrics, single items."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common import _log_encoder, metrics_encoder, trace_encoder
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode

from benchmarks.measure import interleaved, table, verdict
from comet_otel.encoding import encode_logs, encode_metrics, encode_spans

BATCH = 512
POINTS = 256
ROUNDS = 15
RESOURCE = Resource.create({"service.name": "checkout", "service.version": "1.2.3", "host.name": "store-17"})
Encode = Callable[[Any], object]
METHODS = ("GET", "POST", "PUT")
ROUTES = tuple(f"/api/v1/resource{number}/{{id}}" for number in range(10))


def spans(*, unique: bool = False) -> list[ReadableSpan]:
    """Return spans of a tracer: 8 attributes of mixed types, 1 event with 2 attributes."""
    finished = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(finished))
    tracer = provider.get_tracer("bench", "1.0")
    seed = random.Random()
    for number in range(BATCH):
        own = f".{seed.getrandbits(48):x}" if unique else ""
        span = tracer.start_span(
            f"GET {ROUTES[number % 10]}{own}",
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": METHODS[number % 3] + own,
                "http.route": ROUTES[number % 10] + own,
                "http.response.status_code": seed.getrandbits(40) if unique else (200, 201, 404)[number % 3],
                "server.address": f"host-{number % 5}.example.com{own}",
                "server.port": seed.getrandbits(40) if unique else 8443,
                "request.duration": seed.random(),
                "user.authenticated": bool(number % 2),
                "request.tags": (f"alpha{own}", f"beta{own}") if unique else ("alpha", "beta"),
            },
        )
        span.add_event(f"cache.miss{own}", {"cache.key": f"item-{number % 20}{own}", "attempt": number % 4})
        span.set_status(Status(StatusCode.OK))
        span.end()
    provider.shutdown()
    return list(finished.get_finished_spans())


def log_records() -> list[ReadableLogRecord]:
    """Return log records of 4 attributes."""
    scope = InstrumentationScope("bench.logger")
    now = time.time_ns()
    return [
        ReadableLogRecord(
            LogRecord(
                timestamp=now + number,
                observed_timestamp=now + number,
                severity_text="INFO",
                severity_number=SeverityNumber.INFO,
                body=f"request {number} of customer {number % 7} completed",
                attributes={
                    "code.function": f"handler_{number % 9}",
                    "code.lineno": 100 + number % 9,
                    "thread.name": "MainThread",
                    "duration": number * 0.25,
                },
            ),
            RESOURCE,
            scope,
        )
        for number in range(BATCH)
    ]


def metrics() -> MetricsData:
    """Return data points, half of them sums and half of them histograms, of 2 attributes."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], resource=RESOURCE, shutdown_on_exit=False)
    meter = provider.get_meter("bench")
    for instrument in range(4):
        counter = meter.create_counter(f"requests.{instrument}", "1", "How many requests were answered")
        histogram = meter.create_histogram(f"duration.{instrument}", "ms", "How long they took")
        for point in range(POINTS // 8):
            attributes = {"http.route": f"/api/{point}", "http.response.status_code": 200 + point % 3}
            counter.add(point + 1, attributes)
            for value in range(5):
                histogram.record(point * 7.5 * value, attributes)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    return data


def main() -> None:
    """Measure and print."""
    stock_spans, stock_logs, stock_metrics = (
        _stock(encode)
        for encode in (trace_encoder.encode_spans, _log_encoder.encode_logs, metrics_encoder.encode_metrics)
    )
    measured = [
        _measured("spans, 8 attributes and an event", BATCH, 0.18, stock_spans, encode_spans, spans),
        _measured("spans, every value unique", BATCH, 0.3, stock_spans, encode_spans, lambda: spans(unique=True)),
        _measured("spans, each on its own", BATCH, None, _each(stock_spans), _each(encode_spans), spans),
        _measured("log records, 4 attributes", BATCH, 0.25, stock_logs, encode_logs, log_records),
        _measured("log records, each on its own", BATCH, None, _each(stock_logs), _each(encode_logs), log_records),
        _measured("data points, sums and histograms", POINTS, 0.35, stock_metrics, encode_metrics, metrics),
    ]
    table(
        f"Encoding batches of {BATCH} ({POINTS} data points): microseconds per item, median of interleaved rounds",
        ["items", "stock", "direct", "ratio", "bound"],
        measured,
    )


def _measured(
    what: str, items: int, bound: float | None, stock: Encode, direct: Encode, batches: Callable[[], Any]
) -> list[str]:
    found = interleaved(ROUNDS, {"stock": _round(stock, batches, items), "direct": _round(direct, batches, items)})
    ratio = found["direct"] / found["stock"]
    shown = "" if bound is None else f"{bound} {verdict(ratio, bound)}"
    return [what, f"{found['stock']:.1f}", f"{found['direct']:.1f}", f"{ratio:.2f}", shown]


def _round(encode: Encode, batches: Callable[[], Any], items: int) -> Callable[[], float]:
    """Encode a new batch in each round: what a round leaves in caches, and in the strings themselves, is its own."""

    def run() -> float:
        batch = batches()
        start = time.perf_counter()
        encode(batch)
        return (time.perf_counter() - start) / items * 1e6

    return run


def _stock(encode: Callable[[Any], Any]) -> Encode:
    return lambda batch: encode(batch).SerializeToString()


def _each(encode: Encode) -> Encode:
    def run(batch: Sequence[Any]) -> None:
        for item in batch:
            encode((item,))

    return run


if __name__ == "__main__":
    main()
