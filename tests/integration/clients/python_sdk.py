"""A program that knows nothing of Comet: OpenTelemetry's Python SDK with the OTLP exporters of its own.

    python -m tests.integration.clients.python_sdk grpc|http URL none|gzip SENT

What an exporter was given and reports as sent is written down in the file SENT, one JSON object a line: the signal, and
the bytes of the request.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
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
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, StatusCode

ROUNDS = 300
ENCODERS = {"traces": encode_spans, "logs": encode_logs, "metrics": encode_metrics}


def exporters(protocol: str, url: str, compression: str) -> dict[str, Any]:
    """Return the three exporters."""
    if protocol == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        chosen = Compression.Gzip if compression == "gzip" else Compression.NoCompression
        kinds = {"traces": OTLPSpanExporter, "logs": OTLPLogExporter, "metrics": OTLPMetricExporter}
        return {signal: kind(endpoint=url, insecure=True, compression=chosen) for signal, kind in kinds.items()}
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    kinds = {"traces": OTLPSpanExporter, "logs": OTLPLogExporter, "metrics": OTLPMetricExporter}
    return {
        signal: kind(endpoint=f"{url}/v1/{signal}", compression=Compression(compression))
        for signal, kind in kinds.items()
    }


def recorded(signal: str, exporter: Any, sent: Path) -> Any:
    """Make an exporter write down what it reports as sent."""
    export = exporter.export

    def export_and_note(batch: Any, *arguments: Any, **keywords: Any) -> Any:
        request = base64.b64encode(ENCODERS[signal](batch).SerializeToString()).decode()
        result = export(batch, *arguments, **keywords)
        if result.name == "SUCCESS":
            with sent.open("a") as file:
                file.write(json.dumps({"signal": signal, "request": request}) + "\n")
        return result

    exporter.export = export_and_note
    return exporter


def main() -> None:
    """Send all three signals."""
    protocol, url, compression, sent = sys.argv[1:]
    made = {
        signal: recorded(signal, exporter, Path(sent))
        for signal, exporter in exporters(protocol, url, compression).items()
    }
    resource = Resource.create({"service.name": "python", "host.ids": ["a", "b"], "ratio": 0.5})
    tracer_provider = TracerProvider(resource=resource)
    tracer_provider.add_span_processor(BatchSpanProcessor(made["traces"], max_export_batch_size=128))
    logger_provider = LoggerProvider(resource=resource)
    logger_provider.add_log_record_processor(BatchLogRecordProcessor(made["logs"], max_export_batch_size=128))
    meter_provider = MeterProvider(
        resource=resource,
        metric_readers=[PeriodicExportingMetricReader(made["metrics"], export_interval_millis=60_000)],
        views=[View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())],
    )
    tracer = tracer_provider.get_tracer("tracer", "1.0", "https://example.org/schema")
    meter = meter_provider.get_meter("meter")
    counter, histogram = meter.create_counter("counter"), meter.create_histogram("histogram")
    exponential, gauge = meter.create_histogram("exponential"), meter.create_gauge("gauge")
    logger = logging.getLogger("client")
    logger.addHandler(LoggingHandler(logger_provider=logger_provider))
    logger.propagate = False
    for number in range(ROUNDS):
        with tracer.start_as_current_span("parent", kind=SpanKind.SERVER) as parent:
            attributes = {
                "text": "naïve 日本語",
                "number": number,
                "half": number / 2,
                "list": ["a", "b"],
                "flag": True,
            }
            link = Link(parent.get_span_context(), {"why": "link"})
            with tracer.start_as_current_span(f"child {number}", attributes=attributes, links=[link]) as child:
                child.add_event("event", {"number": number})
                child.set_status(StatusCode.ERROR, "failed")
                logger.warning("line %d", number, extra={"number": number})
        counter.add(number, {"kind": number % 3})
        histogram.record(number / 4)
        exponential.record(number / 4)
        gauge.set(-number)
    for provider in (tracer_provider, logger_provider, meter_provider):
        provider.shutdown()


if __name__ == "__main__":
    main()
