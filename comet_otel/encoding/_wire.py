"""Protobuf's wire format: varints, lengths and checked scalars.

A field on the wire is a tag (its number and kind) and a value; strings, bytes and messages carry their length in front.
Specification: https://protobuf.dev/programming-guides/encoding/. The checks accept and refuse exactly what the
generated messages' constructors do.
"""

from __future__ import annotations

import operator
import struct
from typing import Any, Final

from comet_otel.encoding import _budget

_ONE_BYTE: Final = tuple(bytes((number,)) for number in range(128))
_HEAD_LENGTH_MAX: Final = 4096
_TEXT_BYTES_MAX: Final = 256

MISSES_STORED: Final = 256
"""A cache of values keeps what its first so many misses made, which is everything where values repeat."""

MISSES_FORGOTTEN: Final = MISSES_STORED + 4096
"""After so many misses it forgets what it has and starts again: values that never come back cost little more than
their encoding, and a cache that filled with them while the application started becomes useful again."""

_INT32_MAX: Final = 2**31 - 1
_UINT32_MAX: Final = 2**32 - 1
_UINT64_MAX: Final = 2**64 - 1
_INT64_MAX: Final = 2**63 - 1

pack_fixed32: Final = struct.Struct("<I").pack
pack_fixed64: Final = struct.Struct("<Q").pack
pack_sfixed64: Final = struct.Struct("<q").pack
pack_double: Final = struct.Struct("<d").pack


def varint(number: int) -> bytes:
    """Return a number from 0 to 2**64 - 1 in as few groups of seven bits as it needs, lowest first."""
    if number < 0x80:
        return _ONE_BYTE[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    if number < 0x200000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    if number < 0x10000000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80, number >> 21))
    low = bytes(
        (number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80, number >> 21 & 0x7F | 0x80)
    )
    return low + varint(number >> 28)


def delimited(tag: bytes, content: bytes) -> bytes:
    """Return a field of a string, bytes or message."""
    return tag + varint(len(content)) + content


def text(value: Any) -> bytes:
    """Return the UTF-8 of what may be put into a string field: a string or bytes that are UTF-8.

    Raises:
        TypeError: it is neither.
        UnicodeError: it is no valid text.
    """
    if isinstance(value, str):
        return str.encode(value)
    if isinstance(value, bytes):
        bytes.decode(value)
        return bytes.join(b"", (value,))
    raise TypeError(f"a string is needed, not {type(value).__name__}")


def text_field(tag: bytes, value: Any) -> bytes:
    """Return a string field, which is left out for None and for the empty string."""
    if value is None:
        return b""
    content = text(value)
    return delimited(tag, content) if content else b""


def integer(value: Any, lowest: int, highest: int) -> int:
    """Return an integer as an exact `int`, checked.

    Raises:
        TypeError: it is a boolean or no integer.
        ValueError: it is out of range.
    """
    if isinstance(value, bool):
        raise TypeError("an integer is needed, not a boolean")
    number = operator.index(value)
    if not lowest <= number <= highest:
        raise ValueError(f"{number} is out of range")
    return number


def int64(value: Any) -> int:
    """Return a checked integer of 64 bits."""
    return integer(value, -_INT64_MAX - 1, _INT64_MAX)


def varint_int64(number: int) -> bytes:
    """Return a checked integer of 64 bits as a varint: negative ones as their two's complement, ten bytes long.

    Raises:
        ValueError: it is out of range.
    """
    if 0 <= number <= _INT64_MAX:
        return varint(number)
    if -_INT64_MAX - 1 <= number < 0:
        return varint(number + _UINT64_MAX + 1)
    raise ValueError(f"{number} does not fit into 64 bits")


def fixed64_field(tag: bytes, value: Any) -> bytes:
    """Return a field of eight bytes for an unsigned integer, which is left out for None and 0."""
    if value is None:
        return b""
    number = integer(value, 0, _UINT64_MAX)
    return tag + pack_fixed64(number) if number else b""


def uint32_field(tag: bytes, value: Any) -> bytes:
    """Return a varint field for an unsigned integer, which is left out for None and 0."""
    if value is None:
        return b""
    number = integer(value, 0, _UINT32_MAX)
    return tag + varint(number) if number else b""


def enum_field(tag: bytes, value: Any) -> bytes:
    """Return a varint field for an enumeration's number, which is left out for None and 0."""
    if value is None:
        return b""
    number = integer(value, -_INT32_MAX - 1, _INT32_MAX)
    return tag + varint_int64(number) if number else b""


def sint32_field(tag: bytes, value: Any) -> bytes:
    """Return a zigzag varint field for a signed integer, which is left out for None and 0."""
    if value is None:
        return b""
    number = integer(value, -_INT32_MAX - 1, _INT32_MAX)
    return tag + varint(number << 1 if number >= 0 else (-number << 1) - 1) if number else b""


def optional_double_field(tag: bytes, value: Any) -> bytes:
    """Return a field of eight bytes for a floating-point number, which is left out only for None."""
    return b"" if value is None else tag + pack_double(value)


class Heads(dict[int, bytes]):
    """The tag and the length that stand before a content, by the content's length."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag
        _budget.register(self)

    def __missing__(self, length: int) -> bytes:
        head = self._tag + varint(length)
        if length <= _HEAD_LENGTH_MAX:
            _budget.charge(_budget.ENTRY_BYTES)
            self[length] = head
        return head


class TextFields(dict[Any, bytes]):
    """String fields, such as names, by their text; short ones are kept."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag
        self._heads = Heads(tag)
        self._misses = 0
        _budget.register(self)

    def __missing__(self, value: Any) -> bytes:
        if type(value) is not str or not value:
            return text_field(self._tag, value)
        content = value.encode()
        field = self._heads[len(content)] + content
        if len(field) <= _TEXT_BYTES_MAX:
            misses = self._misses = self._misses + 1
            if misses <= MISSES_STORED:
                _budget.charge(_budget.ENTRY_BYTES + 2 * len(field))
                self[value] = field
            elif misses > MISSES_FORGOTTEN:
                self.clear()
                self._misses = 0
        return field
