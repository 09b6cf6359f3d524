"""Settings: frozen values, validated as a whole before anything is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
from comet_storage.errors import ConfigError, InvalidStreamName
from comet_storage.names import parse_stream

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MAX_FILE_SIZE_MIN = 4 * KIB
MAX_FILE_SIZE_MAX = 3 * GIB
"""Offsets inside a segment are 32 bit in its checks and frames; 3 GiB leaves room for one frame beyond the limit."""
ENTRY_BYTES_MAX = 256 * MIB
COMPRESSION_LEVEL_MIN = -7
COMPRESSION_LEVEL_MAX = 19
SYNC_INTERVAL_MIN = 0.01
DURATION_MAX = 300
AGE_MAX = 100 * 366 * 86400
LANES_MAX = 1024
BOUNDARY_INTERVAL_MAX = 10_000
INDEX_ENTRIES_MIN = 10
AUTOMATIC_FILE_SIZE_MAX = 64 * MIB
LEAST_SEGMENTS = 2
"""Segments that a shard cannot do without: the one being written, and the one before it until it is evicted."""
SMALL_FILES_BYTES = 256 * KIB
"""Room kept aside for pages, locks, group records and directories, and for the steps of eviction itself."""


def seconds(value: float | timedelta) -> float:
    """A duration in seconds, given as a number of seconds or as a timedelta."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


@dataclass(frozen=True, kw_only=True)
class CompressionConfig(Section):
    """How the entries of one append call are compressed, together. Reading needs none of this."""

    codec: str = "zstd"
    """``zstd``, or ``none``: nothing is compressed."""
    min_compress_size: Size = 4 * KIB
    """Bytes of an append call (4 for each of several entries included) below which nothing is compressed."""
    level: int = 1
    """-7 (fastest) to 19 (smallest), without 0. From level 4 on, and over 256 KiB, other threads run meanwhile."""

    def problems(self) -> Iterator[str]:
        """Yield a sentence for every broken rule."""
        if self.codec not in {"zstd", "none"}:
            yield f"compression.codec is {self.codec!r}: must be 'zstd' or 'none'"
        if self.min_compress_size < 0:
            yield f"compression.min_compress_size is {self.min_compress_size}: must be 0 or more"
        if not COMPRESSION_LEVEL_MIN <= self.level <= COMPRESSION_LEVEL_MAX or self.level == 0:
            yield (
                f"compression.level is {self.level}: must be {COMPRESSION_LEVEL_MIN} to {COMPRESSION_LEVEL_MAX}, and "
                "not 0"
            )

    def threshold(self) -> int | None:
        """Bytes from which on an append call is compressed; None: never."""
        return self.min_compress_size if self.codec == "zstd" else None


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
    max_pinned_bytes: Size = 128 * MIB
    """Bytes of segments and buffers that messages read with ``copy=False`` may keep; beyond that they are copies."""
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
        if self.max_pinned_bytes < 0:
            yield f"storage.max_pinned_bytes is {self.max_pinned_bytes}: must be 0 or more"


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
    """What the log may take of the disk, and how long it keeps what.

    Only closed segments go, whole, and in a shard always the oldest first. Data that a consumer group has not
    acknowledged is protected (``protect_unconsumed``) from everything but ``force_delete_after`` and the bound.
    """

    max_age: Duration | None = None
    """Seconds after which data goes. None or 0: no limit."""
    max_total_size: Size = 1 * GIB
    """Bound on the allocated bytes of every file and directory of the log."""
    max_shard_size: Size | None = None
    """Bytes of a shard's segments beyond which its oldest go. None or 0: no limit."""
    cleanup_interval: Duration = 900.0
    """Seconds between two looks at ages. 0: only when :meth:`Client.force_retention_cleanup` is called."""
    min_files_to_keep: int = 2
    """Segments of a shard, the one being written included, that age and ``max_shard_size`` leave alone."""
    protect_unconsumed: bool = True
    """Keep what a consumer group has still to acknowledge, as long as the bound allows it."""
    force_delete_after: Duration | None = None
    """Seconds after which data goes, acknowledged or not. None or 0: never."""
    min_free_bytes: Size = 0
    """Free bytes of the volume below which the log takes no new blocks, and gives back what is not protected."""
    when_full: str = "evict_oldest"
    """``evict_oldest``: at the bound the oldest data goes, counted. ``reject_new``: only what every group has
    acknowledged goes, and when there is none, appends fail with LogFullError."""
    priorities: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Priority of streams (``"traces:v1": 1``), 0 where none is given: when space is needed, streams of lower priority
    are evicted first."""

    def problems(self) -> Iterator[str]:
        """Yield a sentence for every broken rule."""
        if self.max_total_size < 1:
            yield f"retention.max_total_size is {self.max_total_size}: must be positive"
        for name in ("max_age", "force_delete_after", "cleanup_interval"):
            value = getattr(self, name)
            if value is not None and not 0 <= seconds(value) <= AGE_MAX:
                yield f"retention.{name} is {value}: must be 0 to {AGE_MAX} seconds"
        for name in ("max_shard_size", "min_files_to_keep", "min_free_bytes"):
            value = getattr(self, name)
            if value is not None and value < 0:
                yield f"retention.{name} is {value}: must be 0 or more"
        if self.when_full not in {"evict_oldest", "reject_new"}:
            yield f"retention.when_full is {self.when_full!r}: must be 'evict_oldest' or 'reject_new'"
        for stream in self.priorities:
            try:
                canonical = ":".join(parse_stream(stream)) == stream
            except InvalidStreamName:
                canonical = False
            if not canonical:
                yield f"retention.priorities names {stream!r}: must be a stream such as 'traces:v1'"


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
        if self.retention.max_shard_size:
            share = min(share, self.retention.max_shard_size // 8)
        return max(MAX_FILE_SIZE_MIN, min(AUTOMATIC_FILE_SIZE_MAX, share // 4096 * 4096))

    def least_total_size(self) -> int:
        """The smallest ``max_total_size`` that these settings can be kept with.

        One shard's segments, as many as are to be kept and at least two, and the small files.
        """
        return self._least_segments() * self.segment_size() + SMALL_FILES_BYTES

    def _least_segments(self) -> int:
        return max(LEAST_SEGMENTS, self.retention.min_files_to_keep)

    def _contradictions(self) -> Iterator[str]:
        """Yield a sentence for every two settings that cannot both be."""
        least, size = self.least_total_size(), self.segment_size()
        if self.retention.max_total_size < least:
            yield (
                f"retention.max_total_size is {self.retention.max_total_size}: these settings need at least "
                f"{least} ({self._least_segments()} segments of {size} and {SMALL_FILES_BYTES})"
            )
        shard = self.retention.max_shard_size
        if shard and shard < LEAST_SEGMENTS * size:
            yield (
                f"retention.max_shard_size is {shard}: these settings need at least {LEAST_SEGMENTS * size} "
                f"({LEAST_SEGMENTS} segments of {size})"
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
    "retention.max_shard_size",
    "retention.min_files_to_keep",
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
