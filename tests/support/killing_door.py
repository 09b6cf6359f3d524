"""A door at which the process dies: at a named instant, the nth time that it comes by."""

from __future__ import annotations

import mmap
import os
import signal
from typing import Any

from comet_storage._format.state_page import PUBLISHED
from comet_storage._os.door import LOCK_UN, Door

DOOR_POINTS = (
    "lock.before",
    "lock.after",
    "unlock.before",
    "unlock.after",
    "copy.before",
    "copy.first_half",
    "copy.last_half",
    "copy.after",
    "publish.before",
    "publish.after",
    "word.before",
    "word.after",
    "store.before",
    "store.first_half",
    "store.after",
    "prefault.before",
    "prefault.after",
    "write.before",
    "write.first_half",
    "write.after",
    "allocate.before",
    "allocate.after",
    "truncate.before",
    "truncate.after",
    "sync.before",
    "sync.after",
)
"""Instants around the calls of the door and the stores through its maps."""

SOURCE_POINTS = (
    "claim.before_segment",
    "claim.before_page",
    "rotate.before_page",
    "rotate.before_prepare",
    "rotate.before_header",
    "rotate.before_rename",
    "rotate.after_rename",
    "rotate.before_switch",
    "seal.before_footer",
    "seal.before_trim",
    "seal.after_trim",
    "space.before_allocate",
    "evict.before_record",
    "evict.before_rename",
    "evict.before_unlink",
    "evict.after_unlink",
    "group.before_commit",
    "group.after_commit",
    "group.before_sync",
)
"""Every ``failpoint("...")`` in the source; ``test_kill_at_failpoints.py`` compares."""

CRASH_POINTS = DOOR_POINTS + SOURCE_POINTS


class KillingDoor(Door):
    """Kills its process at ``point``, the ``countdown``-th time."""

    def __init__(self, point: str, countdown: int = 1) -> None:
        self._point = point
        self._countdown = countdown

    def failpoint(self, name: str) -> None:
        """Die here, if this is the instant."""
        if name == self._point:
            self._countdown -= 1
            if self._countdown == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def dies_next(self, name: str) -> bool:
        """Whether the next visit of ``name`` is the last."""
        return name == self._point and self._countdown == 1

    def flock(self, fd: int, operation: int) -> None:  # type: ignore[override]  # a static method there, for speed
        """Take or free a lock."""
        kind = "unlock" if operation == LOCK_UN else "lock"
        self.failpoint(f"{kind}.before")
        Door.flock(fd, operation)
        self.failpoint(f"{kind}.after")

    def map_file(self, fd: int, size: int) -> Any:
        """A map whose stores can be torn."""
        return _KillingMap(self, super().map_file(fd, size))

    def map_words(self, mapped: Any) -> Any:
        """Words whose stores have instants around them."""
        if isinstance(mapped, _KillingMap):
            return _KillingWords(self, super().map_words(mapped.mapped))
        return super().map_words(mapped)

    def store(self, fd: int, data: bytes, offset: int) -> None:
        """A large store."""
        self.failpoint("store.before")
        if self.dies_next("store.first_half"):
            super().store(fd, data[: len(data) // 2], offset)
        self.failpoint("store.first_half")
        super().store(fd, data, offset)
        self.failpoint("store.after")

    def prefault(self, fd: int, offset: int, length: int) -> None:
        """Preparing pages."""
        self.failpoint("prefault.before")
        super().prefault(fd, offset, length)
        self.failpoint("prefault.after")

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """A write."""
        self.failpoint("write.before")
        if self.dies_next("write.first_half"):
            super().write(fd, data[: len(data) // 2], offset)
        self.failpoint("write.first_half")
        super().write(fd, data, offset)
        self.failpoint("write.after")

    def allocate(self, fd: int, offset: int, length: int) -> None:
        """Taking blocks."""
        self.failpoint("allocate.before")
        super().allocate(fd, offset, length)
        self.failpoint("allocate.after")

    def truncate(self, fd: int, size: int) -> None:
        """Cutting or growing a file."""
        self.failpoint("truncate.before")
        super().truncate(fd, size)
        self.failpoint("truncate.after")

    def sync_data(self, fd: int) -> None:
        """Waiting for the disk."""
        self.failpoint("sync.before")
        super().sync_data(fd)
        self.failpoint("sync.after")


class _KillingMap:
    """A map whose stores can be torn."""

    def __init__(self, door: KillingDoor, mapped: mmap.mmap) -> None:
        self._door = door
        self.mapped = mapped

    def __getitem__(self, where: slice) -> bytes:
        return self.mapped[where]

    def __setitem__(self, where: slice, data: bytes) -> None:
        door, middle = self._door, (where.stop - where.start) // 2
        door.failpoint("copy.before")
        if door.dies_next("copy.first_half"):
            self.mapped[where.start : where.start + middle] = data[:middle]
        door.failpoint("copy.first_half")
        if door.dies_next("copy.last_half"):
            self.mapped[where.start + middle : where.stop] = data[middle:]
        door.failpoint("copy.last_half")
        self.mapped[where] = data
        door.failpoint("copy.after")

    def close(self) -> None:
        self.mapped.close()


class _KillingWords:
    """The hot words; the one that publishes has instants of its own."""

    def __init__(self, door: KillingDoor, words: memoryview) -> None:
        self._door = door
        self._words = words

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        kind = "publish" if index == PUBLISHED else "word"
        self._door.failpoint(f"{kind}.before")
        self._words[index] = value
        self._door.failpoint(f"{kind}.after")

    def release(self) -> None:
        self._words.release()
