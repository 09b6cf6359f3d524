"""Settings: frozen values, validated as a whole before anything is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from comet_storage._settings import (
    Duration,
    Milliseconds,
    Section,
    Size,
    default_of,
    read_section,
    section_problems,
    write_section,
)
from comet_storage.errors import ConfigError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MAX_FILE_SIZE_MIN = 4 * KIB
MAX_FILE_SIZE_MAX = 3 * GIB
"""Offsets inside a segment are 32 bit in its checks and frames; 3 GiB leaves room for one frame beyond the limit."""
ENTRY_BYTES_MAX = 256 * MIB
SYNC_INTERVAL_MIN = 0.01
DURATION_MAX = 300
LANES_MAX = 1024
BOUNDARY_INTERVAL_MAX = 10_000
INDEX_ENTRIES_MIN = 10
AUTOMATIC_FILE_SIZE_MAX = 64 * MIB
SMALL_FILES_BYTES = 256 * KIB
"""Room kept aside for pages, locks, group records and directories, and for the steps of eviction itself."""


def seconds(value: float | timedelta) -> float:
    """A duration in seconds, given as a number of seconds or as a timedelta."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


@dataclass(frozen=True, kw_only=True)
class CompressionConfig(Section):
    """What is compressed."""

    min_compress_size: Size = 4 * KIB
    """Bytes from which on the body of a frame is compressed."""

    def problems(self) -> Iterator[str]:
        """Yield a sentence for every broken rule."""
        if self.min_compress_size < 0:
            yield f"compression.min_compress_size is {self.min_compress_size}: must be 0 or more"


@dataclass(frozen=True, kw_only=True)
class IndexingConfig(Section):
    """How readers remember where entries are.

    A closed segment has an index of its own, with a point per 64 KiB. These are the points that a reader adds to it in
    memory as it goes.
    """

    boundary_interval: int = 100
    """Entries between two points."""
    max_index_entries: int = 10_000
    """Points that are kept of the segment being read; beyond it every second one goes. 0: no limit."""

    def problems(self) -> Iterator[str]:
        """Yield a sentence for every broken rule."""
        if not 1 <= self.boundary_interval <= BOUNDARY_INTERVAL_MAX:
            yield f"indexing.boundary_interval is {self.boundary_interval}: must be 1 to {BOUNDARY_INTERVAL_MAX}"
        if self.max_index_entries and self.max_index_entries < INDEX_ENTRIES_MIN:
            yield f"indexing.max_index_entries is {self.max_index_entries}: must be 0 or at least {INDEX_ENTRIES_MIN}"


@dataclass(frozen=True, kw_only=True)
class StorageConfig(Section):
    """How entries are stored."""

    max_file_size: Size | None = None
    """Bytes at which a segment is closed. None: 64 MiB, or an eighth of ``max_total_size`` per lane if that is less."""
    durability: str = "process"
    """``process``: survives kill -9 at once, power cuts after ``sync_interval``; ``always``: both at once."""
    sync_interval: Duration = 1.0
    """Seconds within which the background flusher makes everything that was appended durable."""
    checkpoint_time: Milliseconds = field(default=2.0, metadata={"json": "checkpoint_time_ms"})
    """Seconds within which it makes acknowledgements durable too, in whole rounds of ``sync_interval``. They survive
    ``kill -9`` at once; after a power cut the youngest are delivered again. 0: every round."""
    write_method: str = "auto"
    """``mmap``, ``pwrite``, or ``auto``: mmap where the filesystem guarantees that preallocated blocks are kept."""
    max_entry_bytes: Size = 16 * MIB
    """The largest entry."""
    max_append_bytes: Size = 64 * MIB
    """The most that one append call may store."""
    allow_network_filesystem: bool = False
    """True: a directory whose locks and maps cannot be relied on is used all the same, at your risk."""

    def problems(self) -> Iterator[str]:
        """Yield a sentence for every broken rule."""
        size = self.max_file_size
        if size is not None and not MAX_FILE_SIZE_MIN <= size <= MAX_FILE_SIZE_MAX:
            yield f"storage.max_file_size is {size}: must be {MAX_FILE_SIZE_MIN} to {MAX_FILE_SIZE_MAX} bytes, or None"
        if self.durability not in {"process", "always"}:
            yield f"storage.durability is {self.durability!r}: must be 'process' or 'always'"
        if not SYNC_INTERVAL_MIN <= seconds(self.sync_interval) <= DURATION_MAX:
            yield (
                f"storage.sync_interval is {self.sync_interval}: must be {SYNC_INTERVAL_MIN} to {DURATION_MAX} seconds"
            )
        if not 0 <= seconds(self.checkpoint_time) <= DURATION_MAX:
            yield f"storage.checkpoint_time is {self.checkpoint_time}: must be 0 to {DURATION_MAX} seconds"
        if self.write_method not in {"auto", "mmap", "pwrite"}:
            yield f"storage.write_method is {self.write_method!r}: must be 'auto', 'mmap' or 'pwrite'"
        if not 1 <= self.max_entry_bytes <= ENTRY_BYTES_MAX:
            yield f"storage.max_entry_bytes is {self.max_entry_bytes}: must be 1 to {ENTRY_BYTES_MAX}"
        if not self.max_entry_bytes <= self.max_append_bytes <= ENTRY_BYTES_MAX:
            yield (
                f"storage.max_append_bytes is {self.max_append_bytes}: must be max_entry_bytes "
                f"({self.max_entry_bytes}) to {ENTRY_BYTES_MAX}"
            )


@dataclass(frozen=True, kw_only=True)
class ConcurrencyConfig(Section):
    """Who writes."""

    multi_process: bool = field(default=False, metadata={"json": "enable_file_locking"})
    """True: the shard's lock is taken for each append call, so that several processes share one shard."""
    lock_timeout: Duration = 1.0
    """Seconds after which a lock held by another process becomes :class:`~comet_storage.LogBusyError`."""
    lanes: int = 8
    """Shards that the lane writers of one stream spread over; the last one is shared by all further processes."""

    def problems(self) -> Iterator[str]:
        """Yield a sentence for every broken rule."""
        if not 0 <= seconds(self.lock_timeout) <= DURATION_MAX:
            yield f"concurrency.lock_timeout is {self.lock_timeout}: must be 0 to {DURATION_MAX} seconds"
        if not 1 <= self.lanes <= LANES_MAX:
            yield f"concurrency.lanes is {self.lanes}: must be 1 to {LANES_MAX}"


@dataclass(frozen=True, kw_only=True)
class RetentionConfig(Section):
    """What the log may take of the disk."""

    max_total_size: Size = 1 * GIB
    """Bound on the allocated bytes of every file and directory of the log."""
    when_full: str = "evict_oldest"
    """``evict_oldest``: the oldest closed segments go, counted. ``reject_new``: appends fail with LogFullError."""
    min_free_bytes: Size = 0
    """Free bytes of the volume below which the log takes no new blocks."""

    def problems(self) -> Iterator[str]:
        """Yield a sentence for every broken rule."""
        if self.max_total_size < 1:
            yield f"retention.max_total_size is {self.max_total_size}: must be positive"
        if self.when_full not in {"evict_oldest", "reject_new"}:
            yield f"retention.when_full is {self.when_full!r}: must be 'evict_oldest' or 'reject_new'"
        if self.min_free_bytes < 0:
            yield f"retention.min_free_bytes is {self.min_free_bytes}: must be 0 or more"


@dataclass(frozen=True, kw_only=True)
class CometConfig:
    """All settings of a log: frozen values in sections, checked as a whole.

    Durations are seconds or a timedelta, sizes are bytes. In JSON both may be text: ``"4h"``, ``"512 MiB"``.
    """

    compression: CompressionConfig = field(default_factory=CompressionConfig)
    indexing: IndexingConfig = field(default_factory=IndexingConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    concurrency: ConcurrencyConfig = field(default_factory=ConcurrencyConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)

    @classmethod
    def default(cls) -> CometConfig:
        """One process per shard, durable against process crashes at once, 1 GiB on disk at most."""
        return cls()

    @classmethod
    def multi_process(cls) -> CometConfig:
        """Several processes append to the same shards; acknowledgements become durable with every round."""
        return cls(storage=StorageConfig(checkpoint_time=0.1), concurrency=ConcurrencyConfig(multi_process=True))

    @classmethod
    def high_compression(cls) -> CometConfig:
        """For text and structured data that is to take little of the disk: small batches are compressed too."""
        return cls(compression=CompressionConfig(min_compress_size=256))

    @classmethod
    def high_throughput(cls) -> CometConfig:
        """For many entries per second: only large batches are compressed, and fewer things are synced and noted."""
        return cls(
            compression=CompressionConfig(min_compress_size=10 * KIB),
            indexing=IndexingConfig(boundary_interval=1000, max_index_entries=100_000),
            storage=StorageConfig(checkpoint_time=5.0),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> CometConfig:
        """A configuration from JSON text as :meth:`to_json` writes it; what is not in it has its default.

        Raises:
            ConfigError: naming every problem at once: wrong syntax, unknown keys, wrong values.
        """
        problems: list[str] = []
        sections: dict[str, Any] = {}
        known = {section.name: section for section in fields(cls)}
        for name, values in _json_object(text, problems).items():
            if name not in known:
                problems.append(f"{name} is unknown: the sections are {', '.join(known)}")
                continue
            sections[name] = read_section(type(default_of(known[name])), name, values, problems)
        config = cls(**sections)
        problems += config.problems()
        if problems:
            raise ConfigError("; ".join(problems), problems)
        return config

    def to_json(self) -> str:
        """JSON text of all settings."""
        sections = {section.name: write_section(getattr(self, section.name)) for section in fields(self)}
        return json.dumps(sections, indent=2, allow_nan=False)

    def segment_size(self) -> int:
        """Bytes at which a segment is closed, with ``max_file_size=None`` worked out."""
        if self.storage.max_file_size is not None:
            return self.storage.max_file_size
        share = self.retention.max_total_size // (8 * self.concurrency.lanes)
        return max(MAX_FILE_SIZE_MIN, min(AUTOMATIC_FILE_SIZE_MAX, share // 4096 * 4096))

    def least_total_size(self) -> int:
        """The smallest ``max_total_size`` with which one shard can be written: two segments and the small files."""
        return 2 * self.segment_size() + SMALL_FILES_BYTES

    def _contradictions(self) -> Iterator[str]:
        """Yield a sentence for every two settings that cannot both be."""
        if self.retention.max_total_size < self.least_total_size():
            yield (
                f"retention.max_total_size is {self.retention.max_total_size}: these settings need at least "
                f"{self.least_total_size()} (two segments of {self.segment_size()} and {SMALL_FILES_BYTES})"
            )

    def problems(self) -> list[str]:
        """A sentence for each setting of a wrong type and for each broken rule."""
        found: list[str] = []
        for section in fields(self):
            value = getattr(self, section.name)
            if isinstance(value, type(default_of(section))):
                found += section_problems(section.name, value)
            else:
                found.append(f"{section.name} is {value!r}: must be a {section.type}")
        if not any(problem.startswith(_PARTS_OF_LEAST_SIZE) for problem in found):
            found += self._contradictions()
        return found

    def validate(self) -> None:
        """Check every rule.

        Raises:
            ConfigError: naming every problem at once.
        """
        problems = self.problems()
        if problems:
            raise ConfigError("; ".join(problems), problems)


_PARTS_OF_LEAST_SIZE = (
    "storage is",
    "storage.max_file_size",
    "concurrency is",
    "concurrency.lanes",
    "retention is",
    "retention.max_total_size",
)
"""Problems with which the least size cannot be worked out."""


def _json_object(text: str | bytes, problems: list[str]) -> dict[str, Any]:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        keys = [key for key, _ in pairs]
        problems.extend(f"{key} is given {keys.count(key)} times" for key in found if keys.count(key) > 1)
        return found

    try:
        found = json.loads(text, object_pairs_hook=members)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"the configuration is not JSON: {error}") from error
    if not isinstance(found, dict):
        problems.append(f"the configuration is {found!r}: must be an object of sections")
        return {}
    return found
