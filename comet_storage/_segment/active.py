"""The segment that is being written: preallocated in steps, stored to through a map or by ``pwrite``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

from comet_storage._format.footer import encode_footer
from comet_storage._format.frame import mark
from comet_storage._format.limits import (
    FRAME_ENTRIES_MAX,
    FRAME_HEADER_BYTES,
    INDEX_INTERVAL_BYTES,
    PAGE_BYTES,
    SEGMENT_HEADER_BYTES,
)
from comet_storage._os.gil_keeping import TOUCH_BYTES
from comet_storage._os.pwrite import PwriteBytes
from comet_storage._segment.growth import Growth
from comet_storage.errors import LogFullError, ShardLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from comet_storage._format.segment_header import SegmentHeader
    from comet_storage._os.door import Door

END_MARK = b"COMETEND"
"""Stored behind the last frame of a segment that is left without a footer, so that its tail is never taken for free."""

MAPPED_FRAME_BYTES = 64 * 1024
"""Bodies up to this size are stored through the map, to pages touched before; larger ones by one pass of ``pwrite``."""

LIMIT_INTERVAL_BYTES = 64 * 1024
"""Bytes of appends for which one visit to the slow path makes room."""

SINGLES_PER_LIMIT = LIMIT_INTERVAL_BYTES // FRAME_HEADER_BYTES
"""The most numbers that appends of single entries can use up between two visits to the slow path."""

NUMBER_HALF = 0xFFFFFFFF
"""The lower half of an entry number."""

STEP_BYTES_MIN = 64 * 1024
STEP_BYTES_MAX = 16 * 1024 * 1024
"""Preallocation starts with small steps, so that idle shards take little of the bound, and doubles them with use: each
step is several system calls, and each of them lets other threads have the GIL."""


FRAMES_PER_STEP = 8
"""A step has room for at least as many frames of the size at hand."""


class LargeBody(NamedTuple):
    """A frame's body in pieces, too large to be copied once more."""

    length: int
    pieces: list[bytes]


class Storage(Protocol):
    """What the append path stores into: a map, or the same by ``pwrite``."""

    def __getitem__(self, where: slice) -> bytes: ...
    def __setitem__(self, where: slice, data: bytes) -> None: ...
    def close(self) -> None:
        """Let go of it; what was stored stays."""
        ...


class Reserve(Protocol):
    """Gives blocks within the log's bound (see :mod:`comet_storage._log.space`)."""

    def __call__(self, size: int, allocate: Callable[[], None]) -> None: ...


def open_storage(door: Door, fd: int, size: int, *, mapped: bool) -> Storage:
    """A file of ``size`` bytes as a target of stores."""
    return door.map_file(fd, size) if mapped else PwriteBytes(door, fd)


class ActiveSegment:
    """One segment open for appending.

    Attributes:
        first_entry: number that the segment is named by.
        cursor: (offset in the file, entry number) of the next frame; one tuple, so that it changes in one store.
        number_limit: number that a batch may reach without asking for a higher ceiling.
        limit: offset that an append may reach without asking for more room; 0 stops the fast path.
        step: bytes by which the preallocation grows next.
        touched: offset up to which blocks were stored to before, so that stores through the map are cheap.
        delta: log position minus offset in the file.
    """

    def __init__(
        self, door: Door, fd: int, header: SegmentHeader, *, mapped: bool, data: Storage | None = None
    ) -> None:
        self._door = door
        self.fd = fd
        self.header = header
        self.first_entry = header.first_entry
        self.salt = header.salt
        self.mark = mark(header.salt)
        # One segment's numbers share their upper half (see ``fits``): a search for frames relies on it.
        self._number_base = header.first_entry & ~NUMBER_HALF
        self.delta = header.base_position - SEGMENT_HEADER_BYTES
        self.data: Storage = open_storage(door, fd, header.capacity, mapped=mapped) if data is None else data
        self.cursor = (SEGMENT_HEADER_BYTES, header.first_entry)
        self.limit = 0
        self.number_limit = 0
        self.allocated = 0
        self._mapped = mapped
        self.touched = 0
        self._growth_asked_at = 0
        self._growth: Growth | None = None
        self.step = STEP_BYTES_MIN
        self.points: list[tuple[int, int]] = []

    @property
    def capacity(self) -> int:
        """Largest size of the file."""
        return self.header.capacity

    def holds_entries(self, begun_before: int | None) -> bool:
        """Whether there are entries in it, and it was begun before that time of the log clock."""
        old = begun_before is None or self.header.created_log_ns <= begun_before
        return old and self.cursor[1] > self.first_entry

    def fits(self, size: int) -> bool:
        """Whether a frame of ``size`` bytes fits behind the cursor, and the end mark behind that."""
        offset, number = self.cursor
        return offset + size + len(END_MARK) <= self.capacity and number - self._number_base <= NUMBER_HALF

    def make_room(self, size: int, reserve: Reserve, timeout: float) -> None:
        """Preallocate for a frame of ``size`` bytes, note a point of the index, and set the next limit.

        Raises:
            LogBusyError: blocks are being prepared, and the disk did not take them within ``timeout`` seconds.
            LogFullError: the bound or the volume leaves no room; nothing changed.
        """
        offset, number = self.cursor
        if not self.points or offset - self.points[-1][1] >= INDEX_INTERVAL_BYTES:
            self.points.append((number, offset))
        end = offset + size + len(END_MARK)
        if end > self.allocated:
            self.stop_growth(timeout)
        if end > self.allocated:
            self.grow(end, reserve)
        if self._mapped and size <= MAPPED_FRAME_BYTES and end > self.touched:
            self._touch(end)
        self.limit = min(self.allocated - len(END_MARK), offset + size + LIMIT_INTERVAL_BYTES)
        if number - self._number_base > NUMBER_HALF - 2 * SINGLES_PER_LIMIT - FRAME_ENTRIES_MAX:
            # Close to where the next segment has to begin: every append asks.
            self.limit = offset + size
        if self._mapped:
            self.limit = min(self.limit, max(self.touched, offset + size))

    def store(self, offset: int, head: bytes, body: bytes | LargeBody) -> None:
        """Store a frame, the header last: without it the rest is nothing."""
        at = offset + len(head)
        if isinstance(body, bytes):
            self.data[at : at + len(body)] = body
        else:
            for piece in body.pieces:
                if self._mapped:
                    self._door.store(self.fd, piece, at)
                else:
                    self.data[at : at + len(piece)] = piece
                at += len(piece)
            self.touched = max(self.touched, at)
        self.data[offset : offset + len(head)] = head

    def _touch(self, end: int) -> None:
        """Prepare the pages up to ``end``, and some more, for stores through the map."""
        start = max(self.touched, self.cursor[0])
        stop = min(max(end, start + TOUCH_BYTES), self.allocated)
        self._door.prefault(self.fd, start, stop - start)
        self.touched = stop

    def grow(self, end: int, reserve: Reserve) -> None:
        """Preallocate up to ``end``, and a step beyond if there is room for that.

        Raises:
            LogFullError: there is no room for ``end``; nothing changed.
        """
        least = _whole_pages(end)
        step = max(self.step, min(FRAMES_PER_STEP * (end - self.cursor[0]), STEP_BYTES_MAX))
        target = max(least, min(_whole_pages(self.allocated + step), self.capacity))
        try:
            self._allocate(target, reserve)
        except LogFullError:
            if target == least:
                raise
            self._allocate(least, reserve)
        self.step = min(2 * self.step, STEP_BYTES_MAX)

    def begin_growth(self) -> Growth:
        """Have blocks prepared behind what there is. Nobody else grows the segment meanwhile."""
        self._growth = Growth(self.allocated, self.cursor[0])
        return self._growth

    def stop_growth(self, timeout: float) -> None:
        """Take over the blocks that were prepared, and let no more be: until then they are not this thread's to use.

        Raises:
            LogBusyError: the disk did not take them within ``timeout`` seconds; nothing changed.
        """
        if self._growth is not None:
            self.allocated = self._growth.stop(self._door, timeout)
            self.touched = max(self.touched, self._growth.filled)
            self._growth = None

    def wants_growth(self) -> bool:
        """Whether the flusher should preallocate, here or a next segment, before an append has to; once per step."""
        left = self.allocated - self.cursor[0]
        enough = self.step // 2 if self.allocated < self.capacity else self.capacity // 2
        if left >= enough or self._growth_asked_at == self.allocated:
            return False
        self._growth_asked_at = self.allocated
        return True

    def _allocate(self, target: int, reserve: Reserve) -> None:
        start = self.allocated
        reserve(target - start, lambda: self._door.allocate(self.fd, start, target - start))
        self.allocated = target

    def wipe(self, start: int, stop: int) -> None:
        """Store zeros over frames that were never published, so that nobody takes them for acknowledged ones."""
        with contextlib.suppress(OSError):
            self.data[start:stop] = bytes(stop - start)

    def mark_end(self) -> None:
        """Make the word behind the last frame non-zero."""
        offset = self.cursor[0]
        if offset + len(END_MARK) <= self.allocated and not any(self.data[offset : offset + len(END_MARK)]):
            self.data[offset : offset + len(END_MARK)] = END_MARK

    def finish(self) -> int:
        """Close the segment for good: store the index behind the frames and trim what was never published.

        1. The footer is written. A crash before: the index is rebuilt by walking.
        2. The file is trimmed. A crash before: some preallocated blocks stay taken until retention. A crash behind it:
           the ledger still counts them, until it is measured anew.

        Returns the bytes of blocks that were freed, at least roughly. The map is gone then; the flusher syncs the file
        by its name.
        """
        self._door.failpoint("seal.before_footer")
        end, number = self.cursor
        footer = encode_footer(self.points, number, self.salt)
        if end + len(footer) <= self.allocated:
            self._door.write(self.fd, footer, end)
            end += len(footer)
        else:
            self.mark_end()
            end += len(END_MARK)
        self._door.failpoint("seal.before_trim")
        before = self._door.descriptor_status(self.fd).allocated
        self._door.truncate(self.fd, end)
        self._door.failpoint("seal.after_trim")
        self.unmap()
        after = self._door.descriptor_status(self.fd)
        # Evicted meanwhile: the ledger does not count it any more.
        return before - after.allocated if after.links else 0

    def trim(self) -> int:
        """Give back the blocks behind the cursor, keeping the file one that ``reopen_segment`` can go on in."""
        before = self._door.descriptor_status(self.fd).allocated
        self._door.truncate(self.fd, self.cursor[0])
        return before - self._door.descriptor_status(self.fd).allocated

    def unmap(self) -> None:
        """Let go of the map. The object stores nothing any more."""
        self.limit = 0
        data, self.data = self.data, _CLOSED
        data.close()

    def close(self) -> None:
        """Let go of map and descriptor."""
        self.unmap()
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self._door.close(fd)


def _whole_pages(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES


class _Closed:
    """Where nothing can be stored."""

    def __getitem__(self, where: slice) -> bytes:
        raise ShardLostError("the segment was closed")

    def __setitem__(self, where: slice, data: bytes) -> None:
        raise ShardLostError("the segment was closed while an append was under way; nothing was stored")

    def close(self) -> None:
        """Already closed."""


_CLOSED = _Closed()


__all__ = ["END_MARK", "STEP_BYTES_MIN", "ActiveSegment", "LargeBody", "Reserve", "Storage"]
