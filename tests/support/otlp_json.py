"""Random OTLP requests, and a writer of OTLP/JSON that shares nothing with the receiver's reader of it.

The writer walks a protobuf message by reflection and applies the specification's rules one by one; a `Style` says
which of the forms that a rule allows it takes.
"""

from __future__ import annotations

import base64
import json
import math
import random
import struct
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from comet_otel.streams import Signal

REQUESTS: dict[Signal, type[Message]] = {
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
}
HEXADECIMAL_FIELDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
LIMITS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}
WIDE = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_FIXED64,
}
TEXTS = (
    "",
    "a",
    "GET",
    "http.method",
    "naïve",
    "日本語",
    "\N{PILE OF POO}",
    '"\\\n\t\x00\x7f',
    "x" * 125,
    "y" * 126,
    "z" * 300,
)
DOUBLES = (0.0, -0.0, 1.0, -2.5, 1e308, 1.7976931348623157e308, 5e-324, math.inf, -math.inf, math.nan, 2.0**53, 0.1)
DEPTH_MAX = 12


@dataclass
class Style:
    """Which of the allowed forms the writer takes; each is drawn anew for every value."""

    choose: random.Random
    unknown_fields: bool = True

    def either(self, share: float = 0.5) -> bool:
        """Return true in that share of the cases."""
        return self.choose.random() < share


def random_request(signal: Signal, choose: random.Random, size: int = 3) -> Message:
    """Return a request in which any field of any of its messages may be set, to any value of its type."""
    request = REQUESTS[signal]()
    _fill(request, choose, size, 0)
    return request


def _fill(message: Message, choose: random.Random, size: int, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        is_message = field.message_type is not None
        if depth > DEPTH_MAX and is_message:
            continue
        if not (_is_chosen(field, message, choose) and choose.random() < (0.75 if depth < 4 else 0.5)):
            continue
        if field.is_repeated:
            repeated = getattr(message, field.name)
            for _ in range(choose.randint(0, size)):
                if is_message:
                    _fill(repeated.add(), choose, size, depth + 1)
                else:
                    repeated.append(_random_value(field, choose))
        elif is_message:
            child = getattr(message, field.name)
            child.SetInParent()
            _fill(child, choose, size, depth + 1)
        else:
            setattr(message, field.name, _random_value(field, choose))


def _is_chosen(field: FieldDescriptor, message: Message, choose: random.Random) -> bool:
    """Whether the field may be set beside those that are: of a oneof there is only one."""
    oneof = field.containing_oneof
    if oneof is None:
        return True
    return message.WhichOneof(oneof.name) is None and choose.random() < 1 / len(oneof.fields)


def _random_value(field: FieldDescriptor, choose: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_BOOL:
        return choose.random() < 0.5
    if field.type == FieldDescriptor.TYPE_STRING:
        return choose.choice(TEXTS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        size = HEXADECIMAL_FIELDS.get(field.name)
        return choose.randbytes(choose.choice((0, size)) if size else choose.randint(0, 9))
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        if choose.random() < 0.5:
            return choose.choice(DOUBLES)
        number = struct.unpack("<d", choose.randbytes(8))[0]
        return math.nan if math.isnan(number) else number  # of the many, JSON has one
    low, high = LIMITS[field.type]
    near = max(low, min(high, choose.choice((0, 1, -1, 127, 128, 2047, 2048, 2**53 + 1))))
    return choose.choice((low, high, near, choose.randint(low, high)))


def otlp_json(message: Message, style: Style) -> bytes:
    """Return the request as a client might send it."""
    separators = (",", ":") if style.either() else (", ", ": ")
    tree = _object(message, style)
    return json.dumps(tree, separators=separators, ensure_ascii=style.either(), allow_nan=False).encode()


def _object(message: Message, style: Style) -> dict[str, Any]:
    present = {field.name for field, _ in message.ListFields()}
    written: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        name = _camel_case(field.name)
        if field.name in present:
            value = getattr(message, field.name)
            written[name] = (
                [_value(field, item, style) for item in value] if field.is_repeated else _value(field, value, style)
            )
        elif style.either(0.2):
            written[name] = None
        elif field.is_repeated and style.either(0.2):
            written[name] = []
        elif not field.is_repeated and not field.has_presence and style.either(0.2):
            written[name] = _value(field, field.default_value, style)
    if style.unknown_fields and style.either(0.1):
        written["notOfThisVersion"] = style.choose.choice((1, "x", None, [[]], {"spans": [{"traceId": 7}]}))
        written["trace_id"] = "names with underscores are no names of OTLP/JSON"
    items = list(written.items())
    style.choose.shuffle(items)
    return dict(items)


def _camel_case(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def _value(field: FieldDescriptor, value: Any, style: Style) -> Any:
    if field.message_type is not None:
        return _object(value, style)
    if field.type == FieldDescriptor.TYPE_BYTES:
        if field.name in HEXADECIMAL_FIELDS:
            return value.hex().upper() if style.either() else value.hex()
        encoded = (base64.urlsafe_b64encode if style.either() else base64.b64encode)(value).decode()
        return encoded.rstrip("=") if style.either() else encoded
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _double(value, style)
    if field.type in WIDE and style.either(0.7):
        return str(value)
    if field.type in LIMITS and abs(value) < 2**53 and style.either(0.1):
        return float(value)
    return value


def _double(value: float, style: Style) -> Any:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 2**53 and math.copysign(1, value) > 0 and style.either():
        return int(value)
    return repr(value) if style.either(0.2) else value


ODD_VALUES = (
    *(None, True, False, 0, -1, 1, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, math.nan),
    *("", " ", "0", "-0", "007", "+1", "1_0", "0x10", "1.0", "1.5", "1e3", "1e-3", "1e999999999", "1e-999999999"),
    *("9" * 18, "9" * 19, "9" * 20, "9" * 5_000, "\u0663", "\u00b2", "NaN", "nan", "Infinity", "inf", "true", "null"),
    *(
        "ab",
        "AB" * 8,
        "0" * 16,
        "0" * 32,
        "g" * 32,
        "0 " * 16,
        "a" * 31,
        "=",
        "====",
        "a",
        "a===",
        "-_-_",
        "\ud800",
        "\x00",
    ),
)


def any_json(choose: random.Random, depth: int = 0) -> Any:
    """Return a value that may stand in JSON, with a liking for those that parsers disagree about."""
    if depth < 3 and choose.random() < 0.3:
        children = [any_json(choose, depth + 1) for _ in range(choose.randint(0, 3))]
        if choose.random() < 0.5:
            return children
        names = ("key", "value", "stringValue", "intValue", "values", "x")
        return {choose.choice(names): child for child in children}
    return choose.choice(ODD_VALUES)
