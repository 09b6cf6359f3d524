"""Values of any kind as the content of an ``AnyValue`` message.

The kinds are told apart in the stock encoder's order, by `isinstance`; the exact types that telemetry is made of are
recognised first. Specification: opentelemetry/proto/common/v1/common.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from comet_otel.encoding._wire import Heads, delimited, int64, pack_double, text, text_field, varint, varint_int64

NESTING_MAX: Final = 101
"""Messages inside each other that protobuf libraries read, counted with the scalar at the end."""

_ARRAY_LEVELS: Final = 2  # ArrayValue, AnyValue
_MAP_LEVELS: Final = 3  # KeyValueList, KeyValue, AnyValue

_VALUE_OF_KEY: Final = b"\x12"
_ELEMENTS: Final = Heads(b"\x0a")


class NestingError(ValueError):
    """A value is nested so deeply that the receivers' protobuf libraries would refuse the whole request."""


def any_value(value: Any, levels: int) -> bytes:
    """Return the content of an ``AnyValue``.

    Args:
        value: what to encode.
        levels: how many more messages may be nested in this one.

    Raises:
        Exception: the value, or one inside it, is of no kind that OTLP knows, out of its range, or nested too deeply; a
            foreign object may raise anything when it is looked at.
    """
    kind = type(value)
    if kind is str:
        return delimited(b"\x0a", value.encode())
    if value is None:
        return b""
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int:
        return b"\x18" + varint_int64(value)
    if kind is float:
        return b"\x21" + pack_double(value)
    if kind is bytes:
        return delimited(b"\x3a", value)
    if kind is tuple or kind is list:
        return _array(value, levels)
    return _by_ancestry(value, levels)


def key_value(key_field: bytes, value: bytes) -> bytes:
    """Return the content of a ``KeyValue`` from its key's field and the content of its value."""
    return key_field + _VALUE_OF_KEY + varint(len(value)) + value


def key_field(key: Any) -> bytes:
    """Return the key of a ``KeyValue`` as a field.

    Raises:
        TypeError: the key is no string.
        UnicodeError: it is no valid text.
    """
    return text_field(b"\x0a", key)


def _by_ancestry(value: Any, levels: int) -> bytes:
    if isinstance(value, str):
        return delimited(b"\x0a", text(value))
    if isinstance(value, int):
        return b"\x18" + varint_int64(int64(value))
    if isinstance(value, float):
        return b"\x21" + pack_double(value)
    if isinstance(value, bytes):
        return delimited(b"\x3a", bytes.join(b"", (value,)))
    if isinstance(value, Sequence):
        return _array(value, levels)
    if isinstance(value, Mapping):
        return _map(value, levels)
    raise TypeError(f"values of type {type(value).__name__} cannot be expressed in OTLP")


def _array(value: Sequence[Any], levels: int) -> bytes:
    levels -= _ARRAY_LEVELS
    if levels < 0:
        raise NestingError("the value is nested too deeply")
    pieces: list[bytes] = []
    for element in value:
        if type(element) is str:
            content = element.encode()
            head = _ELEMENTS[len(content)]  # a string has the tag that an element has
            pieces += (_ELEMENTS[len(head) + len(content)], head, content)
        else:
            content = any_value(element, levels)
            pieces += (_ELEMENTS[len(content)], content)
    return delimited(b"\x2a", b"".join(pieces))


def _map(value: Mapping[Any, Any], levels: int) -> bytes:
    levels -= _MAP_LEVELS
    if levels < 0:
        raise NestingError("the value is nested too deeply")
    pieces: list[bytes] = []
    for key, element in value.items():
        content = key_value(key_field(str(key)), any_value(element, levels))
        pieces += (_ELEMENTS[len(content)], content)
    return delimited(b"\x32", b"".join(pieces))
