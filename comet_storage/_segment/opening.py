"""Making new segments, at once or ahead of need, and opening existing ones to append."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from comet_storage._format.limits import PAGE_BYTES
from comet_storage._format.segment_header import SegmentHeader
from comet_storage._os.descriptors import LostDescriptorError, check_kept, is_ours
from comet_storage._os.door import Door
from comet_storage._segment.active import (
    STEP_BYTES_MIN,
    ActiveSegment,
    Reserve,
    Storage,
    open_storage,
)
from comet_storage._segment.growth import fill_blocks
from comet_storage.errors import LogFullError


@dataclass
class PreparedSegment:
    """A file with blocks and a map, but without a header and a final name: nobody takes it for a segment yet."""

    door: Door
    path: str
    fd: int
    data: Storage
    capacity: int
    allocated: int
    mapped: bool
    salt: int
    """Random; where the checksums of the segment will start."""
    touched: int = 0
    """Bytes that zeros were stored to."""

    def fill(self) -> None:
        """Fill the blocks with zeros (see :mod:`._segment.growth`)."""
        fill_blocks(self.door, self.fd, 0, self.allocated)
        self.door.sync_data(self.fd)
        self.touched = self.allocated

    def write_header(self, data: bytes) -> None:
        """Store the segment's header, which makes nothing of it before it has its name."""
        if self.mapped:
            self.door.store(self.fd, data, 0)
        else:
            self.data[0 : len(data)] = data

    def is_linked(self) -> bool:
        """Whether it still has its name: a recovery, also this writer's own, removes what it finds prepared."""
        try:
            return self.door.descriptor_status(self.fd).links > 0
        except LostDescriptorError:
            return False

    def close(self) -> None:
        """Let go of it as it is."""
        self.data.close()
        self.door.close(self.fd)

    def discard(self) -> int:
        """Let go of it and remove the file. Returns the bytes of blocks that were freed."""
        linked, ours = self.is_linked(), is_ours(self.fd)
        self.close()
        if not linked:
            # The name may be another's by now.
            return 0
        # In a forked child the file is the parent's.
        if ours:
            with contextlib.suppress(FileNotFoundError):
                self.door.unlink(self.path)
        return self.allocated


def prepare_segment(
    door: Door, path: str, capacity: int, *, mapped: bool, reserve: Reserve, step: int = STEP_BYTES_MIN
) -> PreparedSegment:
    """Make a file under a temporary name, sized, preallocated and mapped. A crash leaves it for the next claim.

    Raises:
        LogFullError: the bound or the volume leaves no room.
    """
    with contextlib.suppress(FileNotFoundError):
        door.unlink(path)
    salt = int.from_bytes(door.random_bytes(4), "little")
    fd = door.open_kept(path, write=True, create=True, exclusive=True)
    try:
        door.truncate(fd, capacity)
        allocated = min(max(step, PAGE_BYTES), capacity)
        try:
            reserve(allocated, lambda: door.allocate(fd, 0, allocated))
        except LogFullError:
            allocated = PAGE_BYTES
            reserve(allocated, lambda: door.allocate(fd, 0, allocated))
        data = open_storage(door, fd, capacity, mapped=mapped)
    except BaseException:
        # In a child that was forked in the middle of this, the file is the parent's.
        if is_ours(fd):
            door.close(fd)
            with contextlib.suppress(FileNotFoundError):
                door.unlink(path)
        raise
    return PreparedSegment(door, path, fd, data, capacity, allocated, mapped, salt)


def begin_segment(prepared: PreparedSegment, path: str, header: SegmentHeader) -> ActiveSegment:
    """Make a prepared file a segment.

    1. The header is written. A crash leaves a temporary file for the next claim to remove.
    2. One that tells of a loss is synced: the file may take the name of an empty segment that told of the same, and a
       power cut must not leave a name that tells of nothing.
    3. The file gets its name. A crash leaves an empty last segment, in which the next writer goes on.
    """
    door = prepared.door
    try:
        door.failpoint("rotate.before_header")
        prepared.write_header(header.encode())
        if header.lost_from < header.first_entry:
            door.sync_data(prepared.fd)
        door.failpoint("rotate.before_rename")
        # In a forked child the file is the parent's to rename.
        check_kept(prepared.fd)
        door.rename(prepared.path, path)
        door.failpoint("rotate.after_rename")
        segment = ActiveSegment(door, prepared.fd, header, mapped=prepared.mapped, data=prepared.data)
    except BaseException:
        prepared.discard()
        raise
    segment.allocated = prepared.allocated
    segment.touched = prepared.touched
    return segment


def reopen_segment(
    door: Door, path: str, header: SegmentHeader, cursor: tuple[int, int], *, mapped: bool, allocated: int
) -> ActiveSegment:
    """Open an existing segment to append at ``cursor``.

    ``allocated`` is up to where it is known to have blocks; a segment that was trimmed has them up to the cursor.
    """
    fd = door.open_kept(path, write=True)
    try:
        status = door.descriptor_status(fd)
        # A sparse copy, or a damaged page, has fewer blocks than it is known to have.
        allocated = min(allocated, status.allocated // PAGE_BYTES * PAGE_BYTES)
        if status.size < header.capacity:
            door.truncate(fd, header.capacity)
            allocated = 0
        segment = ActiveSegment(door, fd, header, mapped=mapped)
    except BaseException:
        door.close(fd)
        raise
    segment.cursor = cursor
    segment.allocated = min(max(allocated, cursor[0] // PAGE_BYTES * PAGE_BYTES), header.capacity)
    return segment
