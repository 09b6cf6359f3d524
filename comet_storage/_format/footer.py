"""The sparse index behind the last frame of a closed segment. A hint: never needed, never trusted without its check.

    0  8s "COMETIDX"    8 u32 points    12 u32 CRC-32 of all that follows    16 u64 end entry    24 points
    point: u64 entry number, u64 offset in the segment of the frame that starts with it

It starts with a non-zero word, so a writer that still believes in the segment finds its tail used.
"""

from __future__ import annotations

import struct

from comet_storage._format.checksum import crc32

MAGIC = b"COMETIDX"
HEAD_BYTES = 24

_HEAD = struct.Struct("<8sIIQ")


def encode_footer(points: list[tuple[int, int]], end_entry: int, salt: int) -> bytes:
    """Bytes of a footer: points in rising order, and the number behind the segment's last entry."""
    tail = struct.pack(f"<Q{2 * len(points)}Q", end_entry, *(value for point in points for value in point))
    return MAGIC + struct.pack("<II", len(points), crc32(tail, salt)) + tail


def points_bytes(head: bytes) -> int:
    """Bytes of the points behind the head of a footer; 0 for anything else."""
    return 16 * _HEAD.unpack(head)[1] if len(head) == HEAD_BYTES and head[:8] == MAGIC else 0


def decode_footer(data: bytes, salt: int) -> tuple[list[tuple[int, int]], int] | None:
    """Points and end entry, or None when the bytes do not prove themselves."""
    if len(data) < HEAD_BYTES or data[:8] != MAGIC:
        return None
    _, count, check, end_entry = _HEAD.unpack_from(data)
    end = HEAD_BYTES + 16 * count
    if end > len(data) or check != crc32(data[16:end], salt):
        return None
    values = struct.unpack_from(f"<{2 * count}Q", data, HEAD_BYTES)
    return list(zip(values[::2], values[1::2], strict=True)), end_entry
