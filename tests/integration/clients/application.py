"""An application in the middle of its work, with OpenTelemetry's own OTLP exporters: it works until SIGTERM.

    python -m tests.integration.clients.application URL LEDGER_FOLDER

What an exporter reports as sent is noted in a ledger of the demo's kind; what it gave up is not.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import uuid
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from demo.identity import log_ids_of_batch, point_ids_of_batch, span_ids_of_batch
from demo.ledger import Ledger
from demo.telemetry import recorded, with_record_id

PAUSE_SECONDS = 0.01
SCHEDULE_MILLISECONDS = 100
METRICS_MILLISECONDS = 250


def main() -> None:
    """Work until SIGTERM, then shut the SDK down."""
    url, folder = sys.argv[1:]
    ledger = Ledger.of_this_process(Path(folder))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    resource = Resource.create({"service.name": "shop", "service.instance.id": uuid.uuid4().hex})
    spans = recorded(OTLPSpanExporter(endpoint=f"{url}/v1/traces"), "traces", span_ids_of_batch, ledger)
    logs = recorded(OTLPLogExporter(endpoint=f"{url}/v1/logs"), "logs", log_ids_of_batch, ledger)
    points = recorded(OTLPMetricExporter(endpoint=f"{url}/v1/metrics"), "metrics", point_ids_of_batch, ledger)

    tracer_provider = TracerProvider(resource=resource)
    tracer_provider.add_span_processor(BatchSpanProcessor(spans, schedule_delay_millis=SCHEDULE_MILLISECONDS))
    logger_provider = LoggerProvider(resource=resource)
    logger_provider.add_log_record_processor(BatchLogRecordProcessor(logs, schedule_delay_millis=SCHEDULE_MILLISECONDS))
    reader = PeriodicExportingMetricReader(points, export_interval_millis=METRICS_MILLISECONDS)
    meter_provider = MeterProvider(resource=resource, metric_readers=[reader])
    handler = LoggingHandler(logger_provider=logger_provider)
    handler.addFilter(with_record_id)
    logger = logging.getLogger("application")
    logger.addHandler(handler)
    logger.propagate = False
    tracer, counter = (
        tracer_provider.get_tracer("application"),
        meter_provider.get_meter("application").create_counter("rounds"),
    )
    print("begun", flush=True)
    number = 0
    while not stop.wait(PAUSE_SECONDS):
        with tracer.start_as_current_span("round", attributes={"number": number}):
            logger.warning("round %d", number)
        counter.add(1, {"kind": number % 3})
        number += 1
    for provider in (tracer_provider, logger_provider, meter_provider):
        provider.shutdown()


if __name__ == "__main__":
    main()
