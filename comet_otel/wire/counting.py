"""How many spans, log records or data points a request holds."""

from __future__ import annotations

from typing import Final

from comet_otel.streams import Signal
from comet_otel.wire.fields import LENGTH_DELIMITED, MalformedError, read_varint, walk
from comet_otel.wire.levels import ITEMS, LEVELS, RESOURCES, SCOPES

_ITEM_TAG: Final = 0x12
_CONTINUES: Final = 0x80


def count_items(payload: bytes, signal: Signal) -> int:
    """Return the number of spans, log records or data points of a request. Looks into none of them.

    Raises:
        MalformedError: it is no request.
    """
    count = 0
    below = LEVELS[signal][3:]
    for resource in walk(payload):
        if resource.number not in RESOURCES or resource.wire_type != LENGTH_DELIMITED:
            continue
        for scope in walk(payload, resource.value_start, resource.end):
            if scope.number not in SCOPES or scope.wire_type != LENGTH_DELIMITED:
                continue
            if below:
                count += _count_below(payload, scope.value_start, scope.end, (ITEMS, *below))
            else:
                count += _count_in_scope(payload, scope.value_start, scope.end)
    return count


def _count_in_scope(data: bytes, position: int, end: int) -> int:
    """Count the fields 2; written out, because it runs once per span."""
    count = 0
    while position < end:
        if data[position] != _ITEM_TAG:
            field = next(walk(data, position, end))
            position = field.end
            continue
        try:
            size = data[position + 1]
            if size < _CONTINUES:
                position += 2 + size
            elif (high := data[position + 2]) < _CONTINUES:
                position += 3 + (size & 0x7F) + (high << 7)
            else:
                size, position = read_varint(data, position + 1, end)
                position += size
        except IndexError:
            position = end + 1
        count += 1
    if position != end:
        raise MalformedError("the last item ends behind its scope")
    return count


def _count_below(data: bytes, start: int, end: int, levels: tuple[frozenset[int], ...]) -> int:
    wanted, below = levels[0], levels[1:]
    count = 0
    for field in walk(data, start, end):
        if field.number in wanted and field.wire_type == LENGTH_DELIMITED:
            count += _count_below(data, field.value_start, field.end, below) if below else 1
    return count
