"""A group's record of one shard, and the right to change it: a lock that the kernel frees when its holder dies.

Of the record's four slots none of these is ever written to: the newest record (a process may die in the middle of a
write), the one that was last made durable (a power cut may leave any sectors of all the others), and the one that is
being made durable right now. One is always left.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import NamedTuple

from comet_storage._format.group_record import GroupRecord, decode_group_file, encode_group_slot
from comet_storage._format.limits import GROUP_FILE_BYTES, GROUP_SLOT_BYTES, GROUP_SLOTS, PAGE_BYTES
from comet_storage._os.descriptors import LostDescriptorError
from comet_storage._os.door import Door
from comet_storage._segment.active import Reserve
from comet_storage.errors import AckError


class _Written(NamedTuple):
    """A record that was written: its sequence, its slot, its bytes."""

    sequence: int
    place: int
    data: bytes


_NONE = _Written(0, -1, b"")


class Lease:
    """One live consumer's hold on a group's record of one shard."""

    def __init__(self, door: Door, path: str, fd: int, newest: _Written) -> None:
        self._door = door
        self._path = path
        self._fd = fd
        # Whoever made the record may have died before its name was on the disk, so each lease sees to that once.
        self._name_synced = False
        self._newest = newest
        self._durable = _NONE
        self._syncing = -1
        # Whoever wrote the newest record may have seen its sync fail.
        self._suspect = newest is not _NONE
        # Re-entrant: a signal handler may sync while its own thread does.
        self._sync_lock = threading.RLock()

    @property
    def dirty(self) -> bool:
        """Whether the newest record may not survive a power cut."""
        return self._durable.sequence < self._newest.sequence

    def commit(self, record: GroupRecord) -> None:
        """Store the record. It survives kill -9 at once, a power cut after :meth:`sync`.

        Raises:
            AckError: the lease is lost: the record was deleted or replaced.
        """
        self.check()
        sequence = self._newest.sequence + 1
        taken = {self._newest.place, self._durable.place, self._syncing}
        place = next(place for place in range(GROUP_SLOTS) if place not in taken)
        data = encode_group_slot(sequence, record)
        self._door.failpoint("group.before_commit")
        self._door.write(self._fd, data, place * GROUP_SLOT_BYTES)
        self._door.failpoint("group.after_commit")
        # Only now: a write that failed may have torn its slot, and the next one goes to the same.
        self._newest = _Written(sequence, place, data)

    def check(self) -> None:
        """Raise AckError when the record is not this lease's any more."""
        try:
            lost = self._fd < 0 or self._door.descriptor_status(self._fd).links == 0
        except LostDescriptorError:
            lost = True
        if lost:
            raise AckError(
                f"the lease on {self._path} is lost: the group was deleted, the consumer was closed, or other code of "
                "this process closed its descriptor"
            )

    def sync(self) -> None:
        """Return when the last commit is on the disk. Other threads may commit meanwhile."""
        with self._sync_lock:
            if self._fd < 0 or not self.dirty:
                return
            self._door.failpoint("group.before_sync")
            newest = self._newest
            self._syncing = newest.place
            while newest is not self._newest:
                # A commit came between; from here on none goes to the slot that is being synced.
                newest = self._newest
                self._syncing = newest.place
            try:
                if self._suspect:
                    # The kernel takes pages that it could not write for clean: without this it would write nothing.
                    self._door.write(self._fd, newest.data, newest.place * GROUP_SLOT_BYTES)
                self._suspect = True
                self._door.sync_data(self._fd)
                self._suspect = False
                if newest.sequence > self._durable.sequence:
                    self._durable = newest
            except LostDescriptorError:
                # Whoever holds the lease now has the file open as well; what was committed is in it.
                self._sync_by_name()
                self._durable = newest
            finally:
                self._syncing = -1
            if not self._name_synced:
                self._door.sync_directory(self._path.rpartition("/")[0])
                self._name_synced = True

    def _sync_by_name(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            fd = self._door.open(self._path)
            try:
                self._door.sync_data(fd)
            finally:
                self._door.close(fd)

    def close(self) -> None:
        """Free the lease."""
        if self._fd >= 0:
            # Not forgotten before: an exception of a signal handler in between would leave it leased. A lease that is
            # dropped without being closed is freed with its descriptor.
            self._door.close(self._fd)
            self._fd = -1


def take_lease(door: Door, path: str, reserve: Reserve, initial: GroupRecord) -> tuple[Lease, GroupRecord] | None:
    """Lease the record at ``path``, making it from ``initial`` if there is none. None while another consumer has it.

    A record that is there is made durable first: its last holder may have died before it was, and which of the slots
    would be left after a power cut is not known.
    """
    fd = door.open_kept(path, write=True, create=True)
    try:
        if not door.try_lock(fd):
            door.close(fd)
            return None
        if door.descriptor_status(fd).size < GROUP_FILE_BYTES:
            reserve(PAGE_BYTES, lambda: door.allocate(fd, 0, GROUP_FILE_BYTES))
        found = decode_group_file(door.read(fd, GROUP_FILE_BYTES, 0))
        record, newest = initial, _NONE
        if found is not None:
            record = found.record
            newest = _Written(found.sequence, found.place, encode_group_slot(found.sequence, record))
        lease = Lease(door, path, fd, newest)
        lease.sync()
        record = replace(record, generation=record.generation + 1)
        lease.commit(record)
    except BaseException:
        door.close(fd)
        raise
    return lease, record
