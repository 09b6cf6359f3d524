"""Reads back what exporters stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from comet_otel.streams import LOGS, METRICS, TRACES
from comet_storage import Client, shard_stream_name
from comet_storage.names import parse_stream

if TYPE_CHECKING:
    from pathlib import Path


def entries(data_dir: Path, stream: str) -> dict[int, list[bytes]]:
    """Return the entries of each shard of a stream."""
    with Client(data_dir, read_only=True) as client:
        return {
            shard: [message.data for message in client.scan(shard_stream_name(*parse_stream(stream), shard))]
            for shard in client.shards(stream)
        }


def span_names(data_dir: Path) -> list[str]:
    """Return the names of all spans in a log, sorted."""
    request = ExportTraceServiceRequest.FromString(_joined(data_dir, TRACES))
    return sorted(s.name for r in request.resource_spans for sc in r.scope_spans for s in sc.spans)


def log_bodies(data_dir: Path) -> list[str]:
    """Return the texts of all log records in a log, sorted."""
    request = ExportLogsServiceRequest.FromString(_joined(data_dir, LOGS))
    return sorted(o.body.string_value for r in request.resource_logs for sc in r.scope_logs for o in sc.log_records)


def metrics(data_dir: Path) -> ExportMetricsServiceRequest:
    """Return all metrics in a log as one request."""
    return ExportMetricsServiceRequest.FromString(_joined(data_dir, METRICS))


def _joined(data_dir: Path, stream: str) -> bytes:
    return b"".join(data for shard in entries(data_dir, stream).values() for data in shard)
