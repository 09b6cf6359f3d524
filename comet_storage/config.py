"""Settings: frozen values, validated as a whole before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from comet_storage.errors import ConfigError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MAX_FILE_SIZE_MIN = 4 * KIB
MAX_FILE_SIZE_MAX = 3 * GIB
"""Offsets inside a segment are 32 bit in its checks and frames; 3 GiB leaves room for one frame beyond the limit."""
ENTRY_BYTES_MAX = 256 * MIB
COMPRESSION_LEVEL_MAX = 19
SYNC_INTERVAL_MIN = 0.01
DURATION_MAX = 300
LANES_MAX = 1024
AUTOMATIC_FILE_SIZE_MAX = 64 * MIB
SMALL_FILES_BYTES = 256 * KIB
"""Room kept aside for pages, locks, group records and directories, and for the steps of eviction itself."""


def seconds(value: float | timedelta) -> float:
    """A duration in seconds, given as a number of seconds or as a timedelta."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


@dataclass(frozen=True, kw_only=True)
class CompressionConfig:
    """How the entries of one append call are compressed, together. Reading needs none of this."""

    codec: str = "zstd"
    """``zstd``, or ``none``: nothing is compressed."""
    min_compress_size: int = 4 * KIB
    """Bytes of an append call (4 for each of several entries included) below which nothing is compressed."""
    level: int = 1
    """1 (fast) to 19 (small). From level 4 on, and for calls over 256 KiB, other threads run meanwhile."""

    def problems(self) -> Iterator[str]:
        """Yield a sentence for every broken rule."""
        if self.codec not in {"zstd", "none"}:
            yield f"compression.codec is {self.codec!r}: must be 'zstd' or 'none'"
        if self.min_compress_size < 0:
            yield f"compression.min_compress_size is {self.min_compress_size}: must be 0 or more"
        if not 1 <= self.level <= COMPRESSION_LEVEL_MAX:
            yield f"compression.level is {self.level}: must be 1 to {COMPRESSION_LEVEL_MAX}"

    def threshold(self) -> int | None:
        """Bytes from which on an append call is compressed; None: never."""
        return self.min_compress_size if self.codec == "zstd" else None


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
    max_pinned_bytes: int = 128 * MIB
    """Bytes of segments and buffers that messages read with ``copy=False`` may keep; beyond that they are copies."""
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
        if self.max_pinned_bytes < 0:
            yield f"storage.max_pinned_bytes is {self.max_pinned_bytes}: must be 0 or more"


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
    """What the log may take of the disk."""

    max_total_size: int = 1 * GIB
    """Bound on the allocated bytes of every file and directory of the log."""
    when_full: str = "evict_oldest"
    """``evict_oldest``: the oldest closed segments go, counted. ``reject_new``: appends fail with LogFullError."""
    min_free_bytes: int = 0
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
    """All settings of a log."""

    compression: CompressionConfig = field(default_factory=CompressionConfig)
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
        return max(MAX_FILE_SIZE_MIN, min(AUTOMATIC_FILE_SIZE_MAX, share // 4096 * 4096))

    def least_total_size(self) -> int:
        """The smallest ``max_total_size`` with which one shard can be written: two segments and the small files."""
        return 2 * self.segment_size() + SMALL_FILES_BYTES

    def validate(self) -> None:
        """Check every rule.

        Raises:
            ConfigError: naming every problem at once.
        """
        problems: list[str] = []
        try:
            for section in (self.compression, self.storage, self.concurrency, self.retention):
                problems += section.problems()
            if not problems and self.retention.max_total_size < self.least_total_size():
                problems.append(
                    f"retention.max_total_size is {self.retention.max_total_size}: these settings need at least "
                    f"{self.least_total_size()} (two segments of {self.segment_size()} and {SMALL_FILES_BYTES})"
                )
        except (TypeError, AttributeError) as error:
            raise ConfigError(f"configuration has a value of a wrong type: {error}") from error
        if problems:
            raise ConfigError("; ".join(problems))
