"""What the measurements share: a scratch directory, warm memory, interleaved rounds, quantiles and a table."""

from __future__ import annotations

import contextlib
import mmap
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

WARM_BYTES = 3 << 30
PAGE_BYTES = 4096

console = Console(width=110)


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory on the disk that the project is on, removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="comet-bench-", dir=Path.cwd()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def warm_memory() -> None:
    """Touch memory once, so that a virtual machine's host has it in place before page caches are filled with it."""
    with contextlib.suppress(OSError), contextlib.closing(mmap.mmap(-1, WARM_BYTES)) as block:
        for offset in range(0, WARM_BYTES, PAGE_BYTES):
            block[offset] = 1


def interleaved(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Run every contender in turn, ``rounds`` times, and return each one's median."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            found[name].append(run())
    return {name: statistics.median(values) for name, values in found.items()}


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def verdict(ratio: float, bound: float) -> str:
    """Whether a ratio keeps its bound, for a table."""
    return "[green]kept[/]" if ratio <= bound else "[red]missed[/]"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    shown = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        shown.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
