"""The protobuf wire format, as far as OTLP needs it: tags, lengths, and where a field's value is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
LENGTH_DELIMITED: Final = 2
FIXED32: Final = 5

_VARINT_BYTES_MAX: Final = 10
_NUMBER_MAX: Final = 2**29 - 1
_CONTINUES: Final = 0x80
_UINT64: Final = 2**64 - 1


class MalformedError(ValueError):
    """Bytes that are no protobuf message. Reading them again cannot help."""


class Field(NamedTuple):
    """One field of a message: where it is in the bytes.

    Attributes:
        number: the field number.
        wire_type: how its value is encoded.
        start: where the field begins, with its tag.
        value_start: where the value begins; behind the length, if it has one.
        end: where the field ends.
    """

    number: int
    wire_type: int
    start: int
    value_start: int
    end: int


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the number at ``position`` and the position behind it.

    Raises:
        MalformedError: there is no whole number before ``end``.
    """
    value = shift = 0
    for index in range(position, min(end, position + _VARINT_BYTES_MAX)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < _CONTINUES:
            if value > _UINT64:
                break
            return value, index + 1
        shift += 7
    raise MalformedError(f"no whole number at byte {position}")


def walk(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the fields of the message in ``data[start:end]``.

    Raises:
        MalformedError: at the first field that is none; what came before was yielded.
    """
    position = start
    end = len(data) if end is None else end
    while position < end:
        begin = position
        tag = data[position]
        position += 1
        if tag >= _CONTINUES:
            tag, position = read_varint(data, begin, end)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number <= _NUMBER_MAX:
            raise MalformedError(f"field number {number} at byte {begin}")
        value = position
        if wire_type == LENGTH_DELIMITED:
            size, value = read_varint(data, position, end)
            position = value + size
        elif wire_type == VARINT:
            _, position = read_varint(data, position, end)
        elif wire_type == FIXED64:
            position += 8
        elif wire_type == FIXED32:
            position += 4
        else:
            raise MalformedError(f"wire type {wire_type} at byte {begin}")
        if position > end:
            raise MalformedError(f"the field at byte {begin} ends behind the message")
        yield Field(number, wire_type, begin, value, position)


def is_framed(payload: bytes) -> bool:
    """Tell whether a request consists of whole fields 1, so that others can be joined to it without mixing with it.

    Looks at the outermost fields alone.
    """
    position, end = 0, len(payload)
    try:
        while position < end:
            if payload[position] != _REQUEST_TAG:
                return False
            size, position = read_varint(payload, position + 1, end)
            position += size
    except MalformedError:
        return False
    return position == end


_REQUEST_TAG: Final = 0x0A


def encode_varint(value: int) -> bytes:
    """Return a number from 0 on as a varint."""
    encoded = bytearray()
    while value >= _CONTINUES:
        encoded.append(value & 0x7F | _CONTINUES)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def varint_size(value: int) -> int:
    """Return how many bytes a number takes."""
    return max(1, -(-value.bit_length() // 7))


def encode_field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return encode_varint(number << 3 | LENGTH_DELIMITED) + encode_varint(len(content)) + content


def field_size(number: int, content_size: int) -> int:
    """Return how many bytes a length-delimited field with such a content takes."""
    return varint_size(number << 3) + varint_size(content_size) + content_size
