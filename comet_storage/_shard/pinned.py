"""Memory that messages read without copying stay in: maps of segments, and decompressed bodies.

A view keeps what it is a view of, and nothing else does: when the last one is gone, the map or buffer goes too, and
with it the blocks of a segment that was evicted meanwhile. So there is nothing to free on closing, and no closing can
take memory from under a view. A map is never moved or resized; a segment that grew gets another one.

What a map cannot do is fail with an exception. Only bytes that were read and checked before are given out, all of them
below the published end, where the log itself never cuts a file. A file that something else cuts short, or a sector that
goes bad after it was read and after the kernel dropped the page, ends the process with SIGBUS when a view is looked at.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import NamedTuple

from comet_storage._os.door import Door, MappedFile
from comet_storage._segment.file import SegmentFile


class _Buffer(bytearray):
    """Bytes that can be referred to weakly."""

    __slots__ = ("__weakref__",)


class _Pin(NamedTuple):
    memory: Callable[[], object]
    """A weak reference."""
    size: int
    path: str | None
    identity: tuple[int, int]
    """Device and inode."""


class PinnedViews:
    """The memory behind the views that one client gave out.

    Args:
        door: where maps come from.
        limit: the most bytes of maps and buffers that may be alive at a time.
    """

    def __init__(self, door: Door, limit: int) -> None:
        self._door = door
        self._limit = limit
        self._keys = itertools.count()
        # Changed by single calls only, so that threads and finalizers need no lock that a fork could leave locked.
        self._pins: dict[int, _Pin] = {}

    def map_segment(self, segment: SegmentFile, end: int) -> MappedFile | None:
        """The file of a segment up to at least ``end``; None where that is too much, or cannot be mapped."""
        found = segment.mapping() if segment.mapping is not None else None
        if found is not None and len(found) >= end:
            return found
        status = self._door.descriptor_status(segment.fd)
        identity = (status.device, status.inode)
        for pin in list(self._pins.values()):
            shared = pin.memory() if pin.identity == identity and pin.size >= end else None
            if isinstance(shared, MappedFile):
                segment.mapping = weakref.ref(shared)
                return shared
        if self._limit < status.size:
            return None
        try:
            mapped = self._door.map_read_only(segment.fd, status.size)
        except (OSError, ValueError):
            return None
        if len(mapped) < end or not self._pin(mapped, status.size, segment.path, identity):
            return None
        segment.mapping = weakref.ref(mapped)
        return mapped

    def keep(self, content: memoryview) -> memoryview | None:
        """A decompressed body in memory of its own; None where that is too much."""
        buffer = _Buffer(content)
        return memoryview(buffer).toreadonly() if self._pin(buffer, len(buffer), None, (0, 0)) else None

    def total(self) -> int:
        """Bytes of the maps and buffers that are alive."""
        return sum(pin.size for pin in list(self._pins.values()))

    def unlinked(self) -> int:
        """Bytes of maps whose segment has no name any more: disk space that is taken until the last view is gone."""
        return sum(pin.size for pin in list(self._pins.values()) if pin.path is not None and not self._is_named(pin))

    def _pin(self, memory: MappedFile | _Buffer, size: int, path: str | None, identity: tuple[int, int]) -> bool:
        key = next(self._keys)
        self._pins[key] = _Pin(weakref.ref(memory, _forgetting(self._pins, key)), size, path, identity)
        # Counted first and looked at then: two threads may both be refused, but never both be let in.
        if self.total() <= self._limit:
            return True
        del self._pins[key]
        return False

    def _is_named(self, pin: _Pin) -> bool:
        try:
            status = self._door.status(pin.path or "")
        except OSError:
            return False
        return (status.device, status.inode) == pin.identity


def _forgetting(pins: dict[int, _Pin], key: int) -> Callable[[object], None]:
    # A function of the dictionary and not of the object, which may be gone before the last view is.
    def forget(_: object) -> None:
        pins.pop(key, None)

    return forget
