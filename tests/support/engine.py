"""Pieces of the engine as unit tests need them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from comet_storage._log.layout import LogLayout
from comet_storage._log.space import SpaceLedger
from comet_storage._os.door import Door

PAGE = 4096


def free_reserve(_size: int, allocate: Callable[[], None]) -> None:
    """Reserve without any bound."""
    allocate()


def ledger(
    directory: Path, bound: int, *, door: Door | None = None, when_full: str = "evict_oldest", min_free_bytes: int = 0
) -> SpaceLedger:
    """Make a ledger over a directory."""
    door = door or Door()
    layout = LogLayout(door, str(directory))
    return SpaceLedger(door, layout, bound=bound, when_full=when_full, min_free_bytes=min_free_bytes, lock_timeout=5.0)


class ManualDoor(Door):
    """The real operating system with clocks that only the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall_ns = 1_700_000_000_000_000_000

    def monotonic(self) -> float:
        """Return the time that the test set."""
        return self.now

    def sleep(self, duration: float) -> None:
        """Let that time pass at once."""
        self.now += duration

    def wall_clock_ns(self) -> int:  # type: ignore[override]  # the door has it as an attribute, for speed
        """Return the time that the test set."""
        return self.wall_ns
