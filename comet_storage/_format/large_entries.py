"""Frames of one large entry each, one behind the other, decoded for who wants many of them at once.

Exporters make such frames: a batch of spans is one entry. Beside the checksum, and zstd's work, a frame costs little
here, and a raw entry is not copied: it is a view of what was read.
"""

from __future__ import annotations

from zstandard import ZstdDecompressor

from comet_storage._format.checksum import crc32
from comet_storage._format.compression import decompressed_body
from comet_storage._format.frame import CODEC_RAW, CODEC_ZSTD, decode_header
from comet_storage._format.limits import FRAME_HEADER_BYTES
from comet_storage._format.single_entries import SMALL_BODY_BYTES_MAX, Columns

CONTENT_BYTES = 512 * 1024
"""Decompressed bytes after which a run of frames ends: what is not wanted of it is kept for the next read."""


def decode_large_entries(
    window: bytes, at: int, offset: int, number: int, limit: int, salt: int, decompressor: ZstdDecompressor
) -> Columns:
    """The frames at ``window[at:]``, up to the first that is not whole, not of one entry, in doubt, or small and raw.

    Args:
        window: bytes of a segment; nothing behind them is looked at.
        at: where in it the first frame begins.
        offset: the same place as an offset in the segment.
        number: the entry number that the first frame must have.
        limit: the most frames.
        salt: the segment's.
        decompressor: one that no other thread uses.
    """
    view, shift, start = memoryview(window), offset - at, at
    entries: list[bytes] = []
    timestamps: list[int] = []
    size = 0
    while len(entries) < limit and size < CONTENT_BYTES and at + FRAME_HEADER_BYTES <= len(window):
        header = decode_header(view, at, salt, at + shift)
        if header is None or header.count != 1 or header.first_entry != number:
            break
        body = at + FRAME_HEADER_BYTES
        content = view[body : body + header.body_length]
        if len(content) < header.body_length or crc32(content, salt) != header.body_crc:
            break
        if header.codec == CODEC_ZSTD:
            found = decompressed_body(header, content, decompressor)
            if found is None:
                break
            entries.append(found.obj)  # type: ignore[arg-type]  # bytes, of which it is a view
        elif header.codec == CODEC_RAW and header.body_length > SMALL_BODY_BYTES_MAX:
            entries.append(content)  # type: ignore[arg-type]  # as StreamMessage has it
        else:
            break
        timestamps.append(header.timestamp)
        size += len(entries[-1])
        at += header.size
        number += 1
    # The padding of the last frame may lie behind the window.
    return Columns(entries, timestamps, size, at - start)
