"""Having a consumer group get again what it got already."""

from __future__ import annotations

from dataclasses import dataclass

from comet_cli.opening import shard_names
from comet_storage import AckError, Client, Consumer
from comet_storage.names import parse_shard_stream
from shipper.errors import ConfigurationError


@dataclass(frozen=True)
class Replay:
    """How far a group goes back in one shard.

    Attributes:
        shard: full name of the shard.
        offset: the lowest number that the group had not acknowledged.
        target: where it goes on now.
    """

    shard: str
    offset: int
    target: int


def plan_replay(client: Client, stream: str, group: str, since: int | None) -> list[Replay]:
    """Which shards go back, and where to: to the oldest entry held that was appended ``since`` then, or to the oldest.

    Never forwards: nothing is skipped.

    Raises:
        ConfigurationError: there is no such group.
    """
    if group not in client.groups(stream):
        known = ", ".join(client.groups(stream)) or "none"
        raise ConfigurationError(f"stream {stream} has no group {group!r}; it has {known}")
    found = []
    for name in shard_names(client, stream):
        offset = client.shard_stats(stream, parse_shard_stream(name).shard_id).consumer_offsets[group]
        numbers = (m.id.entry_number for m in client.scan(name) if since is None or m.timestamp >= since)
        target = next(numbers, offset)
        if target < offset:
            found.append(Replay(name, offset, target))
    return found


def carry_out(client: Client, stream: str, group: str, replays: list[Replay]) -> list[str]:
    """Go back. Returns what is said of the shards for which it could not be done; a running shipper holds its own."""
    refused = []
    with Consumer(client, group, stream=stream) as consumer:
        for each in replays:
            try:
                consumer.reset_offset(parse_shard_stream(each.shard).shard_id, each.target)
            except AckError as error:
                refused.append(f"{each.shard}: {error}")
    return refused
