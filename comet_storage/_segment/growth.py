"""Preparing blocks behind what an active segment has, in the flusher's thread, while appends go on before them.

A filesystem notes in its journal when a preallocated block is written for the first time. Each sync then commits the
journal, and an append that changes the file's time meanwhile waits for that: tens of milliseconds. So the blocks are
filled with zeros and synced before they are handed over, and later syncs have only data to write. The price is that
what is appended is written twice, the first time as zeros; at low rates the spared commits are more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from comet_storage.errors import LogBusyError

if TYPE_CHECKING:
    from comet_storage._os.door import Door
    from comet_storage._segment.active import Reserve

_CHUNK = bytes(256 * 1024)

CHUNK_BYTES = len(_CHUNK)
"""Bytes that are prepared at a time; an append that needs them waits for as many at most."""

_WAIT_SECONDS = 50e-6


class Growth:
    """One step of preparation.

    The zeros must never meet bytes of an append. Two marks see to that: the flusher says that it writes and then
    looks whether it has to stop; an append says stop and then waits while the flusher writes.

    Args:
        start: offset from which on blocks are needed.
        used: offset up to which bytes were appended. ``start`` can be before it, because after a reopening the blocks
            are known by whole pages only.

    Attributes:
        prepared: offset up to which the blocks can be stored to.
        filled: offset up to which they are also filled with zeros.
    """

    def __init__(self, start: int, used: int = 0) -> None:
        self.prepared = start
        self._used = used
        self.filled = 0
        self._writing = False
        self._stopped = False

    def run(
        self, door: Door, fd: int, target: int, reserve: Reserve, *, fill: bool, may_go_on: Callable[[], bool]
    ) -> None:
        """Prepare blocks up to ``target``, or until stopped or ``may_go_on`` says no.

        Raises:
            LogFullError: there is no room for more; what is prepared stays.
        """
        while (start := self.prepared) < target:
            stop = min(start + CHUNK_BYTES, target) if fill else target
            self._writing = True
            try:
                if self._stopped or not may_go_on():
                    return
                reserve(stop - start, lambda: door.allocate(fd, start, stop - start))  # noqa: B023 - called at once
                if fill:
                    fill_blocks(door, fd, max(start, self._used), stop)
                    self.filled = stop
                self.prepared = stop
            finally:
                self._writing = False
        if fill:
            door.sync_data(fd)

    def stop(self, door: Door, timeout: float) -> int:
        """Have it end and return what is prepared.

        Raises:
            LogBusyError: the disk did not take a chunk within ``timeout`` seconds.
        """
        self._stopped = True
        deadline = door.monotonic() + timeout
        while self._writing:
            if door.monotonic() >= deadline:
                raise LogBusyError("the disk does not take what prepares room for this append; nothing was stored")
            door.sleep(_WAIT_SECONDS)
        return self.prepared


def fill_blocks(door: Door, fd: int, start: int, stop: int) -> None:
    """Store zeros to preallocated blocks that no append can reach."""
    for offset in range(start, stop, CHUNK_BYTES):
        door.write(fd, _CHUNK[: stop - offset], offset)
