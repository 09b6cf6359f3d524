"""What is sent back: OTLP's responses and ``google.rpc.Status``, in the encoding of the request."""

from __future__ import annotations

import json
import math
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo  # type: ignore[import-untyped]  # comes without
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # as above
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from comet_otel.receiver.errors import ReceiverError, UndecodableError
from comet_otel.receiver.storing import Stored
from comet_otel.streams import Signal

__all__ = ["JSON", "PROTOBUF", "grpc_trailers", "json_status", "protobuf_status", "response", "retry_after"]

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_RESPONSES: Final[dict[Signal, tuple[type[Message], str, str]]] = {
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans", "rejectedSpans"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points", "rejectedDataPoints"),
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records", "rejectedLogRecords"),
}


def response(signal: Signal, stored: Stored, *, as_json: bool) -> bytes:
    """Return an ``Export*ServiceResponse``; its partial success is set only where something was rejected."""
    if not stored.rejected_items:
        return b"{}" if as_json else b""
    message_type, name, json_name = _RESPONSES[signal]
    if as_json:
        partial = {json_name: str(stored.rejected_items), "errorMessage": stored.message}
        return json.dumps({"partialSuccess": partial}).encode()
    message = message_type(partial_success={name: stored.rejected_items, "error_message": stored.message})
    return message.SerializeToString()


def _details(error: ReceiverError) -> list[Message]:
    if error.retry_after is not None:
        return [RetryInfo(retry_delay=_duration(error.retry_after))]
    if isinstance(error, UndecodableError):
        return [BadRequest(field_violations=[BadRequest.FieldViolation(field="body", description=str(error))])]
    return []


def protobuf_status(error: ReceiverError) -> bytes:
    """Return the ``google.rpc.Status`` of an error in protobuf's wire format."""
    status = Status(code=error.grpc_code, message=str(error))
    for detail in _details(error):
        status.details.add().Pack(detail)
    serialized: bytes = status.SerializeToString()
    return serialized


def json_status(error: ReceiverError) -> bytes:
    """Return the ``google.rpc.Status`` of an error as JSON."""
    details: list[dict[str, object]] = []
    if error.retry_after is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{error.retry_after:g}s"})
    elif isinstance(error, UndecodableError):
        violation = {"field": "body", "description": str(error)}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    status: dict[str, object] = {"code": error.grpc_code, "message": str(error)}
    if details:
        status["details"] = details
    return json.dumps(status).encode()


def retry_after(error: ReceiverError) -> str | None:
    """Return the header ``Retry-After`` of an error: whole seconds."""
    return None if error.retry_after is None else str(math.ceil(error.retry_after))


def grpc_trailers(error: ReceiverError) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata of an error.

    The retry delay stands in two places: in the status, as the protocol says, and in a trailer of its own, which is the
    only place where OpenTelemetry's Python exporter looks for it.
    """
    trailers = [("grpc-status-details-bin", protobuf_status(error))]
    if error.retry_after is not None:
        delay = RetryInfo(retry_delay=_duration(error.retry_after))
        trailers.append(("google.rpc.retryinfo-bin", delay.SerializeToString()))
    return tuple(trailers)


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1_000_000_000))
