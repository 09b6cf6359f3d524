"""An application that exports numbers of spans, log records and data points through Comet's exporters.

    COMET_DATA_DIR=... python -m tests.support.telemetry_source --record FILE --spans N --logs N --points N --seconds S

What an exporter acknowledged is written down as digests of what the SDK's own encoder makes of it, so that nothing that
is compared comes from Comet's bytes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import time
import uuid
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from comet_otel import CometLogRecordExporter, CometMetricExporter, CometSpanExporter
from tests.support.telemetry_digests import DIGESTS

SERIES = 200
"""Data points of one collection."""
STEPS = 50


def recorded(exporter: Any, signal: str, encode: Any, file: int) -> Any:
    """Make an exporter write down the digests of every batch for which it returned success."""
    export = exporter.export

    def export_and_note(batch: Any, *arguments: Any, **keywords: Any) -> Any:
        result = export(batch, *arguments, **keywords)
        if result.name == "SUCCESS":
            note = {"signal": signal, "items": DIGESTS[signal](encode(batch))}
            os.write(file, json.dumps(note).encode() + b"\n")
        return result

    exporter.export = export_and_note
    return exporter


def main() -> None:
    """Export everything, spread over some seconds, and end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--spans", type=int, required=True)
    parser.add_argument("--logs", type=int, required=True)
    parser.add_argument("--points", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    file = os.open(arguments.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    resource = Resource.create({"service.name": "source", "service.instance.id": uuid.uuid4().hex})

    tracer_provider = TracerProvider(resource=resource)
    span_exporter = recorded(CometSpanExporter(), "traces", encode_spans, file)
    tracer_provider.add_span_processor(
        BatchSpanProcessor(span_exporter, max_queue_size=arguments.spans + 1, schedule_delay_millis=100)
    )
    tracer = tracer_provider.get_tracer("source", "1.2.3", "https://example.com/schema")
    logger_provider = LoggerProvider(resource=resource)
    log_exporter = recorded(CometLogRecordExporter(), "logs", encode_logs, file)
    logger_provider.add_log_record_processor(
        BatchLogRecordProcessor(log_exporter, max_queue_size=arguments.logs + 1, schedule_delay_millis=100)
    )
    logger = logging.getLogger("source")
    logger.addHandler(LoggingHandler(logger_provider=logger_provider))
    logger.propagate = False
    reader = PeriodicExportingMetricReader(
        recorded(CometMetricExporter(), "metrics", encode_metrics, file), export_interval_millis=float("inf")
    )
    meter_provider = MeterProvider(resource=resource, metric_readers=[reader])
    meter = meter_provider.get_meter("source")
    counter, histogram = meter.create_counter("count", "1", "things"), meter.create_histogram("took", "s")

    collections = arguments.points // SERIES
    begin = time.monotonic()
    for step in range(STEPS):
        for number in range(arguments.spans * step // STEPS, arguments.spans * (step + 1) // STEPS):
            with tracer.start_as_current_span("work", attributes={"number": number, "half": number / 2}) as span:
                span.add_event("seen", {"value": random.random()})
        for number in range(arguments.logs * step // STEPS, arguments.logs * (step + 1) // STEPS):
            logger.warning("line %d", number, extra={"number": number})
        for _ in range(collections * step // STEPS, collections * (step + 1) // STEPS):
            for series in range(SERIES // 2):
                counter.add(1, {"series": series})
                histogram.record(random.random(), {"series": series})
            reader.collect()
        time.sleep(max(0.0, begin + arguments.seconds * (step + 1) / STEPS - time.monotonic()))
    tracer_provider.shutdown()
    logger_provider.shutdown()
    # Not shut down: it would collect, and export, once more.


if __name__ == "__main__":
    main()
