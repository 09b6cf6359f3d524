"""A long backlog made in a second: sealed segments with right headers, frames and indexes, most of each file a hole."""

from __future__ import annotations

import os
from pathlib import Path

from comet_storage import Client, CometConfig, CompressionConfig, RetentionConfig, StorageConfig
from comet_storage._format.checksum import crc32, crc32_keeping_gil
from comet_storage._format.footer import encode_footer
from comet_storage._format.frame import encode_frame, mark, pack_check, pack_head
from comet_storage._format.limits import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, aligned
from comet_storage._format.segment_header import SegmentHeader

SHARD = "backlog:v1:shard:0000"
STREAM = "backlog:v1"
SEGMENT_BYTES = 4 << 20
SMALL_ENTRIES = 100
SMALL_ENTRY_BYTES = 115
HOLES = 3
"""Entries of zeros, each one frame and a hole in the file."""
HOLE_BYTES = (SEGMENT_BYTES - 64 * 1024) // HOLES
ENTRIES = SMALL_ENTRIES + HOLES
"""Entries of each segment."""
SALT = 0x5EED5A17

CONFIG = CometConfig(
    compression=CompressionConfig(codec="none"),
    storage=StorageConfig(max_file_size=SEGMENT_BYTES, sync_interval=300.0),
    retention=RetentionConfig(max_total_size=1 << 40),
)


def build(directory: Path, segments: int) -> None:
    """Make a log with so many sealed segments, and an active one with one entry, closed cleanly."""
    client = Client(directory, CONFIG)
    log_id = client._settings.log_id  # noqa: SLF001 - what the headers must say
    client.close()
    shard = directory / "backlog/v1/shard-0000"
    for parent in (directory / "backlog", directory / "backlog/v1", shard):
        parent.mkdir(mode=0o700)
    zeros_crc = crc32_keeping_gil(bytes(HOLE_BYTES), SALT)
    position = 0
    for index in range(segments):
        position += _write(shard, index * ENTRIES, position, log_id, zeros_crc)
    with Client(directory, CONFIG) as client:
        client.append(SHARD, [b"the active segment"])


def _write(shard: Path, first: int, position: int, log_id: bytes, zeros_crc: int) -> int:
    """Write one segment and return the bytes of its frames."""
    header = SegmentHeader(log_id, SALT, first, position, first, 0, SEGMENT_BYTES, 0, SHARD)
    small = [first.to_bytes(8, "little") * 15] * SMALL_ENTRIES
    offset = SEGMENT_HEADER_BYTES
    fd = os.open(shard / f"{first:020d}.segment", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        start = header.encode() + encode_frame(first, 1, [entry[:SMALL_ENTRY_BYTES] for entry in small], SALT, offset)
        os.pwrite(fd, start, 0)
        points = [(first, offset)]
        number, offset = first + SMALL_ENTRIES, len(start)
        for _ in range(HOLES):
            head = pack_head(HOLE_BYTES, zeros_crc, number ^ mark(SALT), 1, 1)
            os.pwrite(fd, head + pack_check(crc32(head, SALT ^ offset)), offset)
            points.append((number, offset))
            number, offset = number + 1, offset + aligned(FRAME_HEADER_BYTES + HOLE_BYTES)
        os.pwrite(fd, encode_footer(points, number, SALT), offset)
    finally:
        os.close(fd)
    return offset - SEGMENT_HEADER_BYTES
