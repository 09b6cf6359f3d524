"""Storing a segment again after a sync of it failed.

A failed sync is final: the kernel marks the pages clean, so a later one succeeds without writing them. What is still in
memory is therefore copied to a new file, which takes the segment's name when it is on the disk. Readers that have the
old file open read the same bytes there, and notice that it has no name any more.
"""

from __future__ import annotations

import contextlib

from comet_storage._format.limits import PAGE_BYTES
from comet_storage._os.door import Door
from comet_storage._shard.context import ShardContext

_CHUNK_BYTES = 1 << 20


def replace_segment(context: ShardContext, first_entry: int, end: int) -> None:
    """Copy the first ``end`` bytes of a segment to a new file of the same name.

    1. The copy is made under a temporary name and synced. A crash leaves it for the next claim to remove.
    2. It takes the name, and the directory is synced. A crash leaves one or the other.

    Raises:
        OSError: the disk refused again, or has no room; the old file is still in place.
        FileNotFoundError: the segment was evicted.
    """
    door, layout = context.door, context.layout
    path = layout.segment(first_entry)
    source = door.open_kept(path)
    try:
        freed = door.descriptor_status(source).allocated
        with contextlib.suppress(FileNotFoundError):
            door.unlink(layout.replacement)
        target = door.open_kept(layout.replacement, write=True, create=True, exclusive=True)
        try:
            size = -(-end // PAGE_BYTES) * PAGE_BYTES
            context.reserve(size, lambda: door.allocate(target, 0, size))
            _copy(door, source, target, end)
            door.truncate(target, end)
            door.sync_data(target)
            door.rename(layout.replacement, path)
            context.release(lambda: freed)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                door.unlink(layout.replacement)
            raise
        finally:
            door.close(target)
    finally:
        door.close(source)
    door.sync_directory(layout.directory)


def _copy(door: Door, source: int, target: int, end: int) -> None:
    for offset in range(0, end, _CHUNK_BYTES):
        data = b""
        # A sector that cannot be read was lost before; the rest must not be lost with it.
        with contextlib.suppress(OSError):
            data = door.read(source, min(_CHUNK_BYTES, end - offset), offset)
        door.write(target, data, offset)
