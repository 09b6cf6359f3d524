"""SDK objects to OTLP bytes: one serialized ``Export*ServiceRequest`` per batch, exactly what a collector takes.

    payload = encode_spans(spans)

The bytes are written directly, without a protobuf message in between, which takes a small part of the stock encoder's
time. Parsed, they equal what the stock encoder makes; the few differences are listed in ``docs/encoding.md``. An item
that cannot be encoded costs itself and not its batch. For a version of the SDK that this was not tested with the stock
encoder takes over, with one line in the log.

Everything here is safe to call from any thread and after a fork. Each signal's encoder is loaded when it is first asked
for.
"""

from __future__ import annotations

import typing as _typing
from collections.abc import Sequence as _Sequence

from comet_otel.encoding._batch import PART_BYTES_UNLIMITED, Codec, EncodedBatch, encode_parts

if _typing.TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord as _ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData as _MetricsData
    from opentelemetry.sdk.trace import ReadableSpan as _ReadableSpan

    SPANS: Codec[_Sequence[_ReadableSpan]]
    LOG_RECORDS: Codec[_Sequence[_ReadableLogRecord]]
    METRICS: Codec[_MetricsData]

__all__ = [
    "LOG_RECORDS",
    "METRICS",
    "PART_BYTES_UNLIMITED",
    "SPANS",
    "Codec",
    "EncodedBatch",
    "encode_logs",
    "encode_metrics",
    "encode_parts",
    "encode_spans",
]

_CODECS = frozenset({"LOG_RECORDS", "METRICS", "SPANS"})


def encode_spans(batch: _Sequence[_ReadableSpan]) -> bytes:
    """Return the serialized ``ExportTraceServiceRequest`` of the spans; those that cannot be encoded are left out."""
    return b"".join(_codec("SPANS").encode(batch).payloads)


def encode_logs(batch: _Sequence[_ReadableLogRecord]) -> bytes:
    """Return the serialized ``ExportLogsServiceRequest`` of the records; those that cannot be encoded are left out."""
    return b"".join(_codec("LOG_RECORDS").encode(batch).payloads)


def encode_metrics(batch: _MetricsData) -> bytes:
    """Return the serialized ``ExportMetricsServiceRequest``; data points that cannot be encoded are left out."""
    return b"".join(_codec("METRICS").encode(batch).payloads)


def _codec(name: str) -> Codec[_typing.Any]:
    codec: Codec[_typing.Any] | None = globals().get(name)
    return _load(name) if codec is None else codec


def _load(name: str) -> Codec[_typing.Any]:
    from comet_otel.encoding import _choice  # noqa: PLC0415 - it loads the SDK, which the shipper does without

    codec = globals()[name] = _choice.codec(name)
    return codec


def __getattr__(name: str) -> object:
    if name in _CODECS:
        return _load(name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
