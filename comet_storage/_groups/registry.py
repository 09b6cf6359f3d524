"""Which groups exist: one small checksummed file per group and stream, there from the group's creation."""

from __future__ import annotations

import json
import os

from comet_storage._format.checksum import crc32
from comet_storage._os.door import Door

_FILE_BYTES_MAX = 4096


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
