"""What ending a span costs the application's own thread with CometSpanProcessor, against the stock encoder alone.

python -m benchmarks.processors
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from benchmarks.measure import interleaved, quantile, scratch_directory, table, verdict
from comet_otel import CometSpanProcessor

SPANS = 1_000
ROUNDS = 9
TAIL_ROUNDS = 5
TAIL_SPANS = 300
PAUSE = 0.0005
BUSY_THREADS = 2
MEDIAN_BOUND = 0.5
TAIL_BOUND, TAIL_EXTRA = 3.0, 100.0
ENTRY_BYTES_MAX = 4096


class _Collecting(SpanProcessor):
    """Keeps what ends."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep the span."""
        self.spans.append(span)


def ended_spans(count: int) -> list[ReadableSpan]:
    """Spans of 8 attributes and an event of 2, some values seen before and some not."""
    collecting = _Collecting()
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}), shutdown_on_exit=False)
    provider.add_span_processor(collecting)
    tracer = provider.get_tracer("benchmarks", "1.0")
    for number in range(count):
        attributes = {
            "http.request.method": "GET",
            "http.route": "/orders/{id}",
            "http.response.status_code": 200,
            "url.path": f"/orders/{number}",
            "server.port": 8080,
            "duration": number / 7,
            "cached": number % 2 == 0,
            "user.id": f"user-{number % 500}",
        }
        with tracer.start_as_current_span("GET /orders/{id}", attributes=attributes) as span:
            span.add_event("cache miss", {"key": f"order-{number}", "tries": 1})
    return collecting.spans


def main() -> None:
    """Measure and print."""
    spans = ended_spans(SPANS)
    with scratch_directory() as directory:
        processor = CometSpanProcessor(data_dir=directory / "log", max_total_size="256 MiB")
        assert all(encode_spans([span]).ByteSize() < ENTRY_BYTES_MAX for span in spans[:50])
        _print_medians(spans, processor.on_end)
        _print_tails(spans, processor.on_end)
        counters = processor.counters
        assert counters.stored_items > 0
        assert not counters.refused_items + counters.unencodable_items + counters.unencodable_attributes
        processor.shutdown()


def _print_medians(spans: Sequence[ReadableSpan], on_end: Callable[[Any], None]) -> None:
    def stock(span: ReadableSpan) -> None:
        encode_spans((span,)).SerializeToString()

    found = interleaved(
        ROUNDS,
        {
            "stock encoder": lambda: statistics.median(_times(stock, spans)),
            "CometSpanProcessor.on_end": lambda: statistics.median(_times(on_end, spans)),
        },
    )
    base = found["stock encoder"]
    ratio = found["CometSpanProcessor.on_end"] / base
    rows = [[name, f"{value:.1f}", f"{value / base:.2f}", ""] for name, value in found.items()]
    rows[1][3] = f"{MEDIAN_BOUND} {verdict(ratio, MEDIAN_BOUND)}"
    table("One span, microseconds (median of medians, interleaved)", ["call", "p50", "ratio", "bound"], rows)


def _print_tails(spans: Sequence[ReadableSpan], on_end: Callable[[Any], None]) -> None:
    quiet: list[float] = []
    busy: list[float] = []
    spans = spans[:TAIL_SPANS]
    for _ in range(TAIL_ROUNDS):
        quiet.append(quantile(_times(on_end, spans, PAUSE), 0.99))
        stop = threading.Event()
        threads = [threading.Thread(target=_compute, args=(stop,), daemon=True) for _ in range(BUSY_THREADS)]
        for thread in threads:
            thread.start()
        try:
            busy.append(quantile(_times(on_end, spans, PAUSE), 0.99))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    alone, beside = statistics.median(quiet), statistics.median(busy)
    bound = TAIL_BOUND * alone + TAIL_EXTRA
    table(
        f"CometSpanProcessor.on_end, p99 in microseconds (median of {TAIL_ROUNDS} rounds, interleaved)",
        ["", "p99", "bound"],
        [
            ["alone", f"{alone:.0f}", ""],
            [f"beside {BUSY_THREADS} computing threads", f"{beside:.0f}", f"{bound:.0f} {verdict(beside, bound)}"],
        ],
    )


def _times(call: Callable[[Any], None], spans: Sequence[ReadableSpan], pause: float = 0.0) -> list[float]:
    """Microseconds of each call; with `pause` as in an application, which does something else between two spans."""
    found = []
    for span in spans:
        if pause:
            time.sleep(pause)
        start = time.perf_counter()
        call(span)
        found.append((time.perf_counter() - start) * 1e6)
    return found


def _compute(stop: threading.Event) -> None:
    value = 0
    while not stop.is_set():
        value = (value * 31 + 7) % 1_000_003


if __name__ == "__main__":
    main()
