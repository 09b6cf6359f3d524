"""The hard bound: every allocation of the log is reserved in one ledger, under one lock, before blocks are taken.

The ledger is a number in the lock file, behind the holder's name. It may be too high (a process died between
reserving and allocating, or between freeing and releasing), never too low: it goes up before blocks are taken, and
down after they were given back. When it says "full" it is measured anew from the blocks of all files, at most every
few seconds in each process, and only then are the oldest closed segments evicted.
"""

from __future__ import annotations

import contextlib
import heapq
import struct
import threading
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from comet_storage._format.checksum import crc32
from comet_storage._log.layout import LogLayout
from comet_storage._os.door import LOCK_UN, Door, storage_errors
from comet_storage._os.locks import HOLDER_BYTES, LockFile
from comet_storage.config import SMALL_FILES_BYTES
from comet_storage.errors import LogFullError
from comet_storage.names import ShardName

_VALUE = struct.Struct("<QI")
_LEDGER_OFFSET = HOLDER_BYTES
_MEASURE_INTERVAL = 10.0


class _Closed(NamedTuple):
    """A closed segment, in the order of eviction: oldest first."""

    age: int
    """When it was last changed, or any before it in its shard."""
    path: str
    allocated: int


class SpaceLedger:
    """Reserves and frees the blocks of one log."""

    def __init__(
        self, door: Door, layout: LogLayout, *, bound: int, when_full: str, min_free_bytes: int, lock_timeout: float
    ) -> None:
        self._door = door
        self._layout = layout
        self._bound = bound
        self._evicting = when_full == "evict_oldest"
        self._min_free_bytes = min_free_bytes
        self._lock_timeout = lock_timeout
        self._lock_file: LockFile | None = None
        self._thread_lock = threading.RLock()
        self._holding = False
        self._adjusted = 0
        self._measured_at = door.monotonic()
        self.close_orphan: Callable[[ShardName], bool] = lambda _: False
        """Closes the active segment of a shard that nobody writes, so that it can be evicted. Set by the client."""

    def reserve(self, size: int, allocate: Callable[[], None]) -> None:
        """Take ``size`` bytes of blocks by calling ``allocate``, evicting before if need be.

        Raises:
            LogFullError: the bound or the volume leaves no room.
            LogBusyError: another process held the ledger for longer than the lock timeout.
        """
        # What eviction itself needs comes from the room kept aside for it.
        self._reserve(size, allocate, 0 if self._holding else SMALL_FILES_BYTES // 2)

    def reserve_small(self, size: int, allocate: Callable[[], None]) -> None:
        """As :meth:`reserve`, for what a consumer needs, with a part of the room kept aside: a full log can be read.

        Raises:
            LogFullError, LogBusyError: as :meth:`reserve`.
        """
        self._reserve(size, allocate, 0 if self._holding else SMALL_FILES_BYTES // 4)

    def _reserve(self, size: int, allocate: Callable[[], None], aside: int) -> None:
        section = self._locked()
        try:
            next(section)
            with storage_errors(self._layout.root):
                self._reserve_locked(size, allocate, self._bound - aside)
        finally:
            section.close()

    def _reserve_locked(self, size: int, allocate: Callable[[], None], limit: int) -> None:
        known, used = self._adjusted, self._read()
        if used is None or used + size > limit:
            known = self._adjusted
            used = self._measured(used)
            if used + size > limit:
                known, used = self._make_room(used, used + size - limit)
            self._store(used, known)
        self._check_free_space(size)
        self._adjust(size)
        self._door.failpoint("space.before_allocate")
        try:
            allocate()
        except BaseException:
            # A full volume may have given a part.
            known = self._adjusted
            self._store(self.measure(), known)
            raise

    def release(self, free: Callable[[], int]) -> None:
        """Give blocks back by calling ``free``, which returns how many bytes.

        Under the lock: an eviction of the same file comes before, and then there is nothing to give back, or behind it.
        """
        section = self._locked()
        try:
            next(section)
            size = free()
            if size > 0:
                self._adjust(-size)
        finally:
            section.close()

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

    def _measured(self, used: int | None) -> int:
        """The ledger, measured anew unless that was done a moment ago: at the bound every allocation comes here."""
        now = self._door.monotonic()
        if used is None or not self._evicting or now - self._measured_at >= _MEASURE_INTERVAL:
            self._measured_at = now
            used = self.measure()
        return used

    def _measure(self, directory: str) -> int:
        try:
            total, directories = self._door.list_blocks(directory)
        except FileNotFoundError:
            return 0
        return total + sum(self._measure(f"{directory}/{name}") for name in directories)

    def _check_free_space(self, size: int) -> None:
        if self._min_free_bytes and self._door.free_bytes(self._layout.root) - size < self._min_free_bytes:
            raise LogFullError(
                f"less than {self._min_free_bytes} bytes (min_free_bytes) would be left on the volume of "
                f"{self._layout.root}; nothing was stored"
            )

    def _make_room(self, used: int, needed: int) -> tuple[int, int]:
        """Evict until ``needed`` bytes are free, and return what is used then, as of which adjustments."""
        if not self._evicting:
            raise LogFullError(
                f"the log is at its bound of {self._bound} bytes (max_total_size) and when_full is 'reject_new'; "
                "nothing was stored"
            )
        goal = used - needed
        known = self._adjusted
        for closing_orphans in (False, True):
            if closing_orphans:
                for shard in self._layout.all_shards():
                    self.close_orphan(shard)
                known = self._adjusted
                used = self.measure()
            for segment in self._oldest_closed():
                if used <= goal:
                    break
                self._door.failpoint("evict.before_unlink")
                with contextlib.suppress(FileNotFoundError):
                    self._door.unlink(segment.path)
                used -= segment.allocated
            if used <= goal:
                self._store(used, known)
                return known, used
        raise LogFullError(
            f"the log is at its bound of {self._bound} bytes (max_total_size) and everything in it is being written; "
            "nothing was stored: raise the bound or use fewer shards"
        )

    def _oldest_closed(self) -> Iterator[_Closed]:
        """Segments that may be evicted, all but the last one of each shard, oldest first.

        In each shard in the order of numbers: a clock that was set back, or a copy, may have turned the times round.
        """
        heap: list[tuple[_Closed, Iterator[str]]] = []
        for name in self._layout.all_shards():
            shard = self._layout.shard(name)
            self._push_next(heap, iter([shard.segment(number) for number in shard.segments()[:-1]]), 0)
        while heap:
            oldest, following = heapq.heappop(heap)
            yield oldest
            self._push_next(heap, following, oldest.age)

    def _push_next(self, heap: list[tuple[_Closed, Iterator[str]]], paths: Iterator[str], age: int) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                status = self._door.status(path)
                heapq.heappush(heap, (_Closed(max(age, status.modified_ns), path, status.allocated), paths))
                return

    def _locked(self) -> Generator[None, None, None]:
        """Has the ledger from the first step on until it is closed.

        No context manager: an exception that a signal handler raises as one is entered or left leaves it to whoever
        drops the traceback. Closing a generator is one call of C code.
        """
        # Threads that waited for one another have that much less time for the file.
        deadline = self._door.monotonic() + self._lock_timeout
        with self._thread_lock:
            if self._holding:
                yield
                return
            if self._lock_file is None:
                with storage_errors(self._layout.log_lock):
                    self._lock_file = LockFile(self._door, self._layout.log_lock)
            lock_file = self._lock_file
            try:
                lock_file.acquire(max(0.0, deadline - self._door.monotonic()))
                self._holding = True
                yield
            finally:
                self._holding = False
                # Not by a method: before its first line a signal handler could raise, and the lock would stay. In a
                # child that was forked in here the file was closed, and the lock is the parent's.
                if lock_file.fd >= 0:
                    self._door.flock(lock_file.fd, LOCK_UN)

    def _adjust(self, change: int) -> None:
        """Add to the ledger; where it cannot be read, that is left to whoever measures next."""
        known, used = self._adjusted, self._read()
        if used is not None:
            self._store(used + change, known)
        self._adjusted += change

    def _store(self, used: int, known: int) -> None:
        """Set the ledger to what was found when ``known`` was the sum of this process's adjustments.

        A signal handler that appends comes in between any two calls here, and its adjustment must not be overwritten.
        """
        while True:
            since = self._adjusted - known
            self._write(max(0, used + since))
            if self._adjusted - known == since:
                return

    def _read(self) -> int | None:
        if self._lock_file is None:
            return None
        data = self._door.read(self._lock_file.fd, _VALUE.size, _LEDGER_OFFSET)
        if len(data) < _VALUE.size:
            return None
        value, check = _VALUE.unpack(data)
        return value if check == crc32(data[:8], 0) else None

    def _write(self, used: int) -> None:
        if self._lock_file is not None:
            data = struct.pack("<Q", used)
            self._door.write(self._lock_file.fd, data + struct.pack("<I", crc32(data, 0)), _LEDGER_OFFSET)
