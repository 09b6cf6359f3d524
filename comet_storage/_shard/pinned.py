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
from typing import Any, NamedTuple

from comet_storage._os.door import Door, MappedFile
from comet_storage._segment.file import SegmentFile


class _Buffer(bytearray):
    """Bytes that can be referred to weakly."""

    __slots__ = ("__weakref__",)


class _Map(NamedTuple):
    memory: weakref.ref[MappedFile]
    size: int
    path: str
    identity: tuple[int, int]
    """Device and inode."""


class PinnedViews:
    """The memory behind the views that one client gave out.

    Everything is changed by single steps that no other thread can come into, so there is no lock that a finalizer or a
    fork could meet locked.

    Args:
        door: where maps come from.
        limit: the most bytes of maps and buffers that may be alive at a time.

    Attributes:
        total: bytes of the maps and buffers that are alive.
    """

    def __init__(self, door: Door, limit: int) -> None:
        self.total = 0
        self._door = door
        self._limit = limit
        self._keys = itertools.count()
        self._maps: dict[int, _Map] = {}
        self._buffers: dict[int, weakref.ref[_Buffer]] = {}

    def map_segment(self, segment: SegmentFile, end: int) -> MappedFile | None:
        """The file of a segment up to at least ``end``; None where that is too much, or cannot be mapped."""
        found = segment.mapping() if segment.mapping is not None else None
        if found is not None and len(found) >= end:
            return found
        status = self._door.descriptor_status(segment.fd)
        identity = (status.device, status.inode)
        for other in list(self._maps.values()):
            shared = other.memory() if other.identity == identity and other.size >= end else None
            if shared is not None:
                segment.mapping = other.memory
                return shared
        try:
            mapped = self._door.map_read_only(segment.fd, status.size)
        except (OSError, ValueError):
            return None
        if not self._take(status.size):
            return None
        key = next(self._keys)
        memory = weakref.ref(mapped, self._forgetting(self._maps, key, status.size))
        self._maps[key] = _Map(memory, status.size, segment.path, identity)
        segment.mapping = memory
        return mapped if len(mapped) >= end else None

    def keep(self, content: memoryview) -> memoryview | None:
        """A decompressed body in memory of its own; None where that is too much."""
        size = len(content)
        buffer = _Buffer(content)
        if not self._take(size):
            return None
        key = next(self._keys)
        self._buffers[key] = weakref.ref(buffer, self._forgetting(self._buffers, key, size))
        return memoryview(buffer).toreadonly()

    def unlinked(self) -> int:
        """Bytes of maps whose segment has no name any more: disk space that is taken until the last view is gone."""
        return sum(each.size for each in list(self._maps.values()) if not self._is_named(each))

    def _take(self, size: int) -> bool:
        # Counted first and looked at then: two threads may both be refused, but never both be let in.
        self.total += size
        if self.total <= self._limit:
            return True
        self.total -= size
        return False

    def _forgetting(self, memory: dict[int, Any], key: int, size: int) -> Callable[[object], None]:
        def forget(_: object) -> None:
            self.total -= size
            memory.pop(key, None)

        return forget

    def _is_named(self, mapped: _Map) -> bool:
        try:
            status = self._door.status(mapped.path)
        except OSError:
            return False
        return (status.device, status.inode) == mapped.identity
