"""Fields of OTLP/JSON: for each kind of protobuf field a function that writes its JSON values in wire format.

Every function here gets what the descriptor says about a field and returns an `Encode`, made once and called for every
value. Fields without presence leave out their zero, as every writer of protobuf does.
"""

from __future__ import annotations

import functools
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from comet_otel.receiver._json_values import (
    INTEGER_DIGITS_MAX,
    RefusedError,
    boolean,
    double,
    enum_number,
    from_base64,
    identifier,
    integer,
    shown,
    utf8,
    wrong_type,
)

Encode = Callable[[Any, int], bytes]
"""Writes a value of a JSON tree that stands that many messages deep; nothing where the wire format omits it."""

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
"""The wire types."""

KEYS_KNOWN_MAX: Final = 4096
"""Keys of attributes whose bytes are kept from one request to the next."""

KEY_CHARACTERS_MAX: Final = 128
"""Longest key whose bytes are kept; together with their number this bounds the memory."""

_IDENTIFIER_BYTES: Final = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
"""The fields that OTLP/JSON has in hexadecimal digits, in whatever message they are."""

_WORD: Final = (1 << 64) - 1
_INT32: Final = (-(1 << 31), (1 << 31) - 1)
_UINT32: Final = (0, (1 << 32) - 1)
_INT64: Final = (-(1 << 63), (1 << 63) - 1)
_UINT64: Final = (0, (1 << 64) - 1)
_VARINT_LIMITS: Final = {
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_ENUM: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_UINT64: _UINT64,
}
_FIXED_LAYOUTS: Final = {
    FieldDescriptor.TYPE_FIXED32: ("I", _UINT32),
    FieldDescriptor.TYPE_FIXED64: ("Q", _UINT64),
    FieldDescriptor.TYPE_SFIXED64: ("q", _INT64),
}
_PACKED_LIMITS: Final[dict[int, tuple[float, float]]] = {
    **_VARINT_LIMITS,
    **{kind: limits for kind, (_, limits) in _FIXED_LAYOUTS.items()},
    FieldDescriptor.TYPE_DOUBLE: (-sys.float_info.max, sys.float_info.max),
}


_SEVEN_BITS: Final = 0x7F
_MORE_FOLLOWS: Final = 0x80


def _long_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > _SEVEN_BITS:
        encoded.append(number & _SEVEN_BITS | _MORE_FOLLOWS)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_SHORT_VARINTS: Final = tuple(_long_varint(number) for number in range(1 << 11))
_SHORT_VARINTS_END: Final = len(_SHORT_VARINTS)


def varint(number: int) -> bytes:
    """Return an unsigned number as a varint."""
    return _SHORT_VARINTS[number] if number < _SHORT_VARINTS_END else _long_varint(number)


def is_packed(field: FieldDescriptor) -> bool:
    """Return whether the field's values stand in one field of the wire format, one behind the other."""
    return field.is_repeated and field.type in _PACKED_LIMITS


def wire_type(field: FieldDescriptor) -> int:
    """Return the wire type that the field is written with.

    Raises:
        TypeError: protobuf has this type, but no OTLP message had one like it when this was written.
    """
    if field.type in {FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
        return LENGTH_DELIMITED
    if is_packed(field):
        return LENGTH_DELIMITED
    if field.type in {FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64, FieldDescriptor.TYPE_DOUBLE}:
        return FIXED64
    if field.type == FieldDescriptor.TYPE_FIXED32:
        return FIXED32
    if field.type == FieldDescriptor.TYPE_BOOL or field.type in _VARINT_LIMITS:
        return VARINT
    raise TypeError(f"{field.full_name} is of protobuf's type {field.type}, which cannot be read from JSON yet")


def _prefix(field: FieldDescriptor) -> bytes:
    return varint(field.number << 3 | wire_type(field))


def _beyond(number: int, low: float, high: float) -> RefusedError:
    return RefusedError(f"{shown(number)} is not from {low} to {high}")


def _varint_writer(field: FieldDescriptor) -> Callable[[int], bytes]:
    """Return what gives the varint of a number that is within the limits of the field's type."""
    if field.type == FieldDescriptor.TYPE_SINT32:
        return lambda number: varint(number << 1 if number >= 0 else ~(number << 1))
    if _VARINT_LIMITS[field.type][0] < 0:
        return lambda number: varint(number & _WORD)
    return varint


def varint_field(field: FieldDescriptor) -> Encode:
    """Return what writes an integer or an enum as a varint."""
    prefix, write, written_if_zero = _prefix(field), _varint_writer(field), field.has_presence
    low, high = _VARINT_LIMITS[field.type]
    read = enum_number if field.type == FieldDescriptor.TYPE_ENUM else integer

    def encode(value: Any, depth: int) -> bytes:  # noqa: ARG001 - all fields are called alike
        number = value if type(value) is int else read(value)
        if not low <= number <= high:
            raise _beyond(number, low, high)
        return prefix + write(number) if number or written_if_zero else b""

    return encode


def fixed_field(field: FieldDescriptor) -> Encode:
    """Return what writes an integer in four or eight bytes."""
    layout, (low, high) = _FIXED_LAYOUTS[field.type]
    prefix, pack, written_if_zero = _prefix(field), struct.Struct(f"<{layout}").pack, field.has_presence

    def encode(value: Any, depth: int) -> bytes:  # noqa: ARG001 - all fields are called alike
        number = value if type(value) is int else integer(value)
        if not low <= number <= high:
            raise _beyond(number, low, high)
        return prefix + pack(number) if number or written_if_zero else b""

    return encode


def double_field(field: FieldDescriptor) -> Encode:
    """Return what writes a double."""
    prefix, pack, written_if_zero = _prefix(field), struct.Struct("<d").pack, field.has_presence
    zero = pack(0.0)

    def encode(value: Any, depth: int) -> bytes:  # noqa: ARG001 - all fields are called alike
        packed = pack(double(value))
        return prefix + packed if written_if_zero or packed != zero else b""  # -0.0 is not the zero that is left out

    return encode


def boolean_field(field: FieldDescriptor) -> Encode:
    """Return what writes true or false."""
    prefix = _prefix(field)
    true, false = prefix + b"\x01", prefix + b"\x00" if field.has_presence else b""

    def encode(value: Any, depth: int) -> bytes:  # noqa: ARG001 - all fields are called alike
        return true if boolean(value) else false

    return encode


def bytes_field(field: FieldDescriptor) -> Encode:
    """Return what writes a text, an id or bytes."""
    prefix, read = _prefix(field), _bytes_reader(field)
    written_if_empty = field.has_presence or field.is_repeated

    def encode(value: Any, depth: int) -> bytes:  # noqa: ARG001 - all fields are called alike
        content = read(value)
        length = len(content)
        if not length and not written_if_empty:
            return b""
        return prefix + (_SHORT_VARINTS[length] if length < _SHORT_VARINTS_END else varint(length)) + content

    return encode


def _bytes_reader(field: FieldDescriptor) -> Callable[[Any], bytes]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return utf8
    size = _IDENTIFIER_BYTES.get(field.name)
    return from_base64 if size is None else lambda value: identifier(value, size)


def packed_field(field: FieldDescriptor) -> Encode:
    """Return what writes an array of numbers as one field."""
    prefix, (read, pack) = _prefix(field), _packing(field)
    low, high = _PACKED_LIMITS[field.type]
    is_double = field.type == FieldDescriptor.TYPE_DOUBLE
    plain_types = {float, int} if is_double else {int}

    def each(value: list[Any]) -> list[Any]:
        numbers: list[Any] = []
        try:
            for item in value:
                numbers.append(read(item))  # noqa: PERF401 - its length is the index of what is refused
        except RefusedError as refused:
            refused.steps.append(len(numbers))
            raise
        return numbers

    def encode(value: Any, depth: int) -> bytes:  # noqa: ARG001 - all fields are called alike
        if type(value) is not list:
            raise wrong_type(value, "an array")
        if not value:
            return b""
        # Plain numbers within the range need no look at each one; a column with anything else in it gets that.
        numbers = value if is_double else _plain_integers(value)
        if not (plain_types.issuperset(map(type, numbers)) and low <= min(numbers) and max(numbers) <= high):
            numbers = each(value)
        content = pack(numbers)
        return prefix + varint(len(content)) + content

    return encode


def _plain_integers(value: list[Any]) -> list[Any]:
    """Return an array of decimal digits as integers, and any other array as it is."""
    if type(value[0]) is not str:
        return value
    try:
        digits = "".join(value)
        if digits.isdigit() and digits.isascii() and len(max(value, key=len)) <= INTEGER_DIGITS_MAX:
            return list(map(int, value))
    except (TypeError, ValueError):
        pass
    return value


@functools.lru_cache(maxsize=256)
def _packer(count: int, layout: str) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}{layout}").pack


def _packing(field: FieldDescriptor) -> tuple[Callable[[Any], Any], Callable[[list[Any]], bytes]]:
    """Return what reads one number, and what puts numbers within the range into bytes."""
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return double, lambda numbers: _packer(len(numbers), "d")(*numbers)
    low, high = _PACKED_LIMITS[field.type]

    def read(value: Any) -> int:
        number = integer(value)
        if not low <= number <= high:
            raise _beyond(number, low, high)
        return number

    if field.type in _FIXED_LAYOUTS:
        layout = _FIXED_LAYOUTS[field.type][0]
        return read, lambda numbers: _packer(len(numbers), layout)(*numbers)
    write = _varint_writer(field)
    return read, lambda numbers: b"".join(map(write, numbers))


def message_field(field: FieldDescriptor, encode_content: Encode) -> Encode:
    """Return what writes a message, of which `encode_content` writes the content."""
    prefix = _prefix(field)

    def encode(value: Any, depth: int) -> bytes:
        content = encode_content(value, depth + 1)
        length = len(content)
        return prefix + (_SHORT_VARINTS[length] if length < _SHORT_VARINTS_END else varint(length)) + content

    return encode


def repeated_field(encode_one: Encode) -> Encode:
    """Return what writes an array of texts or messages, each as a field of its own."""

    def encode(value: Any, depth: int) -> bytes:
        if type(value) is not list:
            raise wrong_type(value, "an array")
        written: list[bytes] = []
        try:
            for item in value:
                written.append(encode_one(item, depth))  # noqa: PERF401 - its length is the index of what is refused
        except RefusedError as refused:
            refused.steps.append(len(written))
            raise
        return b"".join(written)

    return encode


# An attribute, as nearly all are: {"key": TEXT, "value": {KIND: CONTENT}}. In wire format the content's field stands
# in the AnyValue, which is field 2 of the KeyValue; with short content each of their lengths is one byte.
_KEY_PREFIX: Final = b"\x0a"
_TEXT_VALUES: Final = tuple(bytes([0x12, length + 2, 0x0A, length]) for length in range(_SEVEN_BITS - 1))
_TEXT_VALUES_END: Final = len(_TEXT_VALUES)
_TRUE_VALUE: Final = b"\x12\x02\x10\x01"
_FALSE_VALUE: Final = b"\x12\x02\x10\x00"
_DOUBLE_VALUE: Final = b"\x12\x09\x21"
_HUGE: Final = 1e308
_INT64_END: Final = 1 << 63
_SAFE_DIGITS: Final = 18
"""So many decimal digits are less than 1 << 63, whatever they are."""

_pack_double: Final = struct.Struct("<d").pack
_key_fields: Final[dict[str, bytes]] = {}
"""The key fields of the keys seen lately: programs use the same few over and over."""


def attributes_field(field: FieldDescriptor, encode_one: Encode) -> Encode:
    """Return what writes an array of KeyValue messages, most of what any request consists of.

    The ordinary forms of an attribute are written here at once, instead of by calls for each of the three messages
    that it is; every other form, right or wrong, is left to `encode_one`, which knows them all.
    """
    prefix = _prefix(field)

    def encode(value: Any, depth: int) -> bytes:
        if type(value) is not list:
            raise wrong_type(value, "an array")
        written: list[bytes] = []
        append = written.append
        for item in value:
            if type(item) is dict and len(item) == 2:  # noqa: PLR2004 - key and value
                holder = item.get("value")
                if type(holder) is dict and len(holder) == 1:
                    ((kind, content),) = holder.items()
                    pair = _ordinary_value(kind, content)
                    if pair:
                        key = item.get("key")
                        if type(key) is str:
                            pair = (_key_fields.get(key) or _key_field(key)) + pair
                            length = len(pair)
                            size = _SHORT_VARINTS[length] if length < _SHORT_VARINTS_END else varint(length)
                            append(prefix + size + pair)
                            continue
            try:
                append(encode_one(item, depth))
            except RefusedError as refused:
                refused.steps.append(len(written))
                raise
        return b"".join(written)

    return encode


def _ordinary_value(kind: str, content: Any) -> bytes:
    """Return the value field of a KeyValue, or nothing if this is not one of the ordinary forms."""
    content_type = type(content)
    if content_type is str:
        if kind == "stringValue":
            text: bytes = content.encode() if content.isascii() else b""
            length = len(text)
            return _TEXT_VALUES[length] + text if 0 < length < _TEXT_VALUES_END else b""
        if kind != "intValue" or not content.isdigit() or not content.isascii() or len(content) > _SAFE_DIGITS:
            return b""
        content = int(content)
    elif content_type is float:
        return _DOUBLE_VALUE + _pack_double(content) if kind == "doubleValue" and -_HUGE < content < _HUGE else b""
    elif content_type is bool:
        return (_TRUE_VALUE if content else _FALSE_VALUE) if kind == "boolValue" else b""
    elif content_type is not int or kind != "intValue" or not 0 <= content < _INT64_END:
        return b""
    number = varint(content)
    return b"\x12" + _SHORT_VARINTS[len(number) + 1] + b"\x18" + number


def _key_field(key: str) -> bytes:
    content = utf8(key)
    written = _KEY_PREFIX + varint(len(content)) + content if content else b""
    if len(key) <= KEY_CHARACTERS_MAX:
        if len(_key_fields) >= KEYS_KNOWN_MAX:
            _key_fields.clear()
        _key_fields[key] = written
    return written
