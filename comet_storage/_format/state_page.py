"""Layout of a shard's state page: 4096 bytes, mapped and shared (docs/disk-format.md, "State page").

sector 0   hot words, each stored by one machine store (u64)
sector 1-2 identity slots: who claimed the shard last, in which boot
sector 3-4 durable slots: up to where everything is on the disk, and the number ceiling
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from comet_storage._format.limits import SECTOR_BYTES
from comet_storage._format.slots import decode_slot, encode_slot, newest_slot

PAGE_MAGIC = int.from_bytes(b"COMETPAG", "little")

# Indexes of the hot words.
PUBLISHED = 0
"""Log position below which entries can be read. The only word that readers must believe."""
HINT_NUMBER = 1
"""Next entry number as of HINT_POSITION; stored before it, so a match of both is consistent."""
HINT_POSITION = 2
GENERATION = 3
"""Raised by each claim. A writer that finds another one has lost the shard."""
ACTIVE_SEGMENT = 4
"""First entry of the segment that is being written. A hint for readers."""
MAGIC_WORD = 5
CEILING = 6
"""Number ceiling that is durable by now."""
ALLOCATED = 7
"""Offset in the active segment up to which blocks are allocated."""

IDENTITY_OFFSETS = (1 * SECTOR_BYTES, 2 * SECTOR_BYTES)
DURABLE_OFFSETS = (3 * SECTOR_BYTES, 4 * SECTOR_BYTES)
_IDENTITY_KIND = b"IDNT"
_DURABLE_KIND = b"DURA"

_IDENTITY = struct.Struct("<Q16sQQ")
_DURABLE = struct.Struct("<QQQ")


class Identity(NamedTuple):
    """Under which circumstances the page was last claimed."""

    generation: int
    boot_id: bytes
    device: int
    inode: int


class Durable(NamedTuple):
    """What has reached the disk."""

    position: int
    number: int
    """First entry number behind ``position``."""
    ceiling: int
    """No number at or above it was given out. Equal to ``number`` after a clean close."""


def encode_identity(sequence: int, identity: Identity) -> bytes:
    """Bytes of an identity slot."""
    return encode_slot(_IDENTITY_KIND, sequence, _IDENTITY.pack(*identity))


def encode_durable(sequence: int, durable: Durable) -> bytes:
    """Bytes of a durable slot."""
    return encode_slot(_DURABLE_KIND, sequence, _DURABLE.pack(*durable))


def decode_identity(page: bytes) -> tuple[int, Identity] | None:
    """Sequence and value of the newest valid identity slot of a whole page."""
    slot = newest_slot(_IDENTITY_KIND, *(page[at : at + SECTOR_BYTES] for at in IDENTITY_OFFSETS))
    if slot is None or len(slot.payload) != _IDENTITY.size:
        return None
    return slot.sequence, Identity(*_IDENTITY.unpack(slot.payload))


def decode_durable(page: bytes) -> tuple[int, Durable] | None:
    """Sequence and value of the newest valid durable slot of a whole page."""
    slot = newest_slot(_DURABLE_KIND, *(page[at : at + SECTOR_BYTES] for at in DURABLE_OFFSETS))
    if slot is None or len(slot.payload) != _DURABLE.size:
        return None
    return slot.sequence, Durable(*_DURABLE.unpack(slot.payload))


def decode_ceiling(slot: bytes) -> int:
    """Number ceiling of one durable slot kept elsewhere (the lock file), 0 when it does not prove itself."""
    found = decode_slot(_DURABLE_KIND, slot)
    return Durable(*_DURABLE.unpack(found.payload)).ceiling if found and len(found.payload) == _DURABLE.size else 0
