"""Frames that no writer makes, with checksums that are right, in the place of one that a writer made."""

from __future__ import annotations

from comet_storage._format.checksum import crc32
from comet_storage._format.frame import CODEC_SHIFT, mark, pack_check, pack_head
from comet_storage._format.limits import FRAME_HEADER_BYTES, aligned
from comet_storage._segment.file import SegmentFile
from tests.support.small_log import QUICK, KnownFrame, overwrite


def segment_salt(frame: KnownFrame) -> int:
    """Where the checksums of the frame's segment start."""
    segment = SegmentFile(QUICK, str(frame.path))
    segment.close()
    assert segment.header is not None
    return segment.header.salt


def forge(frame: KnownFrame, body: bytes, codec: int) -> None:
    """Give a stored frame another body of the same size, to the next multiple of eight, and a codec."""
    assert aligned(FRAME_HEADER_BYTES + len(body)) == frame.end - frame.offset
    salt = segment_salt(frame)
    head = pack_head(
        len(body),
        crc32(body, salt),
        frame.first ^ mark(salt),
        1,
        frame.count | codec << CODEC_SHIFT,
    )
    overwrite(frame.path, frame.offset, head + pack_check(crc32(head, salt ^ frame.offset)) + body)
