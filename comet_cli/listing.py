"""What a log holds, shard by shard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.table import Table

from comet_cli.opening import shard_names
from comet_storage import Client
from shipper.status_table import size_text


@dataclass(frozen=True)
class ShardListing:
    """One shard.

    Attributes:
        shard: full name.
        entries: entries held.
        bytes_on_disk: blocks of all its files.
        segments: its segments.
        oldest, newest: when the oldest and the newest entry held were appended; None where there is none.
        evicted: entries that retention deleted, ever.
        pending: by consumer group, the entries that it has still to get.
    """

    shard: str
    entries: int
    bytes_on_disk: int
    segments: int
    oldest: datetime | None
    newest: datetime | None
    evicted: int
    pending: dict[str, int]


def list_shards(client: Client, streams: list[str]) -> list[ShardListing]:
    """What the shards of these streams hold."""
    figures = client.retention_stats().shard_stats
    return [
        ShardListing(
            shard=name,
            entries=client.len(name),
            bytes_on_disk=found.size_bytes,
            segments=found.files,
            oldest=found.oldest_entry,
            newest=found.newest_entry,
            evicted=found.evicted_entries,
            pending=found.consumer_lag,
        )
        for stream in streams
        for name in shard_names(client, stream)
        if (found := figures.get(name)) is not None
    ]


def listing_table(listings: list[ShardListing]) -> Table:
    """The same for people."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("shard", overflow="fold")
    for column in ("entries", "on disk", "segments", "evicted"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("oldest", "newest"):
        table.add_column(column, no_wrap=True)
    table.add_column("groups", overflow="fold")
    for each in listings:
        table.add_row(
            each.shard,
            f"{each.entries:,}",
            size_text(each.bytes_on_disk),
            f"{each.segments:,}",
            f"{each.evicted:,}",
            *("-" if at is None else f"{at:%Y-%m-%d %H:%M:%S}" for at in (each.oldest, each.newest)),
            ", ".join(f"{group}: {pending:,} pending" for group, pending in each.pending.items()) or "none",
        )
    return table
