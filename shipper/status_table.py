"""The status as people read it."""

from __future__ import annotations

import time
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shipper.status import NOT_RUNNING, GroupStatus, LogStatus

_SIZE_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_LOSSES: Final = ("rejected", "skipped", "evicted", "corrupt", "lost")
_STYLES: Final = {
    "delivering": "green",
    "idle": "green",
    "standby": "cyan",
    "retrying": "yellow",
    "paused": "bold red",
    NOT_RUNNING: "bold red",
}


def status_view(status: LogStatus) -> RenderableType:
    """Return what is printed."""
    lines: list[RenderableType] = [Text(_headline(status))]
    errors = [each["configuration_error"] for each in status.shippers if each["configuration_error"]]
    lines += [Text(f"settings not taken: {error}", style="bold red") for error in errors]
    if not status.groups:
        return Group(*lines, Text("no telemetry was written yet"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("signal", "destination"):
        table.add_column(column, overflow="fold")
    for column in ("pending", "items", "bytes", "oldest"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for group in status.groups:
        table.add_row(
            group.signal or group.stream,
            _who(group),
            f"{group.pending:,}",
            _items(group),
            size_text(group.pending_bytes),
            "-" if group.oldest_age_seconds is None else age_text(group.oldest_age_seconds),
            Text(group.state, style=_STYLES.get(group.state, "")),
        )
    lines.append(table)
    for group in status.groups:
        lines += [Text.assemble(f"{group.signal or group.stream} {_who(group)}: ", *_details(group))]
    return Group(*lines)


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


def _headline(status: LogStatus) -> str:
    running = ", ".join(f"process {each['pid']}" for each in status.shippers)
    dead = f", {status.dead_letters:,} dead letters" if status.dead_letters else ""
    shipper = f"shipper: {running}" if running else "no shipper runs"
    return f"{status.data_dir}: {size_text(status.bytes_on_disk)} on disk{dead}; {shipper}"


def _who(group: GroupStatus) -> str:
    return group.destination or (f"({group.group})" if group.group else "(none yet)")


def _items(group: GroupStatus) -> str:
    if group.pending_items is None:
        return "?"
    return f"{'' if group.pending_items_exact else '~'}{group.pending_items:,}"


def _details(group: GroupStatus) -> list[str | tuple[str, str]]:
    """Return the rest, in words: what was delivered, when, what was not, and why it does not go on."""
    parts: list[str | tuple[str, str]] = [f"{group.delivered:,} delivered"]
    if group.bytes_per_second >= 1:
        parts.append(f", {size_text(group.bytes_per_second)}/s")
    if group.pending and group.seconds_to_empty is not None:
        parts.append(f", empty in {age_text(group.seconds_to_empty)}")
    if group.last_success is not None:
        parts.append(f", last {age_text(max(0.0, time.time() - group.last_success))} ago")
    for name in _LOSSES:
        if getattr(group, name):
            parts += ["; ", (f"{getattr(group, name):,} {name}", "bold red")]
    for name in ("rejected_items", "dead_lettered_items", "duplicates_possible"):
        if getattr(group, name):
            parts += ["; ", (f"{getattr(group, name):,} {name.replace('_', ' ')}", "yellow")]
    if not group.protected:
        parts += ["; ", ("over its lag limit: not protected from retention", "bold red")]
    if group.reason and group.state not in {"idle", "delivering"}:
        parts.append(f"; {group.state}: {group.reason}")
    return parts
