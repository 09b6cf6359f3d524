"""What a client answers about its log: counters and health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DiskState = Literal["ok", "full", "failing"]


@dataclass(frozen=True)
class CometStats:
    """Counters of a log and of the client that was asked.

    Those of the log are read from it, so they survive restarts and crashes and count every process; those of a client
    begin with 0 when it is opened. Durations are nanoseconds, times nanoseconds since 1970.
    """

    total_entries: int = 0
    """Of the log: entries ever appended, those evicted since included, numbers lost in power cuts not."""
    total_bytes: int = 0
    """Of the client: bytes of the frames that it appended, as they were before compression."""
    total_compressed: int = 0
    """Of the client: bytes of the frames that it appended, as they are stored."""
    write_latency_ns: int = 0
    """Of the client: how long the append took that was measured last; one per shard and ``sync_interval`` is."""
    min_write_latency_ns: int = 0
    max_write_latency_ns: int = 0
    compression_ratio: float = 1.0
    """``total_bytes`` by ``total_compressed``; 1.0 where nothing was appended."""
    compressed_entries: int = 0
    """Of the client: entries in frames that were compressed."""
    skipped_compression: int = 0
    """Of the client: entries in frames that compression would not have made smaller."""
    total_files: int = 0
    """Of the log: segments."""
    file_rotations: int = 0
    """Of the client: segments that it began because the one before was full."""
    checkpoint_count: int = 0
    """Of the client: times that a shard's durable position was recorded."""
    last_checkpoint_ns: int = 0
    active_readers: int = 0
    """Of the client: shards that its consumers hold leases on."""
    consumer_lag: int = 0
    """Of the log: entries that the group that is furthest behind in a shard has still to get there."""
    error_count: int = 0
    """Of the client: appends and rounds of the background thread that failed."""
    last_error_ns: int = 0
    index_persist_errors: int = 0
    """Of the client: closed segments that could not be given their index; it is found by reading then."""
    compression_wait_ns: int = 0
    """Of the client: time spent compressing, in the threads that appended."""


@dataclass(frozen=True)
class Health:
    """The state of one client's log, as of now."""

    healthy: bool
    """Everything below is as it should be."""
    writable: bool
    """Appends by this client are taken: it is open, not read-only, and neither the bound nor the disk refuses them."""
    disk: DiskState
    """``full``: no room within the bound or on the volume, and nothing may be evicted. ``failing``: a sync failed, and
    what it should have stored is not on the disk yet, or the directory is gone."""
    last_error: str | None
    """What went wrong last, in an append or in the background; None when nothing did since the client was opened."""
    last_error_age: float | None
    """Seconds since then."""
    sync_failures: int
    """Syncs that the disk refused since the client was opened."""
    flusher_alive: bool
    """The background thread runs, or nothing needs it yet."""
    oldest_unflushed_age: float
    """Seconds for which the oldest entry that a power cut would take has waited, at most; 0 when there is none."""
