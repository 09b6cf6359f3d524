"""The hard bound: every allocation of the log is reserved in one ledger, under one lock, before blocks are taken.

The ledger is a number in the lock file, behind the holder's name. It may be too high (a process died between
reserving and allocating, or between freeing and releasing): it goes up before blocks are taken, and down after they
were given back. What is not reserved (directories that grow) is in the room kept aside until it is measured: the
blocks of all files are, after every so many reservations, and at most every few seconds in each process when the ledger
says "full". Only then is somebody asked to make room (:attr:`SpaceLedger.evict`).
"""

from __future__ import annotations

import contextlib
import errno
import struct
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Literal

from comet_storage._format.checksum import crc32
from comet_storage._log.layout import LogLayout
from comet_storage._os.door import LOCK_UN, Door, storage_errors
from comet_storage._os.locks import HOLDER_BYTES, LockFile
from comet_storage.config import SMALL_FILES_BYTES
from comet_storage.errors import LogFullError

Need = Literal["bound", "volume"]
"""Why there is no room: the log's own bound is reached, or the volume is full, whoever filled it."""

_FIELDS = struct.Struct("<QI")
_CHECK = struct.Struct("<I")
_LEDGER_OFFSET = HOLDER_BYTES
_MEASURE_INTERVAL = 10.0
_MEASURE_RESERVATIONS = 512
"""So many new names make the directories grow by less than what is kept aside for it."""
_MEASURE_SHARE = 20
"""What is refused may be measured for, if that takes no more than this part of the time."""
_SETTLE_SECONDS = 5.0
"""How long a filesystem may take to show as free what was deleted, before more is deleted for the same need."""
_TRIES = 3


class SpaceLedger:
    """Reserves and frees the blocks of one log."""

    def __init__(
        self, door: Door, layout: LogLayout, *, bound: int, when_full: str, min_free_bytes: int, lock_timeout: float
    ) -> None:
        self._door = door
        self._layout = layout
        self.bound = bound
        self.path = layout.log_lock
        self.min_free_bytes = min_free_bytes
        self._when_full = when_full
        self._lock_timeout = lock_timeout
        self._lock_file: LockFile | None = None
        self._thread_lock = threading.RLock()
        self._holding = False
        self._adjusted = 0
        self._measured_at = door.monotonic()
        self._measuring = 0.0
        self._settling: list[tuple[float, int]] = []
        self.evict: Callable[[int, Need], None] = lambda _size, _need: None
        """Deletes segments until so many bytes are free, or as far as it may, each told to :meth:`freed`. Set by the
        engine; called under the lock."""

    def reserve(self, size: int, allocate: Callable[[], None]) -> None:
        """Take ``size`` bytes of blocks by calling ``allocate``, evicting before if need be.

        Raises:
            LogFullError: the bound or the volume leaves no room.
            LogBusyError: another process held the ledger for longer than the lock timeout.
        """
        self._reserve(size, allocate, SMALL_FILES_BYTES // 2, self.min_free_bytes)

    def reserve_small(self, size: int, allocate: Callable[[], None]) -> None:
        """As :meth:`reserve`, for the little that a consumer needs before it can acknowledge, and so give room.

        With a part of the room kept aside, and below the floor: a full log can be read.

        Raises:
            LogFullError, LogBusyError: as :meth:`reserve`.
        """
        self._reserve(size, allocate, SMALL_FILES_BYTES // 4, 0)

    def _reserve(self, size: int, allocate: Callable[[], None], aside: int, floor: int) -> None:
        deadline = self._deadline()
        # Under the thread's lock, or another thread's hold would be taken for this one's.
        with self._thread_lock, storage_errors(self._layout.root):
            nested = self._holding
            if nested:
                # What eviction itself needs comes from the room kept aside for it, and comes back many times over.
                aside = floor = 0
            section = self._section(deadline)
            try:
                fd = next(section)
                self._make_room(fd, size, self.bound - aside, nested=nested)
                self._take(fd, size, allocate, floor, nested=nested)
            finally:
                section.close()

    def _take(self, fd: int, size: int, allocate: Callable[[], None], floor: int, *, nested: bool) -> None:
        for tries_left in reversed(range(_TRIES)):
            if size:
                self._keep_free(size, floor, nested=nested)
            self._adjust(fd, size)
            self._door.failpoint("space.before_allocate")
            try:
                allocate()
            except BaseException as error:
                # A full volume may have given a part.
                self._store_measured(fd)
                if nested or not tries_left or not _is_full(error) or not self._evicted_for_volume(size):
                    raise
            else:
                return

    def release(self, free: Callable[[], int]) -> None:
        """Give blocks back by calling ``free``, which returns how many bytes.

        Under the lock: an eviction of the same file comes before, and then there is nothing to give back, or behind it.
        """
        section = self._section(self._deadline())
        try:
            next(section)
            self.freed(free())
        finally:
            section.close()

    def freed(self, size: int) -> None:
        """Note, under the lock, that ``size`` bytes of blocks were given back."""
        if self._lock_file is None or size <= 0:
            return
        self._adjust(self._lock_file.fd, -size)

    def keep_floor(self) -> bool:
        """Evict if less than ``min_free_bytes`` are free on the volume, because others filled it. Whether it did.

        Raises:
            LogBusyError: another process held the ledger for longer than the lock timeout.
        """
        if self.min_free_bytes <= self._free_bytes():
            return False
        with self.locked(), storage_errors(self._layout.root):
            missing = self.min_free_bytes - self._free_bytes()
            return missing > 0 and self._evicted_for_volume(missing)

    def measure(self) -> int:
        """Bytes of the blocks of every file and directory of the log."""
        return self._measure(self._layout.root) + self._door.status(self._layout.root).allocated

    def close(self) -> None:
        """Close the lock file."""
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def after_fork_in_child(self) -> None:
        """Let go of the parent's lock without freeing it."""
        self._thread_lock = threading.RLock()
        self._holding = False
        self.close()

    def _make_room(self, fd: int, size: int, limit: int, *, nested: bool) -> None:
        """Have the ledger leave room for ``size`` bytes below ``limit``."""
        found = self._read(fd)
        used = found[0] if found else 0
        if found is None or used + size > limit or found[1] >= _MEASURE_RESERVATIONS:
            # At the bound every allocation comes here.
            since = self._door.monotonic() - self._measured_at
            if found is None or found[1] >= _MEASURE_RESERVATIONS or since >= _MEASURE_INTERVAL:
                used = self._measure_anew(fd)
        if used + size <= limit:
            return
        for _ in range(0 if nested else _TRIES):
            # Once more where the record of what went took the room that it gave.
            if used + size > limit:
                self.evict(used + size - limit, "bound")
                used = self._used(fd)
        if used + size > limit and self._door.monotonic() - self._measured_at >= _MEASURE_SHARE * self._measuring:
            # Before anything is refused: somebody may have deleted files by hand.
            used = self._measure_anew(fd)
        if used + size > limit:
            why = (
                "when_full is 'reject_new'" if self._when_full == "reject_new" else "everything in it is being written"
            )
            raise LogFullError(
                errno.ENOSPC,
                f"the log is at its bound of {self.bound} bytes (max_total_size) and {why}; nothing was stored, and "
                "appends go on when there is room: have consumers acknowledge, raise the bound, or use fewer shards",
            )

    def _measure_anew(self, fd: int) -> int:
        started = self._door.monotonic()
        used = self._store_measured(fd)
        self._measured_at = self._door.monotonic()
        self._measuring = self._measured_at - started
        return used

    def _keep_free(self, size: int, floor: int, *, nested: bool) -> None:
        """Have the volume leave ``floor`` bytes behind ``size``; what is full is told before it is tried."""
        missing = floor + size - self._free_bytes()
        if missing > 0 and not nested and self._evicted_for_volume(missing):
            missing = floor + size - self._free_bytes()
        if missing > 0:
            raise LogFullError(
                errno.ENOSPC,
                f"less than {floor} bytes (min_free_bytes) would be left on the volume of {self._layout.root}; "
                "nothing was stored, and appends go on when there is room"
                if floor
                else f"no space left on the volume of {self._layout.root}; nothing was stored, and appends go on when "
                "there is",
            )

    def _evicted_for_volume(self, missing: int) -> bool:
        """Evict so that the volume has ``missing`` bytes more. Whether anything was evicted.

        Some filesystems show as free only later what was deleted: it is not deleted for twice.
        """
        now = self._door.monotonic()
        self._settling = [(until, size) for until, size in self._settling if until > now]
        missing -= sum(size for _, size in self._settling)
        if missing <= 0 or self._lock_file is None:
            return False
        fd = self._lock_file.fd
        free, used = self._free_bytes(), self._used(fd)
        self.evict(missing, "volume")
        evicted = used - self._used(fd)
        shown = self._free_bytes() - free
        if evicted > shown:
            self._settling.append((now + _SETTLE_SECONDS, evicted - max(0, shown)))
        return evicted > 0

    def _free_bytes(self) -> int:
        return self._door.free_bytes(self._layout.root)

    def _measure(self, directory: str) -> int:
        try:
            total, directories = self._door.list_blocks(directory)
        except FileNotFoundError:
            return 0
        return total + sum(self._measure(f"{directory}/{name}") for name in directories)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Keep other processes and threads from the ledger; gives the descriptor of the lock file. May be nested.

        Raises:
            LogBusyError: another process held it for longer than the lock timeout.
        """
        section = self._section(self._deadline())
        try:
            yield next(section)
        finally:
            section.close()

    def _deadline(self) -> float:
        # Taken before a thread waits for others: that much less time is left for the file.
        return self._door.monotonic() + self._lock_timeout

    def _section(self, deadline: float) -> Generator[int, None, None]:
        """Has the ledger from the first step on until it is closed.

        No context manager: an exception that a signal handler raises as one is entered or left leaves it to whoever
        drops the traceback. Closing a generator is one call of C code.
        """
        with self._thread_lock:
            if self._holding and self._lock_file is not None:
                yield self._lock_file.fd
                return
            lock = self._opened()
            try:
                self._acquire(lock, deadline)
                self._holding = True
                yield lock.fd
            finally:
                self._holding = False
                # Not by a method: before its first line a signal handler could raise, and the lock would stay. In a
                # child that was forked in here the file was closed, and the lock is the parent's.
                if lock.fd >= 0:
                    self._door.flock(lock.fd, LOCK_UN)

    def _opened(self) -> LockFile:
        if self._lock_file is None:
            with storage_errors(self.path):
                self._lock_file = LockFile(self._door, self.path)
        return self._lock_file

    def _acquire(self, lock: LockFile, deadline: float) -> None:
        with storage_errors(self.path):
            try:
                lock.acquire(max(0.0, deadline - self._door.monotonic()))
            except OSError:
                # Its directory is gone, say: the next time the file is opened anew.
                self.close()
                raise

    def _used(self, fd: int) -> int:
        found = self._read(fd)
        return found[0] if found else self.measure()

    def _read(self, fd: int) -> tuple[int, int] | None:
        """Bytes in use and reservations since they were measured; None where the ledger does not prove itself."""
        data = self._door.read(fd, _FIELDS.size + _CHECK.size, _LEDGER_OFFSET)
        if len(data) < _FIELDS.size + _CHECK.size or _CHECK.unpack_from(data, _FIELDS.size)[0] != crc32(data[:-4], 0):
            return None
        used, count = _FIELDS.unpack_from(data)
        return used, count

    def _adjust(self, fd: int, change: int) -> None:
        """Add to the ledger."""
        known = self._adjusted
        used, count = self._read(fd) or (self.measure(), 0)
        self._store(fd, used + change, known, count + (change > 0))
        self._adjusted += change

    def _store_measured(self, fd: int) -> int:
        """Set the ledger to what all files have, and return that."""
        known = self._adjusted
        used = self.measure()
        self._store(fd, used, known, 0)
        return used + self._adjusted - known

    def _store(self, fd: int, used: int, known: int, count: int) -> None:
        """Set the ledger to what was found when ``known`` was the sum of this process's adjustments.

        A signal handler that appends comes in between any two calls here, and its adjustment must not be overwritten.
        """
        while True:
            since = self._adjusted - known
            self._write(fd, max(0, used + since), count)
            if self._adjusted - known == since:
                return

    def _write(self, fd: int, used: int, count: int) -> None:
        data = _FIELDS.pack(used, count)
        self._door.write(fd, data + _CHECK.pack(crc32(data, 0)), _LEDGER_OFFSET)


def _is_full(error: BaseException) -> bool:
    return isinstance(error, LogFullError) or (
        isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    )
