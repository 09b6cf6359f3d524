"""Reading a consumer group's record without touching it."""

from __future__ import annotations

from comet_storage._format.group_record import GroupRecord, decode_group_file
from comet_storage._format.limits import GROUP_FILE_BYTES
from comet_storage._os.door import Door, may_pass


def read_group_record(door: Door, path: str) -> GroupRecord | None:
    """The record at ``path``, or None when there is none or it does not prove itself.

    Raises:
        OSError: there may be one, but it cannot be read now.
    """
    try:
        fd = door.open(path)
    except OSError as error:
        if may_pass(error):
            raise
        return None
    try:
        found = decode_group_file(door.read(fd, GROUP_FILE_BYTES, 0))
    finally:
        door.close(fd)
    return found.record if found else None
