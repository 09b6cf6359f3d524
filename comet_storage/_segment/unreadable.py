"""Blocks that the disk refuses to give: asked for again and again, and taken for damaged only when that does not help.

A read error that passes (a cable, a busy controller, a path that fails over) must not cost entries. One that stays must
not stop a group for ever. So an error is raised, which is retryable, until the same block was refused ``TRIES`` times
over ``SECONDS``; from then on its bytes are zeros to this reader: no frame that needs them proves itself, and each is
counted as corrupt, as any other damage is. Only input/output errors get there; a process without descriptors or memory
is told so, however often.
"""

from __future__ import annotations

import errno

from comet_storage._os.door import Door

UNREADABLE_TRIES = 5
UNREADABLE_SECONDS = 30.0
UNREADABLE_BLOCK_BYTES = 4096
"""What the kernel reads at a time: one bad sector makes its page unreadable."""

_BLOCKS_MAX = 4096


class UnreadableBlocks:
    """What one reader could not read so far."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._refused: dict[tuple[str, int], tuple[float, int]] = {}

    def given_up(self, path: str, block: int, error: OSError) -> bool:
        """Note that reading a block failed; returns whether it counts as damaged from now on."""
        if error.errno != errno.EIO:
            return False
        now = self._door.monotonic()
        since, tries = self._refused.get((path, block), (now, 0))
        if len(self._refused) >= _BLOCKS_MAX:
            self._refused.clear()
        self._refused[path, block] = (since, tries + 1)
        return tries + 1 >= UNREADABLE_TRIES and now - since >= UNREADABLE_SECONDS
