"""Cuts a request that is too large into requests that are not, at the boundaries of resources, scopes and items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from comet_otel.streams import Signal
from comet_otel.wire.counting import count_items
from comet_otel.wire.fields import LENGTH_DELIMITED, Field, encode_field, field_size, walk
from comet_otel.wire.levels import LEVELS


class Part(NamedTuple):
    """A part of a request that is a request itself.

    Attributes:
        payload: its bytes.
        items: spans, log records or data points in it.
        too_large: whether it is over the limit all the same, because what is in it cannot be split.
    """

    payload: bytes
    items: int
    too_large: bool


def split_request(payload: bytes, signal: Signal, max_bytes: int) -> list[Part]:
    """Cut a request into parts of at most ``max_bytes``, with each item in exactly one of them, unchanged and in order.

    Each part has its own copy of the resource and the scope (and, if a metric is cut, of the metric) that its items
    belong to. An item that is too large even alone is a part of its own, marked. Where the resource or the scope
    leaves no room at all, what belongs to it stays together, marked as well: cutting would only multiply it.

    Raises:
        MalformedError: it is no request.
    """
    if len(payload) <= max_bytes:
        return [Part(payload, count_items(payload, signal), too_large=False)]
    found = _pieces(payload, 0, len(payload), LEVELS[signal], max_bytes)
    return [Part(piece, count_items(piece, signal), len(piece) > max_bytes) for piece in found]


def _pieces(data: bytes, start: int, end: int, levels: tuple[frozenset[int], ...], limit: int) -> Iterator[bytes]:
    """Yield messages of at most ``limit`` bytes that together hold the children of the message in ``data[start:end]``.

    Each has the fields that are not children, in front. A child that is too large is cut in its turn.
    """
    if not levels:
        yield data[start:end]
        return
    header, children = _taken_apart(data, start, end, levels[0])
    if not children or len(header) >= limit:
        yield data[start:end]
        return
    current, size = [header], len(header)
    for child in children:
        for piece in _children_that_fit(data, child, levels[1:], limit - len(header)):
            if len(current) > 1 and size + len(piece) > limit:
                yield b"".join(current)
                current, size = [header], len(header)
            current.append(piece)
            size += len(piece)
    yield b"".join(current)


def _children_that_fit(data: bytes, child: Field, levels: tuple[frozenset[int], ...], room: int) -> Iterator[bytes]:
    """Yield a child as it is, or, if there is not room enough for it, the fields that it is cut into."""
    if child.end - child.start <= room:
        yield data[child.start : child.end]
        return
    tag_and_length = field_size(child.number, room) - room
    for content in _pieces(data, child.value_start, child.end, levels, room - tag_and_length):
        yield encode_field(child.number, content)


def _taken_apart(data: bytes, start: int, end: int, wanted: frozenset[int]) -> tuple[bytes, list[Field]]:
    """Return the fields of a message that are no children, joined, and its children."""
    header: list[bytes] = []
    children: list[Field] = []
    for field in walk(data, start, end):
        if field.number in wanted and field.wire_type == LENGTH_DELIMITED:
            children.append(field)
        else:
            header.append(data[field.start : field.end])
    return b"".join(header), children
