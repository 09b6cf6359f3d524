"""What a client tells of its log: what it holds, statistics and health."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from comet_storage._engine import Engine
from comet_storage._groups.accounting import shard_accounting
from comet_storage._groups.arguments import whole_number
from comet_storage._groups.browse import recent_messages, verification
from comet_storage._groups.messages import frame_messages
from comet_storage._os.door import storage_errors
from comet_storage._retention.report import log_stats, shard_stats
from comet_storage._segment.active import STEP_BYTES_MIN
from comet_storage._segment.file import Frame
from comet_storage.errors import CometError
from comet_storage.names import ShardName, parse_shard_stream, parse_stream
from comet_storage.statistics import CometStats, DiskState, Health
from comet_storage.types import RetentionStats, ShardRetentionStats, ShardVerification, StreamMessage


class Reporting(Engine):
    """An engine that answers questions about itself and about the log."""

    @property
    def log_id(self) -> str:
        """The random id that the log got from its first opener, in hexadecimal; zeros where there is no log yet."""
        return self._settings.log_id.hex()

    def stats(self) -> CometStats:
        """Counters of the log and of this client; reads the names, pages and group records of every shard.

        Raises:
            ClosedError: the client is closed.
            StorageIOError: the operating system refused.
        """
        self._check_open()
        entries = files = lag = 0
        with storage_errors(self.data_dir):
            for stream in self._layout.streams():
                groups = self._layout.groups(stream)
                for shard_id in self._layout.shards(stream):
                    found = self._shard_figures(ShardName(*parse_stream(stream), shard_id), groups)
                    entries, files, lag = entries + found[0], files + found[1], max(lag, found[2])
        counters, compression = self._counters(), self._settings.compression
        return CometStats(
            total_entries=entries,
            total_bytes=counters.stored_bytes + compression.saved_bytes,
            total_compressed=counters.stored_bytes,
            write_latency_ns=self._latency.last,
            min_write_latency_ns=self._latency.least,
            max_write_latency_ns=self._latency.most,
            compression_ratio=1 + compression.saved_bytes / counters.stored_bytes if counters.stored_bytes else 1.0,
            compressed_entries=compression.compressed_entries,
            skipped_compression=compression.incompressible_entries,
            total_files=files,
            file_rotations=counters.rotations,
            checkpoint_count=counters.checkpoints,
            last_checkpoint_ns=counters.last_checkpoint_ns,
            active_readers=len(self._open_cursors()),
            consumer_lag=lag,
            error_count=self._problems.count,
            last_error_ns=self._problems.at_ns,
            index_persist_errors=counters.index_errors,
            compression_wait_ns=compression.spent_ns,
        )

    def streams(self) -> list[str]:
        """Names of the streams that exist, ``namespace:version``."""
        self._check_open()
        with storage_errors(self.data_dir):
            return self._layout.streams()

    def shards(self, stream: str) -> list[int]:
        """Numbers of the shards that a stream has."""
        self._check_open()
        with storage_errors(self.data_dir):
            return self._layout.shards(stream)

    def len(self, stream: str) -> int:
        """Entries still held by a shard, or by all shards of a stream. Never creates anything."""
        total = 0
        for name in self._names(stream):
            with self._reading(name) as reader:
                total += reader.held()
        return total

    def scan(self, stream: str, start: int = 0) -> Iterator[StreamMessage]:
        """Every entry that a shard holds from number ``start`` on, as of now. No group is touched.

        Of a stream ``namespace:version``: of one shard after the other.

        Raises:
            InvalidStreamName: neither a shard nor a stream has such a name.
            ClosedError: the client was closed.
            StorageIOError: the disk refused.
        """
        whole_number("start", start)
        return self._scan(self._names(stream), start)

    def _scan(self, names: list[ShardName], start: int) -> Iterator[StreamMessage]:
        for name in names:
            with self._reading(name) as reader:
                for found in reader.frames(start):
                    if isinstance(found, Frame):
                        end = found.header.first_entry + found.header.count
                        yield from frame_messages(str(name), name.shard_id, found, start, end)

    def list_recent(self, stream: str, n: int) -> list[StreamMessage]:
        """The last ``n`` entries of a shard, or of all shards of a stream by their time stamps, oldest first.

        None for 0 and less. No group is touched, and nothing is made.
        """
        found: list[StreamMessage] = []
        if whole_number("n", n) > 0:
            for name in self._names(stream):
                with self._reading(name) as reader:
                    found += recent_messages(reader, name, n)
            found.sort(key=lambda message: message.timestamp)
        return found[-n:]

    def verify(self, stream: str) -> list[ShardVerification]:
        """Read every byte of a shard, or of all shards of a stream, and tell what is there and what is missing.

        Changes nothing, and hinders nobody. What is appended meanwhile may be counted or not.

        Raises:
            StorageIOError: the disk refused, for now; what it refuses again and again counts as corrupt.
        """
        found = []
        for name in self._names(stream):
            with self._reading(name) as reader:
                found.append(verification(reader, name, len(self._layout.shard(name).segments())))
        return found

    def retention_stats(self) -> RetentionStats:
        """What the log holds and within which limits, whoever writes it. Measures every file."""
        self._check_open()
        with storage_errors(self.data_dir):
            shards = {str(name): self._shard_retention_stats(name) for name in self._layout.all_shards()}
            return log_stats(shards, self._ledger, self._keeper.config, self._door.free_bytes(self.data_dir))

    def allocated_bytes(self) -> int:
        """Bytes of the disk blocks of every file and directory of the log."""
        self._check_open()
        with storage_errors(self.data_dir):
            return self._ledger.measure()

    def max_total_size(self) -> int:
        """The bound in force on :meth:`allocated_bytes`: that of whoever made the log."""
        return self._ledger.bound

    def pinned_bytes(self) -> int:
        """Bytes that messages read with ``copy=False`` keep: whole segments, and decompressed bodies."""
        return self._pins.total

    def unlinked_pinned_bytes(self) -> int:
        """Bytes of segments that were evicted and stay on the disk, outside of the bound, while such messages live."""
        return self._pins.unlinked()

    def health(self) -> Health:
        """Whether the log can be relied on now. Reads no segment and never raises."""
        problems, writers = self._problems, list(self._writers.values())
        now = self._door.monotonic()
        states = [writer.sync_state for writer in writers]
        disk = self._disk_state(failing=any(state.unsynced for state in states))
        refused = any(state.refusal is not None for state in states)
        writable = disk != "full" and not (self._closed or self.read_only or refused) and self._is_there()
        flusher_alive = not writers or (self._flusher is not None and self._flusher.is_alive())
        waiting = [now - writer.flushed_at for writer in writers if writer.is_unflushed()]
        last = problems.last
        return Health(
            healthy=writable and disk == "ok" and flusher_alive,
            writable=writable,
            disk=disk,
            last_error=None if last is None else f"{type(last).__name__}: {last}",
            last_error_age=None if last is None else now - problems.at,
            sync_failures=self._counters().sync_failures,
            flusher_alive=flusher_alive,
            oldest_unflushed_age=max(waiting, default=0.0),
        )

    def _names(self, stream: str) -> list[ShardName]:
        """The shards that a name stands for: one, or all of a stream."""
        with contextlib.suppress(CometError):
            return [parse_shard_stream(stream)]
        namespace, version = parse_stream(stream)
        return [ShardName(namespace, version, shard_id) for shard_id in self.shards(stream)]

    def _shard_retention_stats(self, name: ShardName) -> ShardRetentionStats:
        groups = self._layout.groups(name.stream)
        lags = {group: self._lag(name, group) for group in groups}
        history = self._keeper.evictor.histories.read(name)
        with self._reading(name) as reader:
            return shard_stats(self._door, self._layout.shard(name), reader, lags, history)

    def _shard_figures(self, name: ShardName, groups: list[str]) -> tuple[int, int, int]:
        """Entries ever appended to a shard, its segments, and the largest lag of a group in it."""
        lag = max((self._lag(name, group) for group in groups), default=0)
        with self._reading(name) as reader:
            return reader.next_number() - reader.lost_ever(), len(self._layout.shard(name).segments()), lag

    def _lag(self, name: ShardName, group: str) -> int:
        with self._place(name, group) as (reader, record):
            return shard_accounting(record, reader.gone(record.offset), reader.next_number()).pending

    def _disk_state(self, *, failing: bool) -> DiskState:
        if failing or not self._is_there():
            return "failing"
        try:
            with storage_errors(self.data_dir):
                free = self._door.free_bytes(self.data_dir)
        except CometError:
            return "failing"
        return "full" if self._problems.full or free < STEP_BYTES_MIN else "ok"

    def _is_there(self) -> bool:
        try:
            return self._door.status(self.data_dir).is_directory
        except OSError:
            return False
