"""What waits in a log, how old it is, and what was ever lost: the answer of ``comet-shipper status``.

Reads only; neither writers nor a running shipper notice.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table

from comet_otel.streams import ROUTES
from comet_storage import Client, CometError
from shipper import data_directory
from shipper.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

_SIZE_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_LOSSES: Final = ("rejected", "skipped", "evicted", "corrupt", "lost")


@dataclass(frozen=True)
class GroupStatus:
    """One consumer group's place in one stream.

    Attributes:
        signal: the signal's name.
        stream: the stream.
        group: the group; None where no shipper has ever read the stream, so that everything in it waits.
        pending: entries that the group has still to get.
        pending_bytes: bytes of them on disk, to the nearest frame.
        oldest_age_seconds: how long ago the oldest of them was written; None if nothing waits.
        delivered: entries delivered.
        rejected: entries that were given up as not deliverable.
        skipped: entries jumped over by an explicit reset.
        evicted: entries that retention deleted before they were delivered.
        corrupt: entries that were damaged on disk.
        lost: entries that a power cut took.
    """

    signal: str
    stream: str
    group: str | None
    pending: int
    pending_bytes: int
    oldest_age_seconds: float | None
    delivered: int
    rejected: int
    skipped: int
    evicted: int
    corrupt: int
    lost: int


@dataclass(frozen=True)
class LogStatus:
    """The state of one log.

    Attributes:
        data_dir: its directory.
        bytes_on_disk: bytes of the blocks of all its files.
        groups: every group of every stream that holds telemetry.
    """

    data_dir: str
    bytes_on_disk: int
    groups: tuple[GroupStatus, ...]


def read_status(data_dir: Path) -> LogStatus:
    """Read the state of the log in a directory.

    Raises:
        EnvironmentFailedError: there is no log, or it cannot be read.
    """
    if data_directory.find_log(data_dir) is None:
        raise EnvironmentFailedError(f"there is no log in {data_dir}; has the application written to it yet?")
    try:
        with Client(data_dir, read_only=True) as client:
            existing = client.streams()
            groups = tuple(
                _group_status(client, route.signal.value, route.stream, group)
                for route in ROUTES
                if route.stream in existing
                for group in (*client.groups(route.stream),) or (None,)
            )
            return LogStatus(str(data_dir), client.allocated_bytes(), groups)
    except CometError as error:
        raise EnvironmentFailedError(f"cannot read the log in {data_dir}: {error}") from error


def to_json(status: LogStatus) -> str:
    """Return the status for programs; ages in seconds, sizes in bytes."""
    return json.dumps(dataclasses.asdict(status), indent=2)


def print_table(status: LogStatus, console: Console) -> None:
    """Print the status for people."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("signal", "group"):
        table.add_column(column)
    for column in ("pending", "bytes", "oldest", "delivered"):
        table.add_column(column, justify="right")
    table.add_column("not delivered")
    for group in status.groups:
        losses = ", ".join(f"{getattr(group, name):,} {name}" for name in _LOSSES if getattr(group, name))
        table.add_row(
            group.signal,
            group.group or "(none yet)",
            f"{group.pending:,}",
            size_text(group.pending_bytes),
            "-" if group.oldest_age_seconds is None else age_text(group.oldest_age_seconds),
            f"{group.delivered:,}",
            f"[bold red]{losses}[/]" if losses else "-",
        )
    console.print(f"{status.data_dir}: {size_text(status.bytes_on_disk)} on disk", highlight=False, soft_wrap=True)
    if status.groups:
        console.print(table)
    else:
        console.print("no telemetry was written yet")


def size_text(size: float) -> str:
    """Return a number of bytes as people read it."""
    unit = 0
    while size >= 1024 and unit < len(_SIZE_UNITS) - 1:  # noqa: PLR2004 - the step between two units
        size /= 1024
        unit += 1
    return f"{size:.0f} {_SIZE_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_SIZE_UNITS[unit]}"


def age_text(seconds: float) -> str:
    """Return a duration as people read it, in its two largest units."""
    minutes, whole_seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole_seconds} s" if minutes else f"{whole_seconds} s"


def _group_status(client: Client, signal: str, stream: str, group: str | None) -> GroupStatus:
    # A group that does not exist has its offsets at the beginning, which is where a new one would start.
    name = group or "status"
    total = client.accounting(stream, name)
    oldest = client.oldest_pending(stream, name)
    return GroupStatus(
        signal=signal,
        stream=stream,
        group=group,
        pending=total.pending,
        pending_bytes=client.pending_bytes(stream, name),
        oldest_age_seconds=None if oldest is None else max(0.0, time.time() - oldest / 1e9),
        delivered=total.delivered,
        **{loss: getattr(total, loss) for loss in _LOSSES},
    )
