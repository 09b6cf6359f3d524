"""Names every span, log record and data point, so that what was exported can be compared with what arrived.

The exporting side takes its names from SDK objects, the receiving side from the messages that arrived; neither looks at
bytes that Comet made.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

RECORD_ID = "demo.record.id"
"""Attribute with which the demo's service makes each log record unique; log records have no id of their own."""


def span_ids_of_batch(spans: Sequence[ReadableSpan]) -> list[str]:
    """Return the ids of spans about to be exported."""
    return [f"{span.context.trace_id:032x}-{span.context.span_id:016x}" for span in spans if span.context]


def span_ids_of_request(request: ExportTraceServiceRequest) -> list[str]:
    """Return the ids of spans that arrived."""
    return [
        f"{span.trace_id.hex()}-{span.span_id.hex()}"
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def log_ids_of_batch(records: Sequence[ReadableLogRecord]) -> list[str]:
    """Return the ids of log records about to be exported."""
    return [str((record.log_record.attributes or {}).get(RECORD_ID, "")) for record in records]


def log_ids_of_request(request: ExportLogsServiceRequest) -> list[str]:
    """Return the ids of log records that arrived."""
    return [
        next((a.value.string_value for a in record.attributes if a.key == RECORD_ID), "")
        for resource_logs in request.resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]


def point_ids_of_batch(metrics_data: MetricsData) -> list[str]:
    """Return the ids of data points about to be exported."""
    return point_ids_of_request(encode_metrics(metrics_data))


def point_ids_of_request(request: ExportMetricsServiceRequest) -> list[str]:
    """Return the ids of data points that arrived."""
    return list(_point_ids(request))


def _point_ids(request: ExportMetricsServiceRequest) -> Iterator[str]:
    for resource_metrics in request.resource_metrics:
        instance = _attributes(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points if kind else ():
                    name = (instance, scope_metrics.scope.name, metric.name, _attributes(point.attributes))
                    digest = hashlib.sha256(repr(name).encode()).hexdigest()[:20]
                    yield f"{digest}-{point.time_unix_nano}"


def _attributes(attributes: Any) -> list[bytes]:
    return sorted(attribute.SerializeToString(deterministic=True) for attribute in attributes)
