"""A group's record of one shard, and the right to change it: a lock that the kernel frees when its holder dies."""

from __future__ import annotations

import contextlib
import threading

from comet_storage._format.group_record import GroupRecord, decode_group_file, encode_group_slot
from comet_storage._format.limits import GROUP_FILE_BYTES, GROUP_SLOT_BYTES, PAGE_BYTES
from comet_storage._os.descriptors import LostDescriptorError
from comet_storage._os.door import Door
from comet_storage._segment.active import Reserve
from comet_storage.errors import AckError


class Lease:
    """One live consumer's hold on a group's record of one shard."""

    def __init__(self, door: Door, path: str, sequence: int, fd: int) -> None:
        self._door = door
        self._path = path
        self._sequence = sequence
        self._fd = fd
        self._record = GroupRecord()
        self._dirty = False
        self._refused = False
        self._storing = threading.RLock()
        # Whoever made the record may have died before its name was on the disk, so each lease sees to that once.
        self._name_synced = False

    def commit(self, record: GroupRecord) -> None:
        """Store the record in the older slot. It survives kill -9 at once, a power cut after :meth:`sync`.

        Raises:
            AckError: the lease is lost: the record was deleted or replaced.
        """
        self.check()
        with self._storing:
            self._store(record)

    def _store(self, record: GroupRecord) -> None:
        sequence = self._sequence + 1
        slot = encode_group_slot(sequence, record)
        self._door.failpoint("group.before_commit")
        self._door.write(self._fd, slot, sequence % 2 * GROUP_SLOT_BYTES)
        self._door.failpoint("group.after_commit")
        # Only now: a write that failed may have torn its slot, and the next one may not replace the other.
        self._sequence = sequence
        self._record = record
        self._dirty = True

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
        """Return when the last commit is on the disk."""
        if self._dirty and self._fd >= 0:
            self._door.failpoint("group.before_sync")
            if self._refused:
                # The kernel takes what the disk refused for written, and would not try again.
                with self._storing:
                    self._store(self._record)
            self._dirty = False
            try:
                self._door.sync_data(self._fd)
            except LostDescriptorError:
                # Whoever holds the lease now has the file open as well; what was committed is in it.
                self._sync_by_name()
            except OSError:
                self._dirty = self._refused = True
                raise
            self._refused = False
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
            # Not forgotten before: an exception of a signal handler in between would leave it leased.
            self._door.close(self._fd)
            self._fd = -1


def take_lease(door: Door, path: str, reserve: Reserve, initial: GroupRecord) -> tuple[Lease, GroupRecord] | None:
    """Lease the record at ``path``, making it from ``initial`` if there is none. None while another consumer has it."""
    fd = door.open_kept(path, write=True, create=True)
    try:
        if not door.try_lock(fd):
            door.close(fd)
            return None
        if door.descriptor_status(fd).size < GROUP_FILE_BYTES:
            reserve(PAGE_BYTES, lambda: door.allocate(fd, 0, GROUP_FILE_BYTES))
        found = decode_group_file(door.read(fd, GROUP_FILE_BYTES, 0))
        sequence, record = found or (0, initial)
        lease = Lease(door, path, sequence, fd)
        record = GroupRecord(**{**record.__dict__, "generation": record.generation + 1})
        lease.commit(record)
    except BaseException:
        door.close(fd)
        raise
    return lease, record
