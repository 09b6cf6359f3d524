"""Pieces of the engine as unit tests need them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from comet_storage._format.segment_header import SegmentHeader
from comet_storage._log.layout import LogLayout
from comet_storage._log.space import SpaceLedger
from comet_storage._os.door import Door
from comet_storage._retention.keeper import Keeper
from comet_storage.config import RetentionConfig

PAGE = 4096


def free_reserve(_size: int, allocate: Callable[[], None]) -> None:
    """Reserve without any bound."""
    allocate()


def ledger(
    directory: Path, bound: int, *, door: Door | None = None, when_full: str = "evict_oldest", min_free_bytes: int = 0
) -> SpaceLedger:
    """Make a ledger over a directory."""
    return keeper(directory, bound, door=door, when_full=when_full, min_free_bytes=min_free_bytes)[1]


def keeper(
    directory: Path,
    bound: int,
    *,
    door: Door | None = None,
    when_full: str = "evict_oldest",
    min_free_bytes: int = 0,
    **rules: Any,
) -> tuple[Keeper, SpaceLedger]:
    """Make a ledger over a directory, and what evicts for it."""
    door = door or Door()
    layout = LogLayout(door, str(directory))
    space = SpaceLedger(door, layout, bound=bound, when_full=when_full, min_free_bytes=0, lock_timeout=5.0)
    config = RetentionConfig(
        max_total_size=bound, when_full=when_full, min_free_bytes=min_free_bytes, **{"min_files_to_keep": 0, **rules}
    )
    return Keeper(door, layout, space, config, when_full), space


def write_header(path: Path, created_log_ns: int) -> None:
    """Put a header into a file with blocks, as if a segment had been begun there then."""
    number = int(path.name[:20])
    name = f"{path.parts[-4]}:{path.parts[-3]}:shard:{path.parent.name[6:]}"
    header = SegmentHeader(bytes(16), 1, number, 0, number, 0, 4096, created_log_ns, name, created_log_ns)
    with path.open("r+b") as file:
        file.write(header.encode())


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

    def boot_time_ns(self) -> int:
        """Return the time that the test set."""
        return int(self.now * 1e9)

    def wall_clock_ns(self) -> int:  # type: ignore[override]  # the door has it as an attribute, for speed
        """Return the time that the test set."""
        return self.wall_ns
