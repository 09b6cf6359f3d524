"""Reading one segment: frames that prove themselves, and what is damaged between them.

The three outcomes for bytes are decided here and nowhere else: a valid frame; damage, skipped to the next frame that
proves itself; and the torn tail, damage that nothing valid follows. Reads are copies (``pread``): a file that is cut
or a sector that cannot be read is an error value here, where a map would kill the process.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import NamedTuple

from comet_storage._format.checksum import crc32_keeping_gil
from comet_storage._format.compression import decompressed_body
from comet_storage._format.footer import HEAD_BYTES, decode_footer, points_bytes
from comet_storage._format.frame import (
    CODEC_MAX,
    CODEC_ZSTD,
    KIND_OFFSET,
    MARKER_OFFSET,
    FrameHeader,
    decode_header,
    marker,
)
from comet_storage._format.limits import FRAME_ALIGNMENT, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES
from comet_storage._format.segment_header import SegmentHeader, decode_segment_header
from comet_storage._os.door import Door, MappedFile

READ_BYTES = 256 * 1024
CHECKED_ALWAYS_BYTES = 4096
"""Bodies up to this size are checked however much was checked in vain before."""


class Frame(NamedTuple):
    """A frame whose header and body both proved themselves."""

    offset: int
    header: FrameHeader
    body: memoryview
    """Decompressed, unless with a codec that this release does not know."""


class Damage(NamedTuple):
    """Bytes that hold no provable frame."""

    offset: int
    end: int
    next_number: int | None
    """The number that follows the damaged frame where its header still tells, else None."""


class SegmentFile:
    """One open segment."""

    def __init__(self, door: Door, path: str) -> None:
        self._door = door
        self.path = path
        self.fd = door.open(path)
        self.mapping: weakref.ref[MappedFile] | None = None
        try:
            self.header: SegmentHeader | None = decode_segment_header(self.read(SEGMENT_HEADER_BYTES, 0))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self._door.close(fd)

    def size(self) -> int:
        """Size of the file now, in bytes."""
        return self._door.descriptor_status(self.fd).size

    def is_linked(self) -> bool:
        """Whether the file still has a name."""
        return self._door.descriptor_status(self.fd).links > 0

    def footer(self, end: int, salt: int) -> list[tuple[int, int]]:
        """Points (entry number, offset) of the sparse index behind the frames, empty where there is none."""
        head = self.read(HEAD_BYTES, end)
        rest = min(points_bytes(head), self.size())
        found = decode_footer(head + self.read(rest, end + len(head)), salt)
        return found[0] if found else []

    def walk(self, offset: int, end: int, number: int) -> Iterator[Frame | Damage]:
        """Frames and damages of ``[offset, end)`` in order.

        Args:
            offset: where a frame is expected to start.
            end: no byte at or behind it is looked at.
            number: the lowest entry number that the next frame can have.
        """
        if self.header is None:
            yield Damage(offset, end, None)
            return
        walker = _Walker(self, self.header.salt, end)
        while offset < end:
            found = walker.at(offset, number)
            yield found
            if isinstance(found, Frame):
                offset += found.header.size
                number = found.header.first_entry + found.header.count
            else:
                offset = found.end
                number = found.next_number or number

    def read(self, size: int, offset: int) -> bytes:
        """Bytes as far as there are any; a sector that cannot be read is as good as one that is not there."""
        try:
            return self._door.read(self.fd, size, offset)
        except OSError:
            return b""


class _Walker:
    """The state of one walk: a window of bytes, and how much was checked in vain."""

    def __init__(self, segment: SegmentFile, salt: int, end: int) -> None:
        self._read = segment.read
        self._salt = salt
        self._end = end
        self._window = b""
        self._window_start = 0
        self._found: tuple[int, FrameHeader] | None = None
        self._failed_bytes = 0
        self._budget: int | None = None

    def at(self, offset: int, number: int) -> Frame | Damage:
        """What is at ``offset``."""
        header = self._header(offset, number)
        if header is None:
            return self._search(offset, offset + FRAME_ALIGNMENT, number)
        following = header.first_entry + header.count
        overdrawn = self._budget is not None and self._failed_bytes > self._budget
        if overdrawn and header.body_length > CHECKED_ALWAYS_BYTES and not self._coherent(offset, header):
            # Many long false lengths: checking each would read the same bytes again and again.
            return self._search(offset, offset + FRAME_ALIGNMENT, number)
        body = self._bytes(offset + FRAME_HEADER_BYTES, header.body_length)
        if len(body) == header.body_length and crc32_keeping_gil(body, self._salt) == header.body_crc:
            if header.codec != CODEC_ZSTD:
                return Frame(offset, header, body)
            content = decompressed_body(header, body)
            # The length is right, so that only this frame is given up.
            return (
                Damage(offset, offset + header.size, following) if content is None else Frame(offset, header, content)
            )
        if self._budget is None:
            self._budget = self._end - offset
        self._failed_bytes += header.body_length
        if self._coherent(offset, header):
            return Damage(offset, offset + header.size, following)
        return self._search(offset, offset + FRAME_ALIGNMENT, number)

    def _header(self, offset: int, number: int) -> FrameHeader | None:
        if self._found is not None and self._found[0] == offset:
            return self._found[1]
        data = self._bytes(offset, FRAME_HEADER_BYTES)
        if len(data) < FRAME_HEADER_BYTES:
            return None
        header = decode_header(data, 0, self._salt, offset)
        return header if header is not None and self._fits(offset, header, number) else None

    def _fits(self, offset: int, header: FrameHeader, number: int) -> bool:
        """Whether the frame is in order and all of it, but for its padding, is there."""
        return header.first_entry >= number and offset + FRAME_HEADER_BYTES + header.body_length <= self._end

    def _coherent(self, offset: int, header: FrameHeader) -> bool:
        """Whether the frame's length leads to the end or to its successor, so that only its body is damaged."""
        following = offset + header.size
        if following >= self._end:
            return True
        at = following - self._window_start
        data: bytes | memoryview = self._window[at : at + FRAME_HEADER_BYTES] if at >= 0 else b""
        if len(data) < FRAME_HEADER_BYTES:
            data = self._read(FRAME_HEADER_BYTES, following)
        number = header.first_entry + header.count
        if data[MARKER_OFFSET : MARKER_OFFSET + 4] != marker(self._salt, number) or len(data) < FRAME_HEADER_BYTES:
            return False
        successor = decode_header(data, 0, self._salt, following)
        return successor is not None and successor.first_entry == number

    def _bytes(self, offset: int, size: int) -> memoryview:
        """Bytes from the window, which moves when it must; fewer where the file ends."""
        start = offset - self._window_start
        if start < 0 or start + size > len(self._window):
            want = min(max(size, READ_BYTES), self._end - offset)
            self._window = self._read(want, offset)
            self._window_start, start = offset, 0
        return memoryview(self._window)[start : start + size]

    def _search(self, damage: int, offset: int, number: int) -> Damage:
        """The damage from ``damage`` up to the next header that proves itself at or behind ``offset``.

        Each byte is searched once, at the speed of ``bytes.find``, and only what looks like a header is checked.
        """
        marks = {marker(self._salt, number), marker(self._salt, number + self._end)}
        while len(self._bytes(offset, FRAME_HEADER_BYTES)) == FRAME_HEADER_BYTES:
            window, start = self._window, self._window_start
            found = [self._first_header(window, offset - start, mark, number) for mark in marks]
            candidates = [candidate for candidate in found if candidate is not None]
            if candidates:
                self._found = min(candidates)
                return Damage(damage, self._found[0], None)
            # Overlap by less than one header, so that none is cut in two.
            offset = start + len(window) - FRAME_HEADER_BYTES + FRAME_ALIGNMENT
            offset -= offset % FRAME_ALIGNMENT
        return Damage(damage, self._end, None)

    def _first_header(self, window: bytes, at: int, mark: bytes, number: int) -> tuple[int, FrameHeader] | None:
        """The first header with ``mark`` that proves itself at or behind ``window[at:]``, and its offset."""
        start, last = self._window_start, len(window) - FRAME_HEADER_BYTES
        while True:
            at = window.find(mark, at + MARKER_OFFSET) - MARKER_OFFSET
            if not 0 <= at <= last:
                return None
            beside = (start + at) % FRAME_ALIGNMENT
            if beside:
                at += FRAME_ALIGNMENT - beside
                continue
            # No flags, but any codec, known or not: a cheap look at one byte before the check.
            if window[at + KIND_OFFSET] <= CODEC_MAX:
                header = decode_header(window, at, self._salt, start + at)
                if header is not None and self._fits(start + at, header, number):
                    return start + at, header
            at += FRAME_ALIGNMENT
