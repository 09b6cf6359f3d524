"""Attributes as ``KeyValue`` fields, with what repeats kept ready.

An attribute is found in three steps that stay inside dicts where it was seen before: by the exact type of its value,
by its key, by its value. The first step keeps apart what Python's dicts do not: True, 1 and 1.0 are equal and hash
alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, NoneType
from typing import Any, Final, NamedTuple

from opentelemetry.attributes import BoundedAttributes

from comet_otel.encoding import _budget
from comet_otel.encoding._batch import EncodedBatch
from comet_otel.encoding._values import NESTING_MAX, any_value, key_field
from comet_otel.encoding._wire import MISSES_FORGOTTEN, MISSES_STORED, pack_double, varint, varint_int64

_KEY_LENGTH_MAX: Final = 256
_CACHED_TEXT_LENGTH_MAX: Final = 96
_HEAD_LENGTH_MAX: Final = 512
_VARINT_BYTES_MAX: Final = 10
_EMPTY: Final[Mapping[str, Any]] = {}


class Counted(NamedTuple):
    """The content of a foreign container, and how many members it says that it dropped."""

    content: Any
    dropped: int


def contents(attributes: Any) -> tuple[Mapping[str, Any], int]:
    """Return the mapping inside a container of attributes, safe to iterate, and how many attributes it dropped.

    What is still open to changes, by whichever thread, is copied in one step that no other thread can get between.
    """
    kind = type(attributes)
    if kind is dict:
        return attributes.copy(), 0
    if kind is BoundedAttributes:
        inner = attributes._dict  # its own iteration takes a lock and a copy per span
        return (inner if attributes._immutable else inner.copy()), attributes.dropped
    if kind is Counted:
        return contents(attributes.content)[0], attributes.dropped
    dropped = attributes.dropped if isinstance(attributes, BoundedAttributes) else 0
    return (attributes or _EMPTY), dropped


def span_contents(attributes: Any) -> tuple[Mapping[str, Any], int]:
    """As `contents`, but refuse what is no mapping in the same way as a span's own property does."""
    mapping, dropped = contents(attributes)
    return (mapping if type(mapping) is dict else MappingProxyType(mapping)), dropped


class AttributeFields:
    """Encodes the attributes of one kind of message."""

    def __init__(self, tag: bytes, messages: int) -> None:
        """Prepare for one place in the requests.

        Args:
            tag: the tag of the message's attributes field.
            messages: how many messages an attribute's value is nested in, from the request to its ``AnyValue``.
        """
        self._by_type = _Types(tag, NESTING_MAX - messages)

    def append_to(self, pieces: list[bytes], attributes: Mapping[str, Any], tally: EncodedBatch) -> None:
        """Append a field for each attribute; count those that cannot be encoded."""
        by_type = self._by_type
        for key, value in attributes.items():
            try:
                pieces.append(by_type[type(value)][key][value])
            except Exception as error:  # noqa: BLE001 - a foreign value may raise anything when looked at
                tally.leave_out_attribute(error)

    def joined(self, attributes: Any, tally: EncodedBatch) -> bytes:
        """Return the fields of a container of attributes; count those that cannot be encoded."""
        pieces: list[bytes] = []
        self.append_to(pieces, contents(attributes)[0], tally)
        return b"".join(pieces)


class _Key:
    """What all attributes with one key have in common."""

    __slots__ = ("_field", "_levels", "_tag")

    def __init__(self, tag: bytes, key: Any, levels: int) -> None:
        self._tag = tag
        self._field = key_field(key)
        self._levels = levels

    def head(self, value_length: int) -> bytes:
        """Return everything that stands before the content of the value."""
        rest = self._field + b"\x12" + varint(value_length)
        return self._tag + varint(len(rest) + value_length) + rest

    def field(self, value: Any) -> bytes:
        """Return the whole field for a value of any kind."""
        content = any_value(value, self._levels)
        return self.head(len(content)) + content


class _Texts(dict[str, bytes]):
    """Fields of one key, by text."""

    __slots__ = ("_heads", "_key", "_misses")

    def __init__(self, key: _Key) -> None:
        super().__init__()
        self._key = key
        self._heads: dict[int, bytes] = {}
        self._misses = 0

    def __missing__(self, value: str) -> bytes:
        content = value.encode()
        length = len(content)
        head = self._heads.get(length)
        if head is None:
            head = self._new_head(length)
        field = head + content
        if length <= _CACHED_TEXT_LENGTH_MAX:
            misses = self._misses = self._misses + 1
            if misses <= MISSES_STORED:
                _budget.charge(_budget.ENTRY_BYTES + 2 * len(field))
                self[value] = field
            elif misses > MISSES_FORGOTTEN:
                self.clear()
                self._misses = 0
        return field

    def _new_head(self, length: int) -> bytes:
        tagged = b"\x0a" + varint(length)
        head = self._key.head(len(tagged) + length) + tagged
        if length <= _HEAD_LENGTH_MAX:
            _budget.charge(_budget.ENTRY_BYTES)
            self._heads[length] = head
        return head


class _Integers(dict[int, bytes]):
    """Fields of one key, by integer."""

    __slots__ = ("_heads", "_misses")

    def __init__(self, key: _Key) -> None:
        super().__init__()
        self._heads = [key.head(1 + length) + b"\x18" for length in range(_VARINT_BYTES_MAX + 1)]
        self._misses = 0

    def __missing__(self, value: int) -> bytes:
        content = varint_int64(value)
        field = self._heads[len(content)] + content
        misses = self._misses = self._misses + 1
        if misses <= MISSES_STORED:
            _budget.charge(_budget.ENTRY_BYTES)
            self[value] = field
        elif misses > MISSES_FORGOTTEN:
            self.clear()
            self._misses = 0
        return field


class _Floats:
    """Fields of one key for floating-point numbers, which hardly repeat, and of which some are equal and not alike."""

    __slots__ = ("_head",)

    def __init__(self, key: _Key) -> None:
        self._head = key.head(9) + b"\x21"

    def __getitem__(self, value: float) -> bytes:
        return self._head + pack_double(value)


class _Tuples:
    """Fields of one key for tuples; those of short strings are kept, for only of them does equal mean alike."""

    __slots__ = ("_key", "_known", "_misses")

    def __init__(self, key: _Key) -> None:
        self._key = key
        self._known: dict[tuple[str, ...], bytes] = {}
        self._misses = 0

    def __getitem__(self, value: tuple[Any, ...]) -> bytes:
        for element in value:
            if type(element) is not str:
                return self._key.field(value)
        field = self._known.get(value)
        if field is None:
            field = self._key.field(value)
            self._misses += 1
            if self._misses <= MISSES_STORED and len(field) <= _HEAD_LENGTH_MAX:
                _budget.charge(_budget.ENTRY_BYTES * (1 + len(value)) + 2 * len(field))
                self._known[value] = field
            elif self._misses > MISSES_FORGOTTEN:
                self._known.clear()
                self._misses = 0
        return field


class _Others:
    """Fields of one key for values of all other types."""

    __slots__ = ("_key",)

    def __init__(self, key: _Key) -> None:
        self._key = key

    def __getitem__(self, value: Any) -> bytes:
        return self._key.field(value)


def _constants(values: tuple[bool | None, ...]) -> Any:
    def fields(key: _Key) -> dict[bool | None, bytes]:
        return {value: key.field(value) for value in values}

    return fields


_KINDS: Final[Mapping[type, Any]] = {
    str: _Texts,
    int: _Integers,
    float: _Floats,
    tuple: _Tuples,
    bool: _constants((False, True)),
    NoneType: _constants((None,)),
    bytes: _Others,
    list: _Others,
    dict: _Others,
}


class _Keys(dict[Any, Any]):
    """What encodes the values of one type, by attribute key."""

    __slots__ = ("_kind", "_levels", "_tag")

    def __init__(self, kind: Any, tag: bytes, levels: int) -> None:
        super().__init__()
        self._kind = kind
        self._tag = tag
        self._levels = levels
        _budget.register(self)

    def __missing__(self, key: Any) -> Any:
        fields = self._kind(_Key(self._tag, key, self._levels))
        if type(key) is str and len(key) <= _KEY_LENGTH_MAX:
            _budget.charge(10 * _budget.ENTRY_BYTES)
            self[key] = fields
        return fields


class _Types(dict[type, _Keys]):
    """What encodes the attributes of one kind of message, by the exact type of the value."""

    __slots__ = ("_others",)

    def __init__(self, tag: bytes, levels: int) -> None:
        super().__init__({kind: _Keys(fields, tag, levels) for kind, fields in _KINDS.items()})
        self._others = _Keys(_Others, tag, levels)

    def __missing__(self, kind: type) -> _Keys:
        return self._others


def check_containers() -> None:
    """Compare the private fields of the SDK's containers of attributes with what they offer in public.

    Raises:
        Exception: they are not what `contents` takes them for.
    """
    for immutable in (False, True):
        container = BoundedAttributes(attributes={"a": 1, "b": "text", "c": None}, immutable=immutable)
        container.dropped = 7  # by filling it up it would log a warning
        inner, dropped = contents(container)
        if type(inner) is not dict or list(inner.items()) != list(container.items()) or dropped != container.dropped:
            raise TypeError("BoundedAttributes differs")
        if (inner is container._dict) is not immutable:  # the fields in question
            raise TypeError("BoundedAttributes tells otherwise whether it may change")
