"""Joins requests so that neighbours with the same resource, or the same scope, share one copy of it.

Programs that store each span as it ends repeat the same few hundred bytes of resource with each. Only neighbours are
put together, so that all items stay in the order in which they were stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from comet_otel.wire.fields import LENGTH_DELIMITED, Field, MalformedError, encode_field, read_varint, walk

_RESOURCE_FIELD: Final = 1
_CHILD_FIELD: Final = 2
_CHILD_TAG: Final = _CHILD_FIELD << 3 | LENGTH_DELIMITED


class _Envelope(NamedTuple):
    """What stands before and behind the children of a resource or scope: two that have the same can share it."""

    before: bytes
    after: bytes


class _Opened(NamedTuple):
    """A resource or scope, taken apart.

    Attributes:
        envelope: what is around its children.
        start: where the first child begins, with its tag.
        end: where the last one ends.
        values: where the value of each child begins and ends.
    """

    envelope: _Envelope
    start: int
    end: int
    values: list[tuple[int, int]]


def coalesce(payloads: Iterable[bytes]) -> bytes:
    """Return one request with the items of all, each byte for byte as it was, and in the same order.

    What is not laid out as expected inside a payload is taken over as it is.

    Raises:
        MalformedError: a payload does not consist of whole fields, so that nothing can be joined to it.
    """
    request = _GrowingRequest()
    for payload in payloads:
        request.add(payload)
    return request.finish()


class _GrowingRequest:
    """A request that grows by its last resource, which grows by its last scope."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._resource: _Envelope | None = None
        self._scopes: list[bytes] = []
        self._scope: _Envelope | None = None
        self._items: list[bytes] = []

    def add(self, payload: bytes) -> None:
        """Add the resources of one more request."""
        for field in walk(payload):
            try:
                resource = _open_resource(payload, field, self._resource)
                same = self._scope if resource.envelope == self._resource else None
                scopes = [_open(payload, start, end, same) for start, end in resource.values]
            except MalformedError:
                self._close_resource()
                self._done.append(payload[field.start : field.end])
                continue
            if resource.envelope != self._resource:
                self._close_resource()
                self._resource = resource.envelope
            for scope in scopes:
                if scope.envelope != self._scope:
                    self._close_scope()
                    self._scope = scope.envelope
                self._items.append(payload[scope.start : scope.end])

    def finish(self) -> bytes:
        """Return the request."""
        self._close_resource()
        return b"".join(self._done)

    def _close_scope(self) -> None:
        if self._scope is not None:
            content = b"".join((self._scope.before, *self._items, self._scope.after))
            self._scopes.append(encode_field(_CHILD_FIELD, content))
            self._scope, self._items = None, []

    def _close_resource(self) -> None:
        self._close_scope()
        if self._resource is not None:
            content = b"".join((self._resource.before, *self._scopes, self._resource.after))
            self._done.append(encode_field(_RESOURCE_FIELD, content))
            self._resource, self._scopes = None, []


def _open_resource(data: bytes, field: Field, known: _Envelope | None) -> _Opened:
    if field.number != _RESOURCE_FIELD or field.wire_type != LENGTH_DELIMITED:
        raise MalformedError("not the field of a resource")
    return _open(data, field.value_start, field.end, known)


def _open(data: bytes, start: int, end: int, known: _Envelope | None) -> _Opened:
    """Take a resource or scope apart; in no time if it is one child in an envelope that is already ``known``.

    Raises:
        MalformedError: it has no child, or its children do not stand together.
    """
    if known is not None and data.startswith(known.before, start, end) and data.endswith(known.after, start, end):
        # Whole fields, one child of exactly the rest, whole fields: there is no other way to read it.
        first, last = start + len(known.before), end - len(known.after)
        if first < last and data[first] == _CHILD_TAG:
            size, value = read_varint(data, first + 1, last)
            if value + size == last:
                return _Opened(known, first, last, [(value, last)])
    values: list[tuple[int, int]] = []
    first = last = start
    for field in walk(data, start, end):
        if field.number == _CHILD_FIELD and field.wire_type == LENGTH_DELIMITED:
            if not values:
                first = field.start
            elif field.start != last:
                raise MalformedError("children with something in between")
            values.append((field.value_start, field.end))
            last = field.end
    if not values:
        raise MalformedError("no children")
    return _Opened(_Envelope(data[start:first], data[last:end]), first, last, values)
