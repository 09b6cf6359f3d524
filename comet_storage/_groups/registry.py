"""Which groups exist: one small checksummed file per group and stream, there from the group's creation."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

from comet_storage._format.checksum import crc32
from comet_storage._os.door import Door
from comet_storage.errors import LogBusyError

_FILE_BYTES_MAX = 4096
_WAIT = 0.001


@contextlib.contextmanager
def changing_groups(door: Door, directory: str, timeout: float) -> Iterator[None]:
    """Keep other clients from making and deleting groups of a stream, by a lock on the stream's directory.

    Otherwise two that make the same group at once remove each other's records, and with them what was acknowledged.

    Raises:
        LogBusyError: another process was at it for ``timeout`` seconds.
    """
    fd = door.open_directory_kept(directory)
    try:
        deadline = door.monotonic() + timeout
        while not door.try_lock(fd):
            if door.monotonic() >= deadline:
                raise LogBusyError(f"groups in {directory} were being changed for {timeout:g} s; nothing was changed")
            door.sleep(_WAIT)
        yield
        door.unlock(fd)
    finally:
        door.close(fd)


def register_group(door: Door, path: str, group: str, start: str) -> bool:
    """Make a group's file unless it exists. Returns whether it is new."""
    members = {"group": group, "start": start, "created_ns": door.wall_clock_ns()}
    check = f"{crc32(json.dumps(members, sort_keys=True).encode(), 0):08x}"
    temporary = f"{path}.{os.getpid()}.{door.random_bytes(4).hex()}.new"
    fd = door.open(temporary, write=True, create=True, exclusive=True)
    try:
        try:
            door.write(fd, json.dumps({**members, "checksum": check}).encode(), 0)
            door.sync_data(fd)
        finally:
            door.close(fd)
        door.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        door.unlink(temporary)
    return True
