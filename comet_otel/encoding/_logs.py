"""Log records as ``LogRecord`` messages. Specification: opentelemetry/proto/logs/v1/logs.proto."""

from __future__ import annotations

import struct
from typing import Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord

from comet_otel.encoding._attributes import AttributeFields, Counted, check_containers, contents
from comet_otel.encoding._batch import EncodedBatch
from comet_otel.encoding._fields import check_dataclass, check_fields
from comet_otel.encoding._sequence import SequenceCodec
from comet_otel.encoding._values import NESTING_MAX, any_value
from comet_otel.encoding._wire import (
    Heads,
    TextFields,
    enum_field,
    fixed64_field,
    pack_fixed32,
    uint32_field,
)

_ATTRIBUTES: Final = AttributeFields(b"\x32", 6)
_BODY_LEVELS: Final = NESTING_MAX - 5
_BODY_HEADS: Final = Heads(b"\x2a")
_TEXT_HEADS: Final = Heads(b"\x0a")
_SEVERITY_TEXTS: Final = TextFields(b"\x1a")
_EVENT_NAMES: Final = TextFields(b"\x62")
_SEVERITIES: Final = {id(severity): enum_field(b"\x10", severity.value) for severity in SeverityNumber}

_pack_time: Final = struct.Struct("<BQ").pack


def _log_record(item: Any, tally: EncodedBatch) -> bytes:
    """Return the content of a ``LogRecord``; raises whatever makes it unencodable."""
    record = item.log_record
    time = record.timestamp
    pieces = [_pack_time(0x09, time) if type(time) is int else fixed64_field(b"\x09", time)]
    severity = record.severity_number
    if severity is not None:
        known = _SEVERITIES.get(id(severity))
        pieces.append(enum_field(b"\x10", getattr(severity, "value", None)) if known is None else known)
    severity_text = record.severity_text
    if severity_text is not None:
        pieces.append(_SEVERITY_TEXTS[severity_text])
    body = record.body
    if type(body) is str:
        text = body.encode()
        head = _TEXT_HEADS[len(text)]
        pieces += (_BODY_HEADS[len(head) + len(text)], head, text)
    else:
        value = any_value(body, _BODY_LEVELS)
        pieces += (_BODY_HEADS[len(value)], value)
    kind = type(item)
    if kind is ReadableLogRecord or kind is ReadWriteLogRecord:
        attributes, dropped = contents(record.attributes)
    else:
        attributes, dropped = contents(Counted(record.attributes, item.dropped_attributes))
    _ATTRIBUTES.append_to(pieces, attributes, tally)
    if dropped:
        pieces.append(uint32_field(b"\x38", dropped))
    flags = int(record.trace_flags)
    if flags:
        pieces += (b"\x45", pack_fixed32(flags))
    trace_id, span_id = record.trace_id, record.span_id
    if trace_id != 0:
        pieces += (b"\x4a\x10", trace_id.to_bytes(16, "big"))
    if span_id != 0:
        pieces += (b"\x52\x08", span_id.to_bytes(8, "big"))
    time = record.observed_timestamp
    pieces.append(_pack_time(0x59, time) if type(time) is int else fixed64_field(b"\x59", time))
    event_name = record.event_name
    if event_name is not None:
        pieces.append(_EVENT_NAMES[event_name])
    return b"".join(pieces)


def check() -> None:
    """Compare the fields of the SDK's classes with those that are encoded.

    Raises:
        Exception: the classes are not those that this module reads.
    """
    check_containers()
    for item_type in (ReadableLogRecord, ReadWriteLogRecord):
        check_dataclass(item_type, "log_record", "resource", "instrumentation_scope", "limits")
    # The exception is in the attributes by the time that a record is exported.
    check_fields(
        LogRecord(),
        "attributes",
        "body",
        "context",
        "event_name",
        "exception",
        "observed_timestamp",
        "severity_number",
        "severity_text",
        "span_id",
        "timestamp",
        "trace_flags",
        "trace_id",
    )


CODEC: Final[SequenceCodec[ReadableLogRecord]] = SequenceCodec(_log_record)
