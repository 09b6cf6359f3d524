"""The OpenTelemetry set-up of the demo's applications: the ordinary one, with Comet's exporters.

The only lines that are not in any tutorial are the exporters' names, and `recorded`, which writes down what each
exporter acknowledged so that the demo can count what became of it.
"""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from comet_otel import CometLogRecordExporter, CometMetricExporter, CometSpanExporter
from demo.identity import RECORD_ID, log_ids_of_batch, point_ids_of_batch, span_ids_of_batch
from demo.ledger import Ledger

LEDGER_VARIABLE = "COMET_DEMO_LEDGER"
SCHEDULE_MILLISECONDS = 200
METRICS_MILLISECONDS = 500


def recorded(exporter: Any, signal: str, ids_of: Any, ledger: Ledger) -> Any:
    """Make an exporter write down the ids of every batch for which it returned success."""
    export = exporter.export

    def export_and_note(batch: Any, *arguments: Any, **keywords: Any) -> Any:
        result = export(batch, *arguments, **keywords)
        if result.name == "SUCCESS":
            ledger.note(signal, ids_of(batch))
        return result

    exporter.export = export_and_note
    return exporter


def set_up_telemetry() -> tuple[TracerProvider, LoggerProvider, MeterProvider]:
    """Configure the SDK as any application would, with Comet's exporters."""
    ledger = Ledger.of_this_process(Path(os.environ[LEDGER_VARIABLE]))
    resource = Resource.create({"service.name": "shop", "service.instance.id": uuid.uuid4().hex})

    span_exporter = recorded(CometSpanExporter(), "traces", span_ids_of_batch, ledger)
    tracer_provider = TracerProvider(resource=resource)
    tracer_provider.add_span_processor(BatchSpanProcessor(span_exporter, schedule_delay_millis=SCHEDULE_MILLISECONDS))

    log_exporter = recorded(CometLogRecordExporter(), "logs", log_ids_of_batch, ledger)
    logger_provider = LoggerProvider(resource=resource)
    logger_provider.add_log_record_processor(
        BatchLogRecordProcessor(log_exporter, schedule_delay_millis=SCHEDULE_MILLISECONDS)
    )

    metric_exporter = recorded(CometMetricExporter(), "metrics", point_ids_of_batch, ledger)
    reader = PeriodicExportingMetricReader(metric_exporter, export_interval_millis=METRICS_MILLISECONDS)
    meter_provider = MeterProvider(resource=resource, metric_readers=[reader])
    return tracer_provider, logger_provider, meter_provider


def with_record_id(record: logging.LogRecord) -> bool:
    """Give each log record an id, as a filter of the logging handler."""
    setattr(record, RECORD_ID, uuid.uuid4().hex)
    return True
