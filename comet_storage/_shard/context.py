"""What every part of a shard's writer needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from comet_storage._os.door import Door
from comet_storage._segment.active import Reserve
from comet_storage._shard.compression import Compression
from comet_storage._shard.layout import ShardLayout
from comet_storage.names import ShardName


class Closeable(Protocol):
    """Something that holds a lock."""

    def close(self) -> None:
        """Give the lock back."""
        ...


@dataclass(frozen=True)
class WriterSettings:
    """Settings of one log, the same for all its shards."""

    log_id: bytes
    segment_size: int
    mapped: bool
    """Whether stores go through maps; by ``pwrite`` otherwise."""
    sync_each_append: bool
    refuse_unsynced: bool
    """Whether appends are refused while the disk refuses to store what was appended before."""
    lock_timeout: float
    max_entry_bytes: int
    max_append_bytes: int
    compression: Compression


@dataclass(frozen=True)
class ShardContext:
    """One shard of one log."""

    door: Door
    name: ShardName
    layout: ShardLayout
    settings: WriterSettings
    reserve: Reserve
    release: Callable[[Callable[[], int]], None]
    """Calls what gives blocks back and returns how many bytes, and tells the ledger."""
    wake: Callable[[], None]
    """Asks the flusher to look at :meth:`ShardWriter.grow_ahead` soon. Safe in signal handlers."""
    log_time: Callable[[], int]
    """The log clock, nanoseconds: by it segments grow old."""
    held: list[Closeable] = field(default_factory=list)
    """Locks that a claim in this context took: closed by whoever began it when an exception cuts it short, because
    until its traceback is dropped nothing else closes them."""

    def let_go(self) -> None:
        """Close them, after a claim that failed."""
        while self.held:
            self.held.pop().close()
