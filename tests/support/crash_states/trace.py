"""A door that records every change of a file or a directory, stores through maps included."""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from comet_storage._os.door import Door, FileStatus
from tests.support.small_log import QuickDoor

DIRECTORY = -1
"""Stands for a directory where files have their number."""

WORD_BYTES = 8
DEVICE = 1
STATE_PAGE = "state"

RECORDED = frozenset(
    {
        "allocate",
        "close",
        "link",
        "make_directories",
        "map_file",
        "map_words",
        "open",
        "prefault",
        "rename",
        "store",
        "sync_data",
        "sync_directory",
        "truncate",
        "unlink",
        "write",
    }
)
"""Calls of the door that change what is on the disk, or lead to objects that do."""

HARMLESS = frozenset(
    {
        "absolute_path",
        "accessible",
        "boot_id",
        "boot_time_ns",
        "descriptor_status",
        "effective_user",
        "failpoint",
        "filesystem_type",
        "flock",
        "free_bytes",
        "is_open_elsewhere",
        "list_blocks",
        "list_directory",
        "map_read_only",
        "monotonic",
        "open_directory_kept",
        "open_kept",
        "random_bytes",
        "read",
        "seek",
        "sleep",
        "status",
        "try_lock",
        "unlock",
        "wall_clock_ns",
    }
)
"""Calls that change nothing on the disk, or only by others of the door (``open_kept`` opens)."""


class Write(NamedTuple):
    """Bytes stored to a file; through a map, the kernel may write a page back while it is half stored."""

    file: int
    offset: int
    data: bytes
    mapped: bool = False


class Truncate(NamedTuple):
    """A new size of a file."""

    file: int
    size: int


class Allocate(NamedTuple):
    """Blocks for a range of a file, which read as zeros until something is stored to them."""

    file: int
    offset: int
    length: int


class SyncData(NamedTuple):
    """Everything stored to a file, and its size, is on the disk."""

    file: int


class FailedSync(NamedTuple):
    """The disk refused: what was stored to a file is not on it, and the kernel takes it for written."""

    file: int


class MakeDirectory(NamedTuple):
    """A new directory."""

    path: str


class Create(NamedTuple):
    """A new, empty file."""

    path: str
    file: int


class Link(NamedTuple):
    """A second name of a file."""

    source: str
    target: str


class Rename(NamedTuple):
    """Another name of a file, in the place of whatever had it."""

    source: str
    target: str


class Unlink(NamedTuple):
    """A name less."""

    path: str


class SyncDirectory(NamedTuple):
    """The names in a directory are on the disk."""

    path: str


@dataclass
class Mark:
    """Something that was promised, or is about to be asked for, between two changes (see ``knowledge``)."""

    kind: str
    numbers: frozenset[int] = frozenset()
    entries: tuple[bytes, ...] = ()
    first: int = 0
    position: int = 0
    """Log position behind an append's frame."""


Name = MakeDirectory | Create | Link | Rename | Unlink
Change = Write | Truncate | Allocate | SyncData | FailedSync | Name | SyncDirectory
Event = Change | Mark


class ModelDoor(QuickDoor):
    """A machine in one boot, whose clock and chance repeat themselves, and whose files have numbers of their own.

    A state page knows its device and inode, so a file that is made anew for a crash state keeps its number.
    """

    def __init__(self, boot: int, files: dict[int, int] | None = None, seed: int = 0) -> None:
        self.boot = boot
        self.now = 1000.0
        self._wall_ns = 1_700_000_000_000_000_000
        self._chance = random.Random(seed)
        self._files = dict(files or {})

    def boot_id(self) -> bytes:
        """This boot's; boot 0 is that of a system that does not tell."""
        return self.boot.to_bytes(16, "big")

    def filesystem_type(self, path: str) -> str:
        """One where mapped stores are safe."""
        return "ext4"

    def monotonic(self) -> float:
        """Return the time that the test set."""
        return self.now

    def boot_time_ns(self) -> int:
        """Return the time that the test set."""
        return int(self.now * 1e9)

    def sleep(self, duration: float) -> None:
        """Let that time pass at once."""
        self.now += duration

    def wall_clock_ns(self) -> int:  # type: ignore[override]  # the door has it as an attribute, for speed
        """A clock that ticks with each look at it."""
        self._wall_ns += 1_000_000
        return self._wall_ns

    def random_bytes(self, count: int) -> bytes:
        """Return bytes that follow from the seed."""
        return self._chance.randbytes(count)

    def status(self, path: str) -> FileStatus:
        """Status with the file's number as inode."""
        return self._numbered(super().status(path))

    def descriptor_status(self, fd: int) -> FileStatus:
        """Status with the file's number as inode."""
        return self._numbered(super().descriptor_status(fd))

    def _numbered(self, status: FileStatus) -> FileStatus:
        return status._replace(device=DEVICE, inode=self._files.get(status.inode, status.inode + (1 << 48)))


class RecordingDoor(ModelDoor):
    """Records the changes in one directory. ``trace`` may be appended to by the test, too.

    Args:
        root: the directory; what is in it already has the numbers that ``files`` gives, or is not the log's.
        boot: see :class:`ModelDoor`.
        files: see :class:`ModelDoor`.
    """

    def __init__(self, root: Path, boot: int, files: dict[int, int] | None = None, seed: int = 0) -> None:
        super().__init__(boot, files, seed)
        self.trace: list[Event] = []
        self.published = 0
        """What was last stored as a published position."""
        self.refused: str | None = None
        """Part of the name of a file of which the next sync fails."""
        self._root = str(root)
        self._names: dict[str, int] = {}
        self._open: dict[int, int] = {}
        self._next = max(self._files.values(), default=0) + 1
        for path in root.rglob("*"):
            number = self._files.get(path.stat().st_ino)
            if number is not None:
                self._names[self._relative(str(path))] = number

    def record(self, event: Event) -> None:
        """Note what happened."""
        self.trace.append(event)

    def open(self, path: str, *, write: bool = False, create: bool = False, exclusive: bool = False) -> int:
        """Open, and note a file that is new."""
        name = self._relative(path)
        fd = super().open(path, write=write, create=create, exclusive=exclusive)
        if create and name not in self._names:
            self._names[name] = self._files[os.fstat(fd).st_ino] = self._next
            self.record(Create(name, self._next))
            self._next += 1
        if name in self._names:
            self._open[fd] = self._names[name]
        return fd

    def close(self, fd: int) -> None:
        """Close."""
        self._open.pop(fd, None)
        super().close(fd)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write and note it."""
        super().write(fd, data, offset)
        self._stored(self._open[fd], offset, bytes(data))

    def store(self, fd: int, data: bytes, offset: int) -> None:
        """Write and note it."""
        super().store(fd, data, offset)
        self._stored(self._open[fd], offset, bytes(data))

    def prefault(self, fd: int, offset: int, length: int) -> None:
        """Write zeros and note it."""
        super().prefault(fd, offset, length)
        self._stored(self._open[fd], offset, bytes(length))

    def allocate(self, fd: int, offset: int, length: int) -> None:
        """Take blocks and note it."""
        super().allocate(fd, offset, length)
        self.record(Allocate(self._open[fd], offset, length))

    def truncate(self, fd: int, size: int) -> None:
        """Cut or grow and note it."""
        super().truncate(fd, size)
        self.record(Truncate(self._open[fd], size))

    def sync_data(self, fd: int) -> None:
        """Note it; there is nothing to wait for. Fail once, if the test wants that."""
        file = self._open[fd]
        if self.refused is not None and self.refused in self._name_of(file):
            self.refused = None
            self.record(FailedSync(file))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.record(SyncData(file))

    def sync_directory(self, path: str) -> None:
        """Note it; there is nothing to wait for."""
        self.record(SyncDirectory(self._relative(path)))

    def rename(self, source: str, target: str) -> None:
        """Rename and note it."""
        super().rename(source, target)
        old, new = self._relative(source), self._relative(target)
        self._names[new] = self._names.pop(old)
        self.record(Rename(old, new))

    def link(self, source: str, target: str) -> None:
        """Link and note it."""
        super().link(source, target)
        old, new = self._relative(source), self._relative(target)
        self._names[new] = self._names[old]
        self.record(Link(old, new))

    def unlink(self, path: str) -> None:
        """Unlink and note it."""
        super().unlink(path)
        name = self._relative(path)
        del self._names[name]
        self.record(Unlink(name))

    def make_directories(self, path: str) -> None:
        """Make and note each that is new."""
        missing = [directory for directory in (Path(path), *Path(path).parents) if not directory.is_dir()]
        super().make_directories(path)
        for directory in reversed(missing):
            self.record(MakeDirectory(self._relative(str(directory))))

    def map_file(self, fd: int, size: int) -> Any:
        """A map that notes what is stored through it."""
        return RecordingMap(self, self._open[fd], super().map_file(fd, size))

    def map_words(self, mapped: Any) -> Any:
        """Words that note what is stored to them."""
        if isinstance(mapped, RecordingMap):
            return RecordingWords(self, mapped.file, super().map_words(mapped.mapped))
        return super().map_words(mapped)

    def stored(self, file: int, offset: int, data: bytes) -> None:
        """Note a store through a map."""
        self._stored(file, offset, data, mapped=True)

    def _stored(self, file: int, offset: int, data: bytes, *, mapped: bool = False) -> None:
        if offset == 0 and len(data) == WORD_BYTES and self.is_state_page(file):
            self.published = int.from_bytes(data, "little")
        self.record(Write(file, offset, data, mapped))

    def is_state_page(self, file: int) -> bool:
        """Whether the file is a shard's state page."""
        return self._name_of(file).endswith(f"/{STATE_PAGE}")

    def _name_of(self, file: int) -> str:
        return next((name for name, number in self._names.items() if number == file), "")

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._root)


class RecordingMap:
    """A map of a file whose slice assignments are noted."""

    def __init__(self, door: RecordingDoor, file: int, mapped: mmap.mmap) -> None:
        self._door = door
        self.file = file
        self.mapped = mapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mapped, name)

    def __len__(self) -> int:
        return len(self.mapped)

    def __getitem__(self, where: slice) -> bytes:
        return self.mapped[where]

    def __setitem__(self, where: slice, data: bytes) -> None:
        self.mapped[where] = data
        self._door.stored(self.file, where.start, bytes(data))


class RecordingWords:
    """The hot words; each assignment is noted."""

    def __init__(self, door: RecordingDoor, file: int, words: memoryview) -> None:
        self._door = door
        self._file = file
        self._words = words

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[index] = value
        self._door.stored(self._file, WORD_BYTES * index, value.to_bytes(WORD_BYTES, "little"))

    def release(self) -> None:
        """Let go of the map."""
        self._words.release()


def calls_of_the_door() -> Iterator[str]:
    """Names of everything that can be called on a door."""
    for name in dir(Door):
        if not name.startswith("_") and callable(getattr(Door, name)):
            yield name


def halves(write: Write) -> list[Write]:
    """What a death in the middle of a store may leave of it: its first or its last half; nothing of one word."""
    middle = len(write.data) // 2 // WORD_BYTES * WORD_BYTES
    if not middle:
        return []
    return [
        write._replace(data=write.data[:middle]),
        write._replace(offset=write.offset + middle, data=write.data[middle:]),
    ]
