"""Traces, logs and metrics of a small program, stored on disk instead of sent.

    python examples/quickstart.py ./telemetry
    comet-shipper run --data-dir ./telemetry --endpoint http://localhost:4317

The second command can run before, meanwhile or a week later, and the collector need not be up at any of these times.
"""

from __future__ import annotations

import logging
import sys

from opentelemetry import metrics, trace
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from comet_otel import CometLogRecordExporter, CometMetricExporter, CometSpanExporter


def set_up_telemetry(data_dir: str) -> None:
    """Configure the SDK as for any other exporter."""
    resource = Resource.create({"service.name": "quickstart"})

    tracer_provider = TracerProvider(resource=resource)
    tracer_provider.add_span_processor(BatchSpanProcessor(CometSpanExporter(data_dir=data_dir)))
    trace.set_tracer_provider(tracer_provider)

    logger_provider = LoggerProvider(resource=resource)
    logger_provider.add_log_record_processor(BatchLogRecordProcessor(CometLogRecordExporter(data_dir=data_dir)))
    logging.getLogger().addHandler(LoggingHandler(logger_provider=logger_provider))
    logging.getLogger().setLevel(logging.INFO)

    reader = PeriodicExportingMetricReader(CometMetricExporter(data_dir=data_dir))
    metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[reader]))


def main() -> None:
    """Do some work that is worth telling."""
    data_dir = sys.argv[1] if len(sys.argv) > 1 else "./telemetry"
    set_up_telemetry(data_dir)
    tracer = trace.get_tracer("quickstart")
    counter = metrics.get_meter("quickstart").create_counter("greetings")
    for name in ("Ada", "Grace", "Edsger"):
        with tracer.start_as_current_span("greet", attributes={"name": name}):
            logging.getLogger("quickstart").info("hello %s", name)
            counter.add(1)
    # The SDK's providers flush and shut down at the end of the program by themselves.
    print(f"stored in {data_dir}; look with: comet-shipper status --data-dir {data_dir}")


if __name__ == "__main__":
    main()
