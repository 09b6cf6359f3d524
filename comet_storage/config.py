"""Settings: frozen values, validated as a whole before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from comet_storage.errors import ConfigError, InvalidStreamName
from comet_storage.names import parse_stream

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MAX_FILE_SIZE_MIN = 4 * KIB
MAX_FILE_SIZE_MAX = 3 * GIB
"""Offsets inside a segment are 32 bit in its checks and frames; 3 GiB leaves room for one frame beyond the limit."""
ENTRY_BYTES_MAX = 256 * MIB
SYNC_INTERVAL_MIN = 0.01
DURATION_MAX = 300
AGE_MAX = 100 * 366 * 86400
LANES_MAX = 1024
AUTOMATIC_FILE_SIZE_MAX = 64 * MIB
LEAST_SEGMENTS = 2
"""Segments that a shard cannot do without: the one being written, and the one before it until it is evicted."""
SMALL_FILES_BYTES = 256 * KIB
"""Room kept aside for pages, locks, group records and directories, and for the steps of eviction itself."""


def seconds(value: float | timedelta) -> float:
    """A duration in seconds, given as a number of seconds or as a timedelta."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


@dataclass(frozen=True, kw_only=True)
class StorageConfig:
    """How entries are stored."""

    max_file_size: int | None = None
    """Bytes at which a segment is closed. None: 64 MiB, or an eighth of ``max_total_size`` per lane if that is less."""
    durability: str = "process"
    """``process``: survives kill -9 at once, power cuts after ``sync_interval``; ``always``: both at once."""
    sync_interval: float | timedelta = 1.0
    """Seconds within which the background flusher makes everything durable."""
    write_method: str = "auto"
    """``mmap``, ``pwrite``, or ``auto``: mmap where the filesystem guarantees that preallocated blocks are kept."""
    max_entry_bytes: int = 16 * MIB
    max_append_bytes: int = 64 * MIB
    allow_network_filesystem: bool = False

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
class ConcurrencyConfig:
    """Who writes."""

    multi_process: bool = False
    """True: the shard's lock is taken for each append call, so that several processes share one shard."""
    lock_timeout: float | timedelta = 1.0
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
class RetentionConfig:
    """What the log may take of the disk, and how long it keeps what.

    Only closed segments go, whole, and in a shard always the oldest first. Data that a consumer group has not
    acknowledged is protected (``protect_unconsumed``) from everything but ``force_delete_after`` and the bound.
    """

    max_age: float | timedelta | None = None
    """Seconds after which data goes. None or 0: no limit."""
    max_total_size: int = 1 * GIB
    """Bound on the allocated bytes of every file and directory of the log."""
    max_shard_size: int | None = None
    """Bytes of a shard's segments beyond which its oldest go. None or 0: no limit."""
    cleanup_interval: float | timedelta = 900.0
    """Seconds between two looks at ages. 0: only when :meth:`Client.force_retention_cleanup` is called."""
    min_files_to_keep: int = 2
    """Segments of a shard, the one being written included, that age and ``max_shard_size`` leave alone."""
    protect_unconsumed: bool = True
    """Keep what a consumer group has still to acknowledge, as long as the bound allows it."""
    force_delete_after: float | timedelta | None = None
    """Seconds after which data goes, acknowledged or not. None or 0: never."""
    min_free_bytes: int = 0
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
    """All settings of a log."""

    storage: StorageConfig = field(default_factory=StorageConfig)
    concurrency: ConcurrencyConfig = field(default_factory=ConcurrencyConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)

    @classmethod
    def default(cls) -> CometConfig:
        """One process per shard, durable against process crashes at once, 1 GiB on disk at most."""
        return cls()

    @classmethod
    def multi_process(cls) -> CometConfig:
        """Several processes append to the same shards."""
        return cls(concurrency=ConcurrencyConfig(multi_process=True))

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

    def validate(self) -> None:
        """Check every rule.

        Raises:
            ConfigError: naming every problem at once.
        """
        problems: list[str] = []
        try:
            for section in (self.storage, self.concurrency, self.retention):
                problems += section.problems()
            if not problems:
                problems += self._contradictions()
        except (TypeError, AttributeError) as error:
            raise ConfigError(f"configuration has a value of a wrong type: {error}") from error
        if problems:
            raise ConfigError("; ".join(problems))
