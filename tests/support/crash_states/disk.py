"""What is on a disk, what a crash may leave of it, and that as real files.

A process crash leaves everything. A power cut leaves what was synced; of the rest

- each sector of 512 bytes of a file holds what it held at any moment since the file's last sync, whatever its
  neighbours hold, and if it was stored through a map perhaps half a store;
- a file has the size of any such moment; where it was cut, nothing from before the cut comes back;
- names come and go in any choice that keeps the order of changes of one name, and whose renames are whole.

What a sync failed to write is not written by the next one: the kernel takes it for written.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.crash_states.trace import (
    DIRECTORY,
    Allocate,
    Change,
    Create,
    FailedSync,
    Link,
    MakeDirectory,
    Name,
    Rename,
    SyncData,
    SyncDirectory,
    Truncate,
    Unlink,
    Write,
    halves,
)

SECTOR = 512
PAGE = 4096
_MODE = 0o600


@dataclass
class Contents:
    """Bytes of a file, and up to where it has blocks."""

    data: bytearray = field(default_factory=bytearray)
    allocated: int = 0

    def apply(self, change: Write | Truncate | Allocate) -> None:
        """Do what the change did."""
        if isinstance(change, Write):
            end = change.offset + len(change.data)
            self._grow(end)
            self.data[change.offset : end] = change.data
            self.allocated = max(self.allocated, end)
        elif isinstance(change, Truncate):
            del self.data[change.size :]
            self._grow(change.size)
            self.allocated = min(self.allocated, change.size)
        else:
            self._grow(change.offset + change.length)
            self.allocated = max(self.allocated, change.offset + change.length)

    def copy(self) -> Contents:
        """Another file with the same bytes."""
        return Contents(bytearray(self.data), self.allocated)

    def _grow(self, size: int) -> None:
        if size > len(self.data):
            self.data += bytes(size - len(self.data))


@dataclass
class ModelFile:
    """A file as it is, as it was when it was synced last, and what happened since."""

    now: Contents = field(default_factory=Contents)
    synced: Contents = field(default_factory=Contents)
    pending: list[Write | Truncate | Allocate] = field(default_factory=list)
    refused: list[Write] = field(default_factory=list)
    """Stores that the disk refused, by page: they are written only together with a later store to their page."""

    def apply(self, change: Write | Truncate | Allocate) -> None:
        """Do what the change did."""
        self.now.apply(change)
        if isinstance(change, Write):
            pages = range(change.offset // PAGE, (change.offset + len(change.data) - 1) // PAGE + 1)
            self.pending += [write for write in self.refused if write.offset // PAGE in pages]
            self.refused = [write for write in self.refused if write.offset // PAGE not in pages]
        self.pending.append(change)

    def sync(self) -> None:
        """Bring to the disk what it did not refuse before."""
        for change in self.pending:
            self.synced.apply(change)
        self.pending.clear()

    def refuse(self) -> None:
        """Do not, and never again."""
        for change in self.pending:
            if isinstance(change, Write):
                self.refused += _by_page(change)
            else:
                self.synced.apply(change)
        self.pending.clear()


@dataclass(frozen=True)
class Moments:
    """Which moment since the last sync each part of a file is from: how many changes it has seen."""

    size: int
    sectors: dict[int, tuple[int, int]]
    """By sector: how many changes, and which half (1 or 2) of the next one, 0 for none of it."""
    otherwise: int
    """For all other sectors."""


@dataclass(frozen=True)
class Survival:
    """One thing that a power cut may leave: of each file its moments (none: as it was synced), and which new names."""

    files: dict[int, Moments]
    names: frozenset[int]


@dataclass
class Image:
    """A disk at rest."""

    names: dict[str, int]
    files: dict[int, Contents]

    def build(self, root: Path) -> dict[int, int]:
        """Make it as real files, and return their numbers by inode."""
        built: dict[int, Path] = {}
        root.mkdir(mode=0o700)
        for name in sorted(self.names):
            path, number = root / name, self.names[name]
            if not path.parent.is_dir():
                # Its directory's own name was lost.
                continue
            if number == DIRECTORY:
                path.mkdir(mode=0o700)
            elif number in built:
                os.link(built[number], path)
            else:
                built[number] = path
                _make_file(path, self.files[number])
        return {path.stat().st_ino: number for number, path in built.items()}


def _make_file(path: Path, contents: Contents) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        os.write(fd, memoryview(contents.data)[: contents.allocated])
        os.ftruncate(fd, len(contents.data))
    finally:
        os.close(fd)


class Disk:
    """A disk that changes are made to, in their order."""

    def __init__(self, image: Image | None = None) -> None:
        image = image or Image({}, {})
        self.names = dict(image.names)
        self.files = {number: ModelFile(contents.copy(), contents.copy()) for number, contents in image.files.items()}
        self._synced_names = dict(image.names)
        self._pending_names: list[Name] = []

    def apply(self, change: Change) -> None:
        """Do what the change did."""
        if isinstance(change, Write | Truncate | Allocate):
            self.files[change.file].apply(change)
        elif isinstance(change, SyncData):
            self.files[change.file].sync()
        elif isinstance(change, FailedSync):
            self.files[change.file].refuse()
        elif isinstance(change, SyncDirectory):
            kept = [name for name in self._pending_names if _directory(name) != change.path]
            for name in self._pending_names:
                if _directory(name) == change.path:
                    _rename_in(self._synced_names, name)
            self._pending_names = kept
        else:
            if isinstance(change, Create):
                self.files[change.file] = ModelFile()
            _rename_in(self.names, change)
            self._pending_names.append(change)

    def after_process_crash(self, torn: Write | None = None) -> Image:
        """What a death of all processes leaves: everything, and perhaps a part of a store that was not finished."""
        files = {number: self.files[number].now.copy() for number in set(self.names.values()) if number != DIRECTORY}
        if torn is not None and torn.file in files:
            files[torn.file].apply(torn)
        return Image(dict(self.names), files)

    def after_power_cut(self, survival: Survival) -> Image:
        """What a power cut leaves if that survives it."""
        names = dict(self._synced_names)
        for index, change in enumerate(self._pending_names):
            if index in survival.names:
                _rename_in(names, change)
        files = {}
        for number in set(names.values()) - {DIRECTORY}:
            moments = survival.files.get(number)
            file = self.files[number]
            files[number] = file.synced.copy() if moments is None else _at_moments(file, moments)
        return Image(names, files)

    def survivals(self, chance: random.Random, kind: str) -> Survival:
        """Choose what a power cut leaves.

        ``nothing`` and ``everything`` that was not synced, ``ordered`` (all up to one moment in each file, and the
        first of the names), ``names`` without contents, ``contents`` without names, or any ``mixture``.
        """
        pending = {number: file.pending for number, file in self.files.items() if file.pending}
        count = len(self._pending_names)
        whole = {number: Moments(len(changes), {}, len(changes)) for number, changes in pending.items()}
        if kind == "nothing":
            return Survival({}, frozenset())
        if kind == "everything":
            return Survival(whole, frozenset(range(count)))
        if kind == "names":
            sizes = {number: Moments(len(changes), {}, 0) for number, changes in pending.items()}
            return Survival(sizes, frozenset(range(count)))
        if kind == "contents":
            return Survival(whole, frozenset())
        if kind == "ordered":
            moments = {number: chance.randrange(len(changes) + 1) for number, changes in pending.items()}
            files = {number: Moments(moment, {}, moment) for number, moment in moments.items()}
            return Survival(files, frozenset(range(chance.randrange(count + 1))))
        return Survival(
            {number: _mixture(changes, chance) for number, changes in pending.items()}, self._some_names(chance)
        )

    def unsynced(self) -> bool:
        """Whether a power cut could take anything."""
        return bool(self._pending_names) or any(file.pending for file in self.files.values())

    def simpler(self, survival: Survival) -> list[Survival]:
        """Survivals with one part less in doubt: a file that is as it was synced, or as it is now; all names."""
        found = []
        every_name = frozenset(range(len(self._pending_names)))
        if survival.names not in {frozenset(), every_name}:
            found += [Survival(survival.files, frozenset()), Survival(survival.files, every_name)]
        for number, moments in survival.files.items():
            others = {other: kept for other, kept in survival.files.items() if other != number}
            found.append(Survival(others, survival.names))
            last = len(self.files[number].pending)
            whole = Moments(last, {}, last)
            if moments != whole:
                found.append(Survival({**others, number: whole}, survival.names))
        return found

    def describe(self, survival: Survival) -> str:
        """Say in words what survives."""
        by_number = {number: name for name, number in self.names.items()}
        lines = [
            f"{by_number.get(number, number)}: of {len(self.files[number].pending)} changes the size of {moments.size}"
            f", bytes of {moments.otherwise}, but {moments.sectors}"
            for number, moments in survival.files.items()
            if self.files[number].pending
        ]
        lines += [
            f"{'kept' if index in survival.names else 'lost'}: {change}"
            for index, change in enumerate(self._pending_names)
        ]
        return "\n  ".join(lines)

    def _some_names(self, chance: random.Random) -> frozenset[int]:
        likely = chance.choice((0.2, 0.5, 0.8, 1.0))
        kept: set[int] = set()
        spoiled: set[str] = set()
        for index, change in enumerate(self._pending_names):
            paths = _paths(change)
            if paths & spoiled or _directory(change) in spoiled or chance.random() >= likely:
                spoiled |= paths
            else:
                kept.add(index)
        return frozenset(kept)


def _by_page(write: Write) -> list[Write]:
    """One store as several, each within a page."""
    pieces = []
    offset, data = write.offset, write.data
    while data:
        size = PAGE - offset % PAGE
        pieces.append(write._replace(offset=offset, data=data[:size]))
        offset, data = offset + size, data[size:]
    return pieces


def _paths(change: Name) -> set[str]:
    return {change.source, change.target} if isinstance(change, Rename | Link) else {change.path}


def _directory(change: Name) -> str:
    path = change.target if isinstance(change, Rename | Link) else change.path
    return path.rpartition("/")[0] or "."


def _rename_in(names: dict[str, int], change: Name) -> None:
    if isinstance(change, MakeDirectory):
        names[change.path] = DIRECTORY
    elif isinstance(change, Create):
        names[change.path] = change.file
    elif isinstance(change, Link):
        names[change.target] = names[change.source]
    elif isinstance(change, Rename):
        names[change.target] = names.pop(change.source)
    elif isinstance(change, Unlink):
        del names[change.path]


def _touched(change: Write | Truncate | Allocate, size: int) -> range:
    if isinstance(change, Write):
        return range(change.offset // SECTOR, -(-(change.offset + len(change.data)) // SECTOR))
    if isinstance(change, Truncate):
        return range(change.size // SECTOR, -(-size // SECTOR))
    return range(0)


def _mixture(changes: list[Write | Truncate | Allocate], chance: random.Random) -> Moments:
    """Moments for a file: some sectors are of another moment than the others."""
    last = len(changes)
    size = chance.choice((0, last, chance.randrange(last + 1)))
    otherwise = chance.choice((0, last, chance.randrange(last + 1)))
    by_sector: dict[int, list[int]] = {}
    for index, change in enumerate(changes):
        if isinstance(change, Write):
            for sector in _touched(change, 0):
                by_sector.setdefault(sector, []).append(index)
    share = chance.choice((0.1, 0.5, 1.0))
    sectors = {}
    for sector, indexes in by_sector.items():
        if chance.random() < share:
            index = chance.choice(indexes)
            change = changes[index]
            half = chance.randrange(3) if isinstance(change, Write) and change.mapped and halves(change) else 0
            # Before the change, half of it, or behind it.
            sectors[sector] = (index, half) if half or chance.random() < 0.5 else (index + 1, 0)
    if by_sector and chance.random() < 0.2:
        # All but one sector, or nothing but one.
        otherwise = chance.choice((0, last))
        sectors = {chance.choice(sorted(by_sector)): (last - otherwise, 0)}
    return Moments(size, sectors, otherwise)


def _at_moments(file: ModelFile, moments: Moments) -> Contents:
    """The file as it is left."""
    changes = file.pending
    rolling, result = file.synced.copy(), file.synced.copy()
    length = max(len(file.synced.data), *map(_end, changes))
    result.data = bytearray(length)
    sectors = range(-(-length // SECTOR))
    wanted = {sector: moments.sectors.get(sector, (moments.otherwise, 0)) for sector in sectors}
    _respect_cuts(file, moments.size, wanted, length)
    by_moment: dict[tuple[int, int], list[int]] = {}
    for sector, moment in wanted.items():
        by_moment.setdefault(moment, []).append(sector)
    size = len(file.synced.data)
    allocated = file.synced.allocated
    for index in range(len(changes) + 1):
        _take(rolling, result.data, by_moment.get((index, 0), []))
        if index == moments.size:
            size, allocated = len(rolling.data), rolling.allocated
        if index == len(changes):
            break
        change = changes[index]
        for half in (1, 2):
            if taken := by_moment.get((index, half)):
                partly = rolling.copy()
                partly.apply(halves(change)[half - 1] if isinstance(change, Write) else change)
                _take(partly, result.data, taken)
        rolling.apply(change)
    del result.data[size:]
    result.data += bytes(size - len(result.data))
    result.allocated = max(min(allocated, size), len(result.data.rstrip(b"\0")))
    return result


def _end(change: Write | Truncate | Allocate) -> int:
    if isinstance(change, Truncate):
        return change.size
    return change.offset + (len(change.data) if isinstance(change, Write) else change.length)


def _take(source: Contents, target: bytearray, sectors: list[int]) -> None:
    for sector in sectors:
        start = sector * SECTOR
        data = source.data[start : start + SECTOR]
        target[start : start + len(data)] = data


def _respect_cuts(file: ModelFile, size: int, wanted: dict[int, tuple[int, int]], length: int) -> None:
    """Where the file was cut, a size from behind the cut goes with bytes from behind it, and one before with others."""
    for index, change in enumerate(file.pending):
        if isinstance(change, Truncate):
            for sector in _touched(change, length):
                if sector in wanted:
                    moment = wanted[sector]
                    if size > index:
                        wanted[sector] = max(moment, (index + 1, 0))
                    else:
                        wanted[sector] = min(moment, (index, 0))
