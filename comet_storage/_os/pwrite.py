"""Stores by ``pwrite`` behind the interface of a map, for filesystems where a store through a map can run out of space.

On a copy-on-write filesystem even rewriting a written page needs a new block, and a full disk then kills the process
that stores through a map. A failed ``pwrite`` is an exception instead, and a stalled one stops only its own thread.
"""

from __future__ import annotations

import contextlib
import struct

from comet_storage._format.state_page import HINT_NUMBER, HINT_POSITION
from comet_storage._os.door import Door

_WORD = struct.Struct("<Q")
_WORDS = struct.Struct("<QQ")


class PwriteBytes:
    """A file as a target of slice assignments and a source of slices."""

    def __init__(self, door: Door, fd: int) -> None:
        self._door = door
        self._fd = fd

    def __getitem__(self, where: slice) -> bytes:
        return self._door.read(self._fd, where.stop - where.start, where.start)

    def __setitem__(self, where: slice, data: bytes) -> None:
        self._door.write(self._fd, data, where.start)

    def close(self) -> None:
        """Nothing to unmap; the descriptor belongs to the caller."""


class PwriteWords:
    """A state page as an array of 64-bit words.

    The two words of the hint are written together, with the second, and only if that works: what they belong to was
    published before, and an append that is published may not fail.
    """

    def __init__(self, door: Door, fd: int) -> None:
        self._door = door
        self._fd = fd
        self._hint_number = 0

    def __getitem__(self, index: int) -> int:
        value: int = _WORD.unpack(self._door.read(self._fd, 8, 8 * index))[0]
        return value

    def __setitem__(self, index: int, value: int) -> None:
        if index == HINT_NUMBER:
            self._hint_number = value
        elif index == HINT_POSITION:
            with contextlib.suppress(OSError):
                self._door.write(self._fd, _WORDS.pack(self._hint_number, value), 8 * HINT_NUMBER)
        else:
            self._door.write(self._fd, _WORD.pack(value), 8 * index)

    def release(self) -> None:
        """Nothing to release."""
