"""What retention tells its users: sizes, ages, and what went."""

from __future__ import annotations

from datetime import datetime, timezone

from comet_storage._format.eviction_history import REASONS, History
from comet_storage._log.space import SpaceLedger
from comet_storage._os.door import Door
from comet_storage._segment.file import Frame
from comet_storage._shard.layout import ShardLayout
from comet_storage._shard.reader import ShardReader
from comet_storage.config import RetentionConfig, seconds
from comet_storage.types import Eviction, RetentionStats, ShardRetentionStats

_BYTES_PER_GB = 10**9


def shard_stats(
    door: Door, layout: ShardLayout, reader: ShardReader, lags: dict[str, int], history: History
) -> ShardRetentionStats:
    """What a shard holds."""
    first = reader.first_held() or 0
    following = reader.next_number()
    return ShardRetentionStats(
        size_bytes=door.list_blocks(layout.directory)[0],
        files=len(layout.segments()),
        oldest_entry=_appended(reader, first),
        newest_entry=_appended(reader, following - 1) if following > first else None,
        consumer_lag=lags,
        evicted_entries=sum(each.entries for each in _held_back(history, first)),
        pinned_bytes=sum(_allocated(door, path) for path in layout.all_pinned()),
    )


def _allocated(door: Door, path: str) -> int:
    try:
        return door.status(path).allocated
    except FileNotFoundError:
        return 0


def log_stats(
    shards: dict[str, ShardRetentionStats], ledger: SpaceLedger, config: RetentionConfig, free_bytes: int
) -> RetentionStats:
    """What the whole log holds."""
    total = ledger.measure()
    return RetentionStats(
        total_size_bytes=total,
        total_size_gb=total / _BYTES_PER_GB,
        max_total_size_gb=ledger.bound / _BYTES_PER_GB,
        retention_age=(seconds(config.max_age) or None) if config.max_age is not None else None,
        total_files=sum(shard.files for shard in shards.values()),
        oldest_data=min((s.oldest_entry for s in shards.values() if s.oldest_entry is not None), default=None),
        newest_data=max((s.newest_entry for s in shards.values() if s.newest_entry is not None), default=None),
        shard_stats=shards,
        free_bytes=free_bytes,
        evicted_entries=sum(shard.evicted_entries for shard in shards.values()),
        pinned_bytes=sum(shard.pinned_bytes for shard in shards.values()),
    )


def evictions(stream: str, history: History, first_held: int | None) -> list[Eviction]:
    """A history as its readers want it."""
    return [
        Eviction(
            stream,
            each.first,
            each.end - 1,
            each.entries,
            _time(each.since_ns),
            _time(each.until_ns),
            tuple(reason for bit, reason in enumerate(REASONS) if each.reasons >> bit & 1),
        )
        for each in (history if first_held is None else _held_back(history, first_held))
    ]


def _held_back(history: History, first_held: int) -> History:
    """Without the numbers that were to go and, because a process died first, are still there."""
    return tuple(
        each._replace(end=min(each.end, first_held), entries=min(each.entries, first_held - each.first))
        for each in history
        if each.first < first_held
    )


def _appended(reader: ShardReader, number: int) -> datetime | None:
    """When the entry, or the next one that can be read, was appended."""
    for found in reader.frames(max(number, 0)):
        if isinstance(found, Frame):
            return _time(found.header.timestamp)
    return None


def _time(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns / 1e9, timezone.utc)
