"""The door of the state machine: a disk that can lose its power, clocks that stand still, chance that repeats."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.support.power_door import PowerDoor


class MachineDoor(PowerDoor):
    """What was synced is remembered; sleeping takes no time; the same actions meet the same random bytes."""

    def __init__(self, boot: int, directory: Path) -> None:
        # Boot 0 has an id of zeros, which proves nothing.
        super().__init__(boot + 1, directory)
        self.boot = boot
        self.now = 1000.0 * (boot + 1)
        self.wall_ns = 1_700_000_000_000_000_000 + boot
        self._chance = random.Random(boot)

    def monotonic(self) -> float:
        """Seconds that were slept."""
        return self.now

    def sleep(self, duration: float) -> None:
        """Let that time pass at once."""
        self.now += duration

    def wall_clock_ns(self) -> int:  # type: ignore[override]  # the door has it as an attribute, for speed
        """The time that the machine set."""
        return self.wall_ns

    def random_bytes(self, count: int) -> bytes:
        """Bytes that a failing example meets again."""
        return self._chance.randbytes(count)

    def memory(self) -> dict[str, Any]:
        """What a forked child has to hand back, so that its parent knows what it synced."""
        return dict(self.__dict__)

    def remember(self, memory: dict[str, Any]) -> None:
        """Take over what a child handed back."""
        self.__dict__.update(memory)
