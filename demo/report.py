"""What became of everything that an exporter acknowledged, as a table."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from demo.ledger import SIGNALS, count_ids

if TYPE_CHECKING:
    from rich.console import Console

ITEMS = {"traces": "spans", "logs": "log records", "metrics": "data points"}


@dataclass(frozen=True)
class SignalReport:
    """Numbers of one signal.

    Attributes:
        signal: its name.
        exported: items for which an exporter returned success.
        delivered: items that arrived at the collector at least once.
        duplicates: arrivals of an item beyond its first.
        lost: exported items that did not arrive.
    """

    signal: str
    exported: int
    delivered: int
    duplicates: int
    lost: int


def compare(acknowledged: Path, received: Path) -> list[SignalReport]:
    """Compare what exporters acknowledged with what the collector received."""
    exported, arrived = count_ids(acknowledged), count_ids(received)
    return [
        SignalReport(
            signal=signal,
            exported=len(exported[signal]),
            delivered=len(arrived[signal]),
            duplicates=arrived[signal].total() - len(arrived[signal]),
            lost=len(exported[signal].keys() - arrived[signal].keys()),
        )
        for signal in SIGNALS
    ]


def print_report(console: Console, reports: list[SignalReport], peak_bytes: int, end_bytes: int) -> None:
    """Print the table and the log's size on disk."""
    table = Table(title="What the exporters acknowledged, and what arrived", title_justify="left")
    table.add_column("signal")
    for column in ("exported", "delivered", "duplicates", "lost"):
        table.add_column(column, justify="right")
    for report in reports:
        lost_style = "bold red" if report.lost else "bold green"
        table.add_row(
            f"{report.signal} ({ITEMS[report.signal]})",
            f"{report.exported:,}",
            f"{report.delivered:,}",
            f"{report.duplicates:,}",
            f"[{lost_style}]{report.lost:,}[/]",
        )
    table.caption = f"log on disk: {mib(peak_bytes)} at the peak, {mib(end_bytes)} at the end"
    table.caption_justify = "left"
    console.print(table)
    if any(report.delivered > report.exported for report in reports):
        console.print(
            "[dim]More delivered than exported: a kill came between the log's acknowledgement "
            "and the demo's note of it.[/]"
        )


def bytes_on_disk(folder: Path) -> int:
    """Return the bytes that the files below a folder take on disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # deleted by retention meanwhile
                total += Path(parent, name).lstat().st_blocks * 512
    return total


def mib(size: int) -> str:
    """Return a size in bytes as text in MiB."""
    return f"{size / 2**20:.1f} MiB"
