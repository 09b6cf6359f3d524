"""Checksummed slots, of which one update replaces an older one, so a torn update leaves the newer intact.

Slot: kind (4 bytes), payload length u32, sequence u64, payload, CRC-32 of all that precedes it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from comet_storage._format.checksum import crc32

_HEAD = struct.Struct("<4sIQ")
_CHECK = struct.Struct("<I")
SLOT_OVERHEAD_BYTES = _HEAD.size + _CHECK.size


class Slot(NamedTuple):
    """A slot that proved itself."""

    sequence: int
    payload: bytes


def encode_slot(kind: bytes, sequence: int, payload: bytes) -> bytes:
    """Bytes of one slot."""
    body = _HEAD.pack(kind, len(payload), sequence) + payload
    return body + _CHECK.pack(crc32(body, 0))


def decode_slot(kind: bytes, data: bytes) -> Slot | None:
    """The slot in ``data``, or None when it is empty, torn or of another kind."""
    if len(data) < SLOT_OVERHEAD_BYTES:
        return None
    found, length, sequence = _HEAD.unpack_from(data)
    end = _HEAD.size + length
    if found != kind or end + _CHECK.size > len(data):
        return None
    if _CHECK.unpack_from(data, end)[0] != crc32(data[:end], 0):
        return None
    return Slot(sequence, bytes(data[_HEAD.size : end]))


def newest_slot(kind: bytes, *places: bytes) -> Slot | None:
    """The valid slot with the largest sequence, or None when none is valid."""
    slots = [slot for slot in (decode_slot(kind, place) for place in places) if slot is not None]
    return max(slots, default=None)
