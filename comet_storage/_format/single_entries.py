"""Frames of one raw entry each, one behind the other, decoded and checked as columns.

An application that appends entry by entry makes a frame of each, and a reader would spend most of its time on making
objects of their headers. Here a frame costs two slices, one checksum and no object but its entry.

One checksum proves header and body. Let ``R`` be the CRC-32 of any bytes followed by their own CRC-32 in little endian:
it is the same constant whatever the bytes are and wherever the checksum started. So if the header's check holds, the
checksum of header and body together, started as the header's is, equals the checksum of the body started from ``R``.
CRC-32 is affine, so this differs from the checksum of the body started from the salt (which the header holds) by a
number that depends on the body's length alone. Whatever is changed in the header or in the body changes the one side
and not the other, as with any CRC-32.
"""

from __future__ import annotations

import struct
from array import array
from itertools import chain, repeat
from operator import xor
from typing import NamedTuple

from comet_storage._format.checksum import GIL_KEEPING_BYTES, crc32
from comet_storage._format.frame import CODEC_RAW, COUNT_OFFSET, MARKER_OFFSET, marker
from comet_storage._format.limits import FRAME_ALIGNMENT, FRAME_HEADER_BYTES, aligned

RESIDUE = 0x2144DF1C
"""CRC-32 of any bytes followed by their own CRC-32."""

_KIND = 1 | CODEC_RAW << 24
"""One entry, raw, no flags."""
_KIND_BYTES = _KIND.to_bytes(4, "little")
_RUN_MIN = 8
SMALL_BODY_BYTES_MAX = GIL_KEEPING_BYTES - FRAME_HEADER_BYTES
_head = struct.Struct("<III4xQI").unpack_from


class Deltas(dict[int, int]):
    """By body length, how the checksum of a body from the residue differs from that from the salt."""

    def __init__(self, salt: int) -> None:
        super().__init__()
        self.salt = salt

    def __missing__(self, length: int) -> int:
        if length > SMALL_BODY_BYTES_MAX:
            raise KeyError(length)
        zeros = bytes(length)
        delta = self[length] = crc32(zeros, self.salt) ^ crc32(zeros, RESIDUE)
        return delta


class Columns(NamedTuple):
    """Entries that proved themselves, their bytes, and those that their frames take."""

    entries: list[bytes]
    timestamps: list[int]
    entry_bytes: int
    size: int


_NOTHING = Columns([], [], 0, 0)


def decode_single_entries(window: bytes, at: int, offset: int, number: int, limit: int, deltas: Deltas) -> Columns:
    """The frames at ``window[at:]``, up to the first that is not whole, not a single raw entry, or out of order.

    Args:
        window: bytes of a segment; nothing behind them is looked at.
        at: where in it the first frame begins.
        offset: the same place as an offset in the segment.
        number: the entry number that the first frame must have.
        limit: the most frames.
        deltas: of the segment's salt.
    """
    # The half of the number that is stored with the salt does not change within a segment; here, within a run.
    limit = min(limit, (1 << 32) - (number & 0xFFFFFFFF))
    if window[at + MARKER_OFFSET : at + MARKER_OFFSET + 4] != marker(deltas.salt, number):
        return _NOTHING
    if window[at + COUNT_OFFSET : at + COUNT_OFFSET + 4] != _KIND_BYTES:
        return _NOTHING
    if int.from_bytes(window[at : at + 4], "little") > SMALL_BODY_BYTES_MAX:
        return _NOTHING
    return _of_one_size(window, at, offset, number, limit, deltas) or _of_any_size(
        window, at, offset, number, limit, deltas
    )


def _of_one_size(window: bytes, at: int, offset: int, number: int, limit: int, deltas: Deltas) -> Columns | None:
    """A run of frames of the same size, as applications make with records of a fixed size; None where there is none.

    Each field is at the same distance from the one before, so that all of a kind are had in one step.
    """
    length = int.from_bytes(window[at : at + 4], "little")
    stride = aligned(FRAME_HEADER_BYTES + length)
    count = min(limit, (len(window) - at) // stride)
    if count < _RUN_MIN:
        return None
    halves = memoryview(window)[at : at + count * stride].cast("I")
    step = stride // halves.itemsize
    lengths = halves[::step].tolist()
    if lengths.count(length) != count:
        count = next(index for index, other in enumerate(lengths) if other != length)
        if count < _RUN_MIN:
            return None
        halves = halves[: count * step]
    low = number & 0xFFFFFFFF
    if halves[6::step].tolist().count(_KIND) != count or halves[2::step].tolist() != list(range(low, low + count)):
        return None
    view = halves.cast("B")
    padding = stride - FRAME_HEADER_BYTES - length
    checked = chain.from_iterable(struct.iter_unpack(f"<{FRAME_HEADER_BYTES + length}s{padding}x", view))
    starts = map(xor, range(offset, offset + count * stride, stride), repeat(deltas.salt))
    # All differences at once, as two long numbers.
    found = int.from_bytes(array("I", map(crc32, checked, starts)).tobytes(), "little")
    stored = int.from_bytes(halves[1::step].tobytes(), "little")
    if found ^ stored != int.from_bytes(deltas[length].to_bytes(4, "little") * count, "little"):
        return None
    entries = chain.from_iterable(struct.iter_unpack(f"<{FRAME_HEADER_BYTES}x{length}s{padding}x", view))
    timestamps = view.cast("Q")[2 :: stride // 8].tolist()
    return Columns(list(entries), timestamps, count * length, count * stride)


def _of_any_size(window: bytes, at: int, offset: int, number: int, limit: int, deltas: Deltas) -> Columns:
    salt, check, available = deltas.salt, crc32, len(window)
    start = at
    shift = offset - at
    low = number & 0xFFFFFFFF
    entries: list[bytes] = []
    timestamps: list[int] = []
    add_entry, add_timestamp = entries.append, timestamps.append
    try:
        for expected in range(low, low + limit):
            length, body_check, found, timestamp, kind = _head(window, at)
            body = at + FRAME_HEADER_BYTES
            end = body + length
            if (
                end > available
                or check(window[at:end], salt ^ at + shift) ^ deltas[length] != body_check
                or found != expected
                or kind != _KIND
            ):
                break
            add_entry(window[body:end])
            add_timestamp(timestamp)
            at = end + (FRAME_ALIGNMENT - 1) & -FRAME_ALIGNMENT
    except (struct.error, KeyError):
        # The end of the window, or a body that has to be checked in slices.
        pass
    return Columns(entries, timestamps, sum(map(len, entries)), at - start)
