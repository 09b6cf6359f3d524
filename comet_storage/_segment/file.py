"""Reading one segment: frames that prove themselves, and what is damaged between them.

The three outcomes for bytes are decided here and nowhere else: a valid frame; damage, skipped to the next frame that
proves itself; and the torn tail, damage that nothing valid follows. Reads are copies (``pread``): a file that is cut
is a short read here, and a sector that cannot be read an error, where a map would kill the process.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import NamedTuple

from zstandard import ZstdDecompressor

from comet_storage._format.checksum import body_crc32
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
from comet_storage._format.large_entries import decode_large_entries
from comet_storage._format.limits import FRAME_ALIGNMENT, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES
from comet_storage._format.segment_header import SegmentHeader, decode_segment_header
from comet_storage._format.single_entries import Deltas, decode_single_entries
from comet_storage._os.descriptors import LostDescriptorError
from comet_storage._os.door import Door, MappedFile
from comet_storage._segment.unreadable import UNREADABLE_BLOCK_BYTES, UnreadableBlocks

READ_BYTES = 64 * 1024
"""What is read at a time; a reader keeps so much of its segment between two reads."""
BULK_READ_BYTES = 1024 * 1024
"""What is read at a time for who wants a lot of it, and takes views of it."""
PROBE_BYTES = 4096
SINGLE_ENTRY_BYTES = 4096
"""With so much of the window left, a run goes on in it; otherwise the window moves first."""
CHECKED_ALWAYS_BYTES = 4096
"""Bodies up to this size are checked however much was checked in vain before."""


class Frame(NamedTuple):
    """A frame whose header and body both proved themselves."""

    offset: int
    header: FrameHeader
    body: memoryview
    """Decompressed, unless with a codec that this release does not know."""

    @property
    def size(self) -> int:
        """Bytes of the whole frame."""
        return self.header.size

    @property
    def first_entry(self) -> int:
        """Number of its first entry."""
        return self.header.first_entry

    @property
    def end_entry(self) -> int:
        """The number behind its last entry."""
        return self.header.first_entry + self.header.count


class Run(NamedTuple):
    """Frames of one entry each, one behind the other, all of which proved themselves."""

    offset: int
    size: int
    first_entry: int
    entries: list[bytes]
    timestamps: list[int]
    entry_bytes: int

    @property
    def end_entry(self) -> int:
        """The number behind the last entry."""
        return self.first_entry + len(self.entries)


class Damage(NamedTuple):
    """Bytes that hold no provable frame."""

    offset: int
    end: int
    next_number: int | None
    """The number that follows the damaged frame where its header still tells, else None."""


class SegmentFile:
    """One open segment.

    Args:
        unreadable: how often what could not be read before it counts as damaged; until then the error is raised. None
            where a shard has to be recovered whatever the disk does: then it counts at once.
    """

    def __init__(self, door: Door, path: str, unreadable: UnreadableBlocks | None = None) -> None:
        self._door = door
        self._unreadable = unreadable
        self.path = path
        self.fd = door.open_kept(path)
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
        """Whether the file is still open here and has a name."""
        try:
            return self._door.descriptor_status(self.fd).links > 0
        except LostDescriptorError:
            return False

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
        walker = SegmentWalker(self, self.header.salt, end)
        while offset < end:
            found = walker.at(offset, number)
            yield found
            if isinstance(found, Frame):
                offset += found.header.size
                number = found.header.first_entry + found.header.count
            else:
                offset = found.end
                number = found.next_number or number

    def walker(self, end: int, *, bulk: bool = False) -> SegmentWalker | None:
        """A walk that its caller takes step by step; None in a segment without a provable header."""
        return SegmentWalker(self, self.header.salt, end, bulk=bulk) if self.header is not None else None

    def find(self, number: int, low: int, high: int) -> tuple[int, int] | None:
        """A frame near the one that holds ``number`` in a segment without an index, by bisection of ``[low, high)``.

        Headers are found by their marker and prove themselves; the bodies are for the walk that follows to check. Costs
        a few pages, where a walk from the start would read all that lies before.

        Returns:
            Offset and first number of a frame at or before ``number``; None where nothing was found.
        """
        found = None
        while self.header is not None and high - low > READ_BYTES:
            middle = (low + high) // 2
            middle -= middle % FRAME_ALIGNMENT
            probe = SegmentWalker(self, self.header.salt, high).probe(middle, self.header.first_entry)
            if probe is None or probe[1] > number:
                high = middle
            else:
                found, low = probe, max(middle, probe[0])
        return found

    def read(self, size: int, offset: int, needed: int | None = None) -> bytes:
        """Bytes as far as there are any; with ``needed``, only so many if there is trouble with those behind.

        Raises:
            OSError: they cannot be read, and did not yet count as damaged (see :class:`UnreadableBlocks`).
        """
        try:
            data = self._door.read(self.fd, size, offset)
        except LostDescriptorError:
            raise
        except OSError:
            data = b""
        if needed is None:
            needed = size
        if len(data) >= needed or self._unreadable is None or offset + len(data) >= self.size():
            return data
        return self._read_around(self._unreadable, data, needed, offset)

    def _read_around(self, unreadable: UnreadableBlocks, data: bytes, size: int, offset: int) -> bytes:
        """The rest of a short read in the middle of the file, with zeros for what was refused too often."""
        end = min(offset + size, self.size())
        while (at := offset + len(data)) < end:
            try:
                rest = self._door.read(self.fd, end - at, at)
            except OSError as error:
                block = at - at % UNREADABLE_BLOCK_BYTES
                if not unreadable.given_up(self.path, block, error):
                    raise
                rest = bytes(min(block + UNREADABLE_BLOCK_BYTES, end) - at)
            if not rest:
                break
            data += rest
        return data


class SegmentWalker:
    """The state of one walk: a window of bytes, and how much was checked in vain.

    Bytes below ``end`` never change, so the window stays good when ``end`` is raised.
    """

    def __init__(self, segment: SegmentFile, salt: int, end: int, *, bulk: bool = False) -> None:
        self._read = segment.read
        self._salt = salt
        self._end = end
        self._deltas = Deltas(salt)
        self._ahead = READ_BYTES
        self._bulk = bulk
        self._window = b""
        self._window_start = 0
        self._found: tuple[int, FrameHeader] | None = None
        self._failed_bytes = 0
        self._budget: int | None = None
        self._decompressor: ZstdDecompressor | None = None

    def extend(self, end: int, *, bulk: bool) -> None:
        """Look at bytes up to ``end`` from now on, and at many of them at a time in bulk."""
        self._end, self._bulk = end, bulk

    def forget(self) -> None:
        """Let go of a window that was made for one large body."""
        if len(self._window) > READ_BYTES and not self._bulk:
            self._window = b""

    def run(self, offset: int, number: int, limit: int) -> Run | None:
        """Frames of single entries at ``offset``, at most ``limit``, as far as the window goes; None without any.

        Raw and small ones, or, in bulk, large ones.

        Args:
            offset: where the first begins.
            number: the number that it must have.
            limit: the most entries.
        """
        self._bytes(offset, min(SINGLE_ENTRY_BYTES, self._end - offset), FRAME_HEADER_BYTES)
        at = offset - self._window_start
        columns = decode_single_entries(self._window, at, offset, number, limit, self._deltas)
        if self._bulk and not columns.size:
            columns = decode_large_entries(
                self._window, at, offset, number, limit, self._salt, self._own_decompressor()
            )
        if not columns.size:
            return None
        self._ahead = READ_BYTES
        return Run(offset, columns.size, number, columns.entries, columns.timestamps, columns.entry_bytes)

    def probe(self, offset: int, number: int) -> tuple[int, int] | None:
        """Offset and first number of the next header that proves itself at or behind ``offset``."""
        mark = marker(self._salt, number)
        size = PROBE_BYTES
        while offset < self._end:
            self._window = self._read(min(size, self._end - offset), offset)
            self._window_start = offset
            found = self._first_header(self._window, 0, mark, number)
            if found is not None:
                return found[0], found[1].first_entry
            if len(self._window) < FRAME_HEADER_BYTES:
                return None
            offset += len(self._window) - FRAME_HEADER_BYTES + FRAME_ALIGNMENT
            offset -= offset % FRAME_ALIGNMENT
            size = READ_BYTES
        return None

    def at(self, offset: int, number: int) -> Frame | Damage:
        """What is at ``offset``."""
        header = self._header(offset, number)
        if header is None:
            return self._search(offset, offset + FRAME_ALIGNMENT, number)
        # Behind a large body probably comes another one, which is read as a whole, and not partly before.
        self._ahead = READ_BYTES if header.body_length <= READ_BYTES else PROBE_BYTES
        following = header.first_entry + header.count
        overdrawn = self._budget is not None and self._failed_bytes > self._budget
        if overdrawn and header.body_length > CHECKED_ALWAYS_BYTES and not self._coherent(offset, header):
            # Many long false lengths: checking each would read the same bytes again and again.
            return self._search(offset, offset + FRAME_ALIGNMENT, number)
        body = self._bytes(offset + FRAME_HEADER_BYTES, header.body_length)
        if len(body) == header.body_length and body_crc32(body, self._salt) == header.body_crc:
            if header.codec != CODEC_ZSTD:
                return Frame(offset, header, body)
            content = decompressed_body(header, body, self._own_decompressor())
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

    def _own_decompressor(self) -> ZstdDecompressor:
        if self._decompressor is None:
            self._decompressor = ZstdDecompressor()
        return self._decompressor

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

    def _bytes(self, offset: int, size: int, needed: int | None = None) -> memoryview:
        """Bytes from the window, which moves when it must; fewer where the file ends, or behind those ``needed``."""
        start = offset - self._window_start
        if start < 0 or start + size > len(self._window):
            want = min(max(size, BULK_READ_BYTES if self._bulk else self._ahead), self._end - offset)
            self._window = self._read(want, offset, size if needed is None else needed)
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
