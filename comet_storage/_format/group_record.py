"""A consumer group's record of one shard: four slots of 1024 bytes (docs/disk-format.md, "Consumer groups")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from comet_storage._format.limits import GROUP_RANGES_MAX, GROUP_SLOT_BYTES, GROUP_SLOTS
from comet_storage._format.slots import decode_slot, encode_slot

DELIVERED = 0
REJECTED = 1

_KIND = b"GRUP"
_FIELDS = struct.Struct("<8QI")
_RANGE = struct.Struct("<QIH")
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


class StoredRecord(NamedTuple):
    """The newest record of a file, and where it is."""

    sequence: int
    place: int
    """Which of the slots it is in."""
    record: GroupRecord


def decode_group_file(data: bytes) -> StoredRecord | None:
    """The newest record whose slot is valid, or None when no slot proves itself."""
    found = []
    for place in range(GROUP_SLOTS):
        slot = decode_slot(_KIND, data[place * GROUP_SLOT_BYTES : (place + 1) * GROUP_SLOT_BYTES])
        if slot is not None and len(slot.payload) >= _FIELDS.size:
            found.append((slot.sequence, place, slot.payload))
    if not found:
        return None
    sequence, place, payload = max(found)
    start, offset, rejected, skipped, evicted, corrupt, lost, generation, count = _FIELDS.unpack_from(payload)
    ranges = []
    for index in range(min(count, (len(payload) - _FIELDS.size) // _RANGE.size)):
        first, length, kind = _RANGE.unpack_from(payload, _FIELDS.size + index * _RANGE.size)
        ranges.append((first, first + length, kind))
    record = GroupRecord(start, offset, rejected, skipped, evicted, corrupt, lost, generation, tuple(ranges))
    return StoredRecord(sequence, place, record)
