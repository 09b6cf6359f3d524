"""Stored requests in OTLP's JSON mapping: identifiers in hex, enums as numbers, 64-bit integers as strings."""

from __future__ import annotations

import base64
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from comet_otel.streams import Signal

_REQUESTS: Final[dict[Signal, Any]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}
_IDENTIFIERS: Final = frozenset({"traceId", "spanId", "parentSpanId"})
"""Names of fields. Attributes of such names are values of the field ``key``."""


class NotTelemetryError(ValueError):
    """Bytes that are no request of the signal."""


def parse_request(payload: bytes, signal: Signal) -> Any:
    """The request as a message.

    Raises:
        NotTelemetryError: it is none.
    """
    try:
        return _REQUESTS[signal].FromString(payload)
    except DecodeError as error:
        raise NotTelemetryError(f"no request of {signal.value}: {error}") from error


def request_json(payload: bytes, signal: Signal) -> dict[str, Any]:
    """The request as JSON has it.

    Raises:
        NotTelemetryError: it is none.
    """
    found = MessageToDict(parse_request(payload, signal), use_integers_for_enums=True)
    _with_hex_identifiers(found)
    return found


def _with_hex_identifiers(node: Any) -> None:
    if isinstance(node, dict):
        for name, value in node.items():
            if name in _IDENTIFIERS and isinstance(value, str):
                node[name] = base64.b64decode(value).hex()
            else:
                _with_hex_identifiers(value)
    elif isinstance(node, list):
        for each in node:
            _with_hex_identifiers(each)
