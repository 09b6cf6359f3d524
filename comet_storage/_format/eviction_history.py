"""What was evicted of one shard, and when: two alternating slots of 2048 bytes, and the joining of what is old."""

from __future__ import annotations

import struct
from typing import NamedTuple

from comet_storage._format.slots import encode_slot, newest_slot

HISTORY_SLOT_BYTES = 2048
HISTORY_FILE_BYTES = 2 * HISTORY_SLOT_BYTES
HISTORY_RANGES_MAX = 42
JOIN_NS = 60 * 10**9
"""What is evicted within so long of one another becomes one range, if the numbers follow."""

_KIND = b"EVIC"
_COUNT = struct.Struct("<I")
_RANGE = struct.Struct("<QQQQQI")

REASONS = ("age", "forced", "shard_size", "bound", "volume")
"""Why segments go; a range keeps one bit for each."""


class EvictedRange(NamedTuple):
    """Entry numbers ``[first, end)`` of which ``entries`` were evicted."""

    first: int
    end: int
    entries: int
    since_ns: int
    """Wall clock of the first eviction in the range, nanoseconds since 1970."""
    until_ns: int
    """And of the last."""
    reasons: int
    """Bits in the order of :data:`REASONS`."""


History = tuple[EvictedRange, ...]


def with_range(history: History, new: EvictedRange) -> History:
    """The history with one more range, as short as it has to be.

    What it knows already is not added again: after a crash between recording and deleting the same segments come by
    once more. When it is full, the two oldest ranges become one.
    """
    if history:
        last = history[-1]
        if new.end <= last.end:
            return history
        if new.first < last.end:
            first = last.end
            new = new._replace(first=first, entries=min(new.entries, new.end - first))
        if new.first == last.end and 0 <= new.until_ns - last.since_ns <= JOIN_NS:
            return (*history[:-1], _joined(last, new))
    ranges = (*history, new)
    while len(ranges) > HISTORY_RANGES_MAX:
        ranges = (_joined(ranges[0], ranges[1]), *ranges[2:])
    return ranges


def _joined(one: EvictedRange, other: EvictedRange) -> EvictedRange:
    return EvictedRange(
        one.first,
        other.end,
        one.entries + other.entries,
        min(one.since_ns, other.since_ns),
        max(one.until_ns, other.until_ns),
        one.reasons | other.reasons,
    )


def encode_history_slot(sequence: int, history: History) -> bytes:
    """Bytes of one slot."""
    return encode_slot(_KIND, sequence, _COUNT.pack(len(history)) + b"".join(_RANGE.pack(*each) for each in history))


def decode_history(data: bytes) -> tuple[int, History] | None:
    """Sequence and ranges of the newest valid slot of a file, or None when neither proves itself."""
    slot = newest_slot(_KIND, data[:HISTORY_SLOT_BYTES], data[HISTORY_SLOT_BYTES:HISTORY_FILE_BYTES])
    if slot is None or len(slot.payload) < _COUNT.size:
        return None
    (count,) = _COUNT.unpack_from(slot.payload)
    if len(slot.payload) != _COUNT.size + count * _RANGE.size:
        return None
    ranges = _RANGE.iter_unpack(slot.payload[_COUNT.size :])
    return slot.sequence, tuple(EvictedRange(*fields) for fields in ranges)


if 20 + _COUNT.size + HISTORY_RANGES_MAX * _RANGE.size > HISTORY_SLOT_BYTES:
    raise RuntimeError("a full history does not fit into its slot")
