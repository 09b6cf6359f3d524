"""A consumer group's record of one shard: two alternating slots of 2048 bytes (docs/disk-format.md, "Groups")."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from comet_storage._format.limits import GROUP_RANGES_MAX, GROUP_SLOT_BYTES
from comet_storage._format.slots import encode_slot, newest_slot

DELIVERED = 0
REJECTED = 1

_KIND = b"GRUP"
_FIELDS = struct.Struct("<8QI")
_RANGE = struct.Struct("<QII")
_RANGE_LENGTH_MAX = 2**32 - 1


@dataclass(frozen=True)
class GroupRecord:
    """Where a group is in one shard. Below ``offset``, what is in no other class was delivered."""

    start: int = 0
    offset: int = 0
    """Lowest number not yet acknowledged."""
    rejected: int = 0
    skipped: int = 0
    evicted: int = 0
    corrupt: int = 0
    lost: int = 0
    generation: int = 0
    """Raised by each lease."""
    ranges: tuple[tuple[int, int, int], ...] = ()
    """(first, end, class) acknowledged above the offset, in order; at most 64 are stored."""

    @property
    def delivered(self) -> int:
        """Numbers below the offset that were delivered and acknowledged."""
        lost_otherwise = self.rejected + self.skipped + self.evicted + self.corrupt + self.lost
        return self.offset - self.start - lost_otherwise


def encode_group_slot(sequence: int, record: GroupRecord) -> bytes:
    """Bytes of one slot. Ranges beyond the 64th, or longer than 2**32, are left out: they will be delivered again."""
    ranges = [r for r in record.ranges if r[1] - r[0] <= _RANGE_LENGTH_MAX][:GROUP_RANGES_MAX]
    payload = _FIELDS.pack(
        record.start,
        record.offset,
        record.rejected,
        record.skipped,
        record.evicted,
        record.corrupt,
        record.lost,
        record.generation,
        len(ranges),
    ) + b"".join(_RANGE.pack(first, end - first, kind) for first, end, kind in ranges)
    return encode_slot(_KIND, sequence, payload)


def decode_group_file(data: bytes) -> tuple[int, GroupRecord] | None:
    """Sequence and record of the newest valid slot, or None when neither proves itself."""
    slot = newest_slot(_KIND, data[:GROUP_SLOT_BYTES], data[GROUP_SLOT_BYTES : 2 * GROUP_SLOT_BYTES])
    if slot is None or len(slot.payload) < _FIELDS.size:
        return None
    *numbers, count = _FIELDS.unpack_from(slot.payload)
    start, offset, rejected, skipped, evicted, corrupt, lost, generation = numbers
    ranges = []
    for index in range(count):
        first, length, kind = _RANGE.unpack_from(slot.payload, _FIELDS.size + index * _RANGE.size)
        ranges.append((first, first + length, kind))
    return slot.sequence, GroupRecord(
        start, offset, rejected, skipped, evicted, corrupt, lost, generation, tuple(ranges)
    )
