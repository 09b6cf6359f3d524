"""The log clock as it is kept: two alternating slots in ``log.lock`` (docs/disk-format.md, "The log clock")."""

from __future__ import annotations

import struct
from typing import NamedTuple

from comet_storage._format.limits import SECTOR_BYTES
from comet_storage._format.slots import encode_slot, newest_slot

CLOCK_OFFSETS = (3 * SECTOR_BYTES, 4 * SECTOR_BYTES)
"""Of the slots in the file, for even and for odd sequences."""
CLOCK_END = CLOCK_OFFSETS[1] + SECTOR_BYTES

_KIND = b"CLCK"
_FIELDS = struct.Struct("<16sQQQ")


class ClockReading(NamedTuple):
    """One instant, told by three clocks."""

    boot_id: bytes
    boot_ns: int
    """Since that boot."""
    log_ns: int
    """By the log clock."""
    wall_ns: int
    """By the wall clock, which anybody may set."""


def encode_clock_slot(sequence: int, reading: ClockReading) -> bytes:
    """Bytes of one slot."""
    return encode_slot(_KIND, sequence, _FIELDS.pack(*reading)).ljust(SECTOR_BYTES, b"\0")


def decode_clock(data: bytes) -> tuple[int, ClockReading] | None:
    """Sequence and value of the newest valid slot in the bytes of a whole ``log.lock``."""
    slot = newest_slot(_KIND, *(data[at : at + SECTOR_BYTES] for at in CLOCK_OFFSETS))
    if slot is None or len(slot.payload) != _FIELDS.size:
        return None
    return slot.sequence, ClockReading(*_FIELDS.unpack(slot.payload))
