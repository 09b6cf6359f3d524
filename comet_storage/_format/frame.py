"""One frame: the entries of one append call, and the checks that prove it (docs/disk-format.md, "Frame").

Header, little endian, 32 bytes:

    0  u32 body length          16 u64 wall clock, nanoseconds
    4  u32 CRC-32 of the body   24 u32 entry count (bits 0-23), codec (24-27), flags (28-31)
    8  u64 first entry number   28 u32 CRC-32 of bytes 0-27
           XOR (salt << 32)

The body's CRC starts from the segment's salt, the header's from the salt XOR the frame's offset in the segment: bytes
inside a payload, and copies of other frames, cannot pose as a frame. Because of the XOR, bytes 12-15 are the salt in
every frame of a segment (until number 2**32), so that the next frame after a damage can be searched for at C speed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from comet_storage._format.checksum import crc32, crc32_keeping_gil
from comet_storage._format.limits import ENTRY_LENGTH_BYTES, FRAME_HEADER_BYTES, aligned
from comet_storage.errors import UnsupportedFormatError

CODEC_RAW = 0
CODEC_ZSTD = 1
MARKER_OFFSET = 12
"""Where in a header the four bytes of :func:`marker` are."""
COUNT_OFFSET = 24
"""Where in a header count, codec and flags are."""
KIND_OFFSET = 27
"""Where in a header the byte with codec and flags is."""
CODEC_SHIFT = 24
CODEC_MAX = 0xF

pack_head = struct.Struct("<IIQQI").pack
"""The first 28 bytes, with the number XORed with the :func:`mark`."""

pack_check = struct.Struct("<I").pack
_unpack_header = struct.Struct("<IIQQII").unpack_from


class FramePackers(dict[int, Callable[[bytes, int, bytes], bytes]]):
    """By the length of a body, what makes a frame of its first 28 bytes, its check and the body, in one step."""

    def __missing__(self, length: int) -> Callable[[bytes, int, bytes], bytes]:
        packer = self[length] = struct.Struct(f"<{FRAME_HEADER_BYTES - 4}sI{length}s").pack
        return packer


frame_packers = FramePackers()
"""For short bodies: there is one for each length that was ever asked for."""


class FrameHeader(NamedTuple):
    """A header that proved itself."""

    body_length: int
    body_crc: int
    first_entry: int
    timestamp: int
    count: int  # type: ignore[assignment]  # entries of the frame; hides tuple.count, which nobody needs here
    codec: int

    @property
    def size(self) -> int:
        """Bytes of the whole frame, padding included."""
        return aligned(FRAME_HEADER_BYTES + self.body_length)


def encode_frame(first_entry: int, timestamp: int, entries: list[bytes], salt: int, offset: int) -> bytes:
    """Bytes of a raw frame with its padding. The append path builds the same bytes in place."""
    lengths = b"" if len(entries) == 1 else struct.pack(f"<{len(entries)}I", *map(len, entries))
    body = lengths + b"".join(entries)
    head = pack_head(
        len(body),
        crc32_keeping_gil(body, salt),
        first_entry ^ mark(salt),
        timestamp,
        len(entries) | CODEC_RAW << CODEC_SHIFT,
    )
    frame = head + pack_check(crc32(head, salt ^ offset)) + body
    return frame.ljust(aligned(len(frame)), b"\0")


def decode_header(buffer: bytes | memoryview, at: int, salt: int, offset: int) -> FrameHeader | None:
    """The header at ``buffer[at:]`` of the frame at ``offset`` in its segment, or None if it does not prove itself."""
    body_length, body_crc, number, timestamp, kind, check = _unpack_header(buffer, at)
    if check != crc32(buffer[at : at + FRAME_HEADER_BYTES - 4], salt ^ offset):
        return None
    count = kind & 0xFFFFFF
    codec = kind >> CODEC_SHIFT & CODEC_MAX
    if count == 0 or (codec == CODEC_RAW and count > 1 and count * ENTRY_LENGTH_BYTES > body_length):
        return None
    return FrameHeader(body_length, body_crc, number ^ mark(salt), timestamp, count, codec)


def mark(salt: int) -> int:
    """What an entry number is XORed with where it is stored."""
    return salt << 32


def marker(salt: int, number: int) -> bytes:
    """The four bytes at MARKER_OFFSET of every frame whose numbers have the same upper half as ``number``."""
    return pack_check(salt ^ (number >> 32))


def entry_bounds(header: FrameHeader, body: bytes | memoryview) -> Sequence[int] | None:
    """Where the entries inside a body as codec 0 has it begin, in order, and where the last one ends.

    A range if all are of one size. None when the lengths do not add up to the body.

    Raises:
        UnsupportedFormatError: a codec that a later release added; the entries are whole, and not for this one.
    """
    if header.codec > CODEC_ZSTD:
        raise UnsupportedFormatError(
            f"entries {header.first_entry} to {header.first_entry + header.count - 1} are stored with codec "
            f"{header.codec}, which this release does not know; they stay where they are: read them with a newer one"
        )
    if header.count == 1:
        return [0, len(body)]
    lengths = struct.unpack_from(f"<{header.count}I", body)
    start = ENTRY_LENGTH_BYTES * header.count
    if lengths[0] and lengths.count(lengths[0]) == header.count:
        bounds: Sequence[int] = range(start, start + lengths[0] * header.count + 1, lengths[0])
    else:
        bounds = list(accumulate(lengths, initial=start))
    return bounds if bounds[-1] == len(body) else None
