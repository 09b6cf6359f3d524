"""The first 1024 bytes of a segment: the same header twice, each copy in its own sector with its own checksum."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from comet_storage._format.checksum import crc32
from comet_storage._format.limits import FORMAT_MAJOR, FORMAT_MINOR, SECTOR_BYTES, SEGMENT_HEADER_BYTES
from comet_storage.errors import UnsupportedFormatError

MAGIC = b"COMETSEG"

_FIELDS = struct.Struct("<8sHHI16sIIQQQQQQQ")
_NAME = struct.Struct("<H")
_CHECK = struct.Struct("<I")
_NAME_OFFSET = 128


@dataclass(frozen=True)
class SegmentHeader:
    """What a segment says of itself. Written once, never changed."""

    log_id: bytes
    """16 random bytes of the log."""
    salt: int
    """Where the checksums of this segment's frames start."""
    first_entry: int
    """Number of the first entry that this segment can hold; also its file name."""
    base_position: int
    """Position in the shard's log of the segment's first frame. Positions only grow, also over recoveries."""
    lost_from: int
    """Numbers from here up to ``first_entry`` that no frame holds were lost in a power cut, not damaged."""
    lost_total: int
    """Numbers lost before this segment since the shard began."""
    capacity: int
    """Largest size of the file in bytes."""
    created_ns: int
    """Wall clock at creation."""
    shard_name: str
    created_log_ns: int = 0
    """Log clock at creation, at which the segment before it was closed; 0 when it is not known."""

    def encode(self) -> bytes:
        """The 1024 bytes."""
        name = self.shard_name.encode("ascii")
        copy = bytearray(SECTOR_BYTES)
        _FIELDS.pack_into(
            copy,
            0,
            MAGIC,
            FORMAT_MAJOR,
            FORMAT_MINOR,
            SEGMENT_HEADER_BYTES,
            self.log_id,
            self.salt,
            0,
            self.first_entry,
            self.base_position,
            self.lost_from,
            self.lost_total,
            self.capacity,
            self.created_ns,
            self.created_log_ns,
        )
        _NAME.pack_into(copy, _NAME_OFFSET, len(name))
        copy[_NAME_OFFSET + 2 : _NAME_OFFSET + 2 + len(name)] = name
        _CHECK.pack_into(copy, SECTOR_BYTES - 4, crc32(bytes(copy[:-4]), 0))
        return bytes(copy) * 2


def decode_segment_header(data: bytes) -> SegmentHeader | None:
    """The header in the first bytes of a segment, from whichever copy proves itself, or None when neither does.

    Raises:
        UnsupportedFormatError: the segment was written by a newer major version.
    """
    for start in (0, SECTOR_BYTES):
        header = _decode_copy(data[start : start + SECTOR_BYTES])
        if header is not None:
            return header
    return None


def _decode_copy(copy: bytes) -> SegmentHeader | None:
    if len(copy) < SECTOR_BYTES or copy[:8] != MAGIC:
        return None
    if _CHECK.unpack_from(copy, SECTOR_BYTES - 4)[0] != crc32(copy[:-4], 0):
        return None
    _, major, _, _, log_id, salt, _, first, base, lost_from, lost_total, capacity, created, log = _FIELDS.unpack_from(
        copy
    )
    if major != FORMAT_MAJOR:
        raise UnsupportedFormatError(f"segment has format version {major}; this release reads version {FORMAT_MAJOR}")
    (length,) = _NAME.unpack_from(copy, _NAME_OFFSET)
    name = copy[_NAME_OFFSET + 2 : _NAME_OFFSET + 2 + length].decode("ascii", "replace")
    return SegmentHeader(log_id, salt, first, base, lost_from, lost_total, capacity, created, name, log)
