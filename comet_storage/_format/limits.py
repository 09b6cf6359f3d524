"""Sizes of the disk format and how they must relate (docs/disk-format.md)."""

from __future__ import annotations

FORMAT_MAJOR = 1
FORMAT_MINOR = 0

FRAME_ALIGNMENT = 8
FRAME_HEADER_BYTES = 32
ENTRY_LENGTH_BYTES = 4
FRAME_ENTRIES_MAX = (1 << 24) - 1
FRAME_CONTENT_BYTES_MAX = (256 << 20) + ENTRY_LENGTH_BYTES * (FRAME_ENTRIES_MAX + 1)
"""Lengths and payloads of one frame before compression; what claims to be more is damaged, and no memory is taken."""

SECTOR_BYTES = 512
"""The unit that a disk writes whole; records that must not tear together are in separate sectors."""
SEGMENT_HEADER_BYTES = 2 * SECTOR_BYTES
PAGE_BYTES = 4096
GROUP_SLOTS = 4
"""The newest record, the one that is known to be durable, one that is just being synced, and one to write to."""
GROUP_SLOT_BYTES = 2 * SECTOR_BYTES
GROUP_FILE_BYTES = GROUP_SLOTS * GROUP_SLOT_BYTES
GROUP_RANGES_MAX = 64
GROUP_RANGE_BYTES = 14

INDEX_INTERVAL_BYTES = 64 * 1024
"""Distance of the points of a segment's sparse index."""


def aligned(size: int) -> int:
    """Round up to the frame alignment."""
    return (size + FRAME_ALIGNMENT - 1) & -FRAME_ALIGNMENT


if not (
    FRAME_HEADER_BYTES % FRAME_ALIGNMENT == 0
    and SEGMENT_HEADER_BYTES % FRAME_ALIGNMENT == 0
    and GROUP_FILE_BYTES <= PAGE_BYTES
    and GROUP_RANGES_MAX * GROUP_RANGE_BYTES + 96 <= GROUP_SLOT_BYTES
):
    raise RuntimeError("the sizes of the disk format contradict each other")
