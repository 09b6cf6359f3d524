"""Bodies of frames with codec 1, zstd (docs/disk-format.md, "Frame")."""

from __future__ import annotations

import struct

import zstandard

from comet_storage._format.frame import FrameHeader
from comet_storage._format.limits import ENTRY_LENGTH_BYTES, FRAME_CONTENT_BYTES_MAX


def decompressed_body(
    header: FrameHeader, body: bytes | memoryview, decompressor: zstandard.ZstdDecompressor
) -> memoryview | None:
    """The lengths and payloads that a body stands for, or None if it stands for nothing that can be right.

    The size is looked at before any memory is taken: a few stored bytes can claim gigabytes.

    Args:
        header: the frame's.
        body: as stored.
        decompressor: one that no other thread uses; a new one for each body would cost a tenth of the work.
    """
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= FRAME_CONTENT_BYTES_MAX:
            return None
        content = decompressor.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError:
        return None
    return memoryview(content) if len(content) == size and _lengths_add_up(header.count, content) else None


def _lengths_add_up(count: int, content: bytes) -> bool:
    if count == 1:
        return True
    payloads = len(content) - ENTRY_LENGTH_BYTES * count
    return payloads >= 0 and sum(struct.unpack_from(f"<{count}I", content)) == payloads
