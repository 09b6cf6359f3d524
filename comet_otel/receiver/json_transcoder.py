"""OTLP/JSON to the same request in protobuf's wire format.

    transcode(Signal.TRACES, b'{"resourceSpans": [...]}')    # the bytes of an ExportTraceServiceRequest

Which fields there are is read from the generated descriptors of `opentelemetry-proto`, once: every message becomes a
table from JSON names to functions that write the field. So no field can be forgotten, and a later release's fields
are there with that release. The wire format is written directly from the tree that the JSON parser returns; no
message object is ever made.

The rules (OTLP specification, "JSON Protobuf Encoding"): trace and span ids are hexadecimal in either case, other
bytes base64; 64-bit integers are text or numbers; enums are integers; names are in lowerCamelCase and no others;
unknown names are ignored; null is the same as absent. What the rules leave open is decided so that nothing is changed
or lost unseen: a key that stands twice in one object, two members of one oneof, an id of a wrong length, and NaN or
Infinity outside quotes are refused.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from comet_otel.receiver import _json_fields as fields_of
from comet_otel.receiver._json_fields import Encode
from comet_otel.receiver._json_values import RefusedError, RepeatedKeys, wrong_type
from comet_otel.receiver.errors import UndecodableError
from comet_otel.streams import Signal

__all__ = ["DEPTH_MAX", "memory_needed", "transcode"]

DEPTH_MAX: Final = 100
"""Messages inside each other, below the request; readers of protobuf's wire format take no more."""


class _Tables:
    """The function of every message that a request can contain, made from the descriptors as they are met."""

    def __init__(self) -> None:
        self._messages: dict[str, Encode] = {}

    def message(self, descriptor: Descriptor) -> Encode:
        """Return what writes the content of a message from a JSON object."""
        known = self._messages.get(descriptor.full_name)
        if known is not None:
            return known
        oneofs = [
            frozenset(field.json_name for field in oneof.fields)
            for oneof in descriptor.oneofs
            if len(oneof.fields) > 1  # an optional field is a oneof of one
        ]
        table: dict[str, Encode] = {}
        encode = _message(table)
        self._messages[descriptor.full_name] = encode = _exclusive(encode, oneofs) if oneofs else encode
        # A message may contain itself by way of others, so its table is filled after it is known.
        for field in descriptor.fields:
            table[field.json_name] = self._field(field)
        return encode

    def _field(self, field: FieldDescriptor) -> Encode:
        if fields_of.is_packed(field):
            return fields_of.packed_field(field)
        encode = self._single(field)
        if not field.is_repeated:
            return encode
        if field.message_type is KeyValue.DESCRIPTOR:
            return fields_of.attributes_field(field, encode)
        return fields_of.repeated_field(encode)

    def _single(self, field: FieldDescriptor) -> Encode:
        if field.message_type is not None:
            return fields_of.message_field(field, self.message(field.message_type))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return fields_of.boolean_field(field)
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            return fields_of.double_field(field)
        by_wire_type = {
            fields_of.VARINT: fields_of.varint_field,
            fields_of.LENGTH_DELIMITED: fields_of.bytes_field,
            fields_of.FIXED32: fields_of.fixed_field,
            fields_of.FIXED64: fields_of.fixed_field,
        }
        return by_wire_type[fields_of.wire_type(field)](field)


def _message(table: dict[str, Encode]) -> Encode:
    field_of = table.get

    def encode(value: Any, depth: int) -> bytes:
        if type(value) is not dict:
            raise wrong_type(value, "an object")
        if depth > DEPTH_MAX:
            raise RefusedError(f"stands more than {DEPTH_MAX} messages deep")
        written: list[bytes] = []
        name = ""
        try:
            for name, item in value.items():
                field = field_of(name)
                if field is not None and item is not None:
                    written.append(field(item, depth))
        except RefusedError as refused:
            refused.steps.append(name)
            raise
        return b"".join(written)

    return encode


def _exclusive(encode_all: Encode, oneofs: list[frozenset[str]]) -> Encode:
    """Return what refuses two members of one oneof, of which the wire format's readers would drop the first."""

    def encode(value: Any, depth: int) -> bytes:
        written = encode_all(value, depth)
        if len(value) > 1:
            for oneof in oneofs:
                members = [name for name, item in value.items() if name in oneof and item is not None]
                if len(members) > 1:
                    raise RefusedError(f"has {' and '.join(members)}, which exclude each other")
        return written

    return encode


_FOUR_BYTES_LEAD: Final = range(0xF0, 0xF5)
_OBJECT_BYTES: Final = 170
_VALUE_BYTES: Final = 72
_KEY_BYTES: Final = 60

_tables: Final = _Tables()
_REQUESTS: Final = {
    Signal.TRACES: _tables.message(ExportTraceServiceRequest.DESCRIPTOR),
    Signal.METRICS: _tables.message(ExportMetricsServiceRequest.DESCRIPTOR),
    Signal.LOGS: _tables.message(ExportLogsServiceRequest.DESCRIPTOR),
}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else RepeatedKeys(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise UndecodableError(f"the body is not JSON: {name} stands outside quotes")


_parse: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant).decode


def memory_needed(body: bytes) -> int:
    """Return about how many bytes of memory it takes to transcode a body, from what can be counted in it at once.

    The least that an object, a value or a key can cost, several times the bytes that it has in the body. It is up to
    twice too much for ordinary telemetry, whose keys come again and again, and half of it where each key is another.
    """
    # One character makes all of the text as wide as itself: one, two or four bytes; and the string in it once more.
    width = 1 if body.isascii() else 5 if any(lead in body for lead in _FOUR_BYTES_LEAD) else 3
    text = len(body) * width
    objects = body.count(b"{") + body.count(b"[")
    return text + objects * _OBJECT_BYTES + body.count(b",") * _VALUE_BYTES + body.count(b":") * _KEY_BYTES


def transcode(signal: Signal, body: bytes) -> bytes:
    """Return the serialized ``Export*ServiceRequest`` of a signal that an OTLP/JSON body stands for.

    Raises:
        UndecodableError: the body is no such request; says where in it what is wrong.
    """
    try:
        return _REQUESTS[signal](_parse(body.decode("utf-8-sig")), 0)
    except RefusedError as refused:
        raise UndecodableError(f"{refused.path or 'the body'}: {refused.reason}") from None
    except UnicodeDecodeError as error:
        raise UndecodableError(f"the body is not UTF-8: byte {error.start} is wrong ({error.reason})") from None
    except RecursionError:
        raise UndecodableError("the body is nested too deeply") from None
    except ValueError as error:  # among them a number of thousands of digits, which Python does not read
        raise UndecodableError(f"the body is not JSON: {error}") from None
