"""What a client is made of: writers, readers, leases, the ledger and the flusher of one log in this process."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator

from comet_storage._format.group_record import GroupRecord
from comet_storage._groups.lease import take_lease
from comet_storage._groups.shard_cursor import ShardCursor
from comet_storage._groups.tracker import Tracker
from comet_storage._log.counters import Problems
from comet_storage._log.directory import open_directory, stores_through_maps
from comet_storage._log.flusher import Flusher
from comet_storage._log.latency import Appender, AppendLatency, LatencyProbe
from comet_storage._log.layout import LogLayout
from comet_storage._log.metadata import load_metadata, open_metadata
from comet_storage._log.space import SpaceLedger
from comet_storage._os import fork
from comet_storage._os.door import Door, storage_errors
from comet_storage._retention.keeper import Keeper
from comet_storage._shard.claim import OWNER_WAIT
from comet_storage._shard.compression import Compression
from comet_storage._shard.context import ShardContext, WriterSettings
from comet_storage._shard.counters import WriterCounters
from comet_storage._shard.durable_writer import DurableShardWriter
from comet_storage._shard.flush import close_writer
from comet_storage._shard.group_file import read_group_record
from comet_storage._shard.pinned import PinnedViews
from comet_storage._shard.reader import ShardReader
from comet_storage._shard.shared_writer import SharedShardWriter
from comet_storage._shard.writer import ShardWriter
from comet_storage._upkeep import Upkeep
from comet_storage.config import CometConfig, seconds
from comet_storage.errors import (
    ClosedError,
    CometError,
    ConfigError,
    LogBusyError,
    ReadOnlyError,
    ReentrantAppendError,
    ShardLostError,
)
from comet_storage.names import ShardName, parse_stream

_OPENING_PAUSE = 0.001


class Engine(Upkeep):
    """The parts of one log that this process has open, and their life cycle."""

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        config: CometConfig | None = None,
        *,
        read_only: bool = False,
        door: Door,
    ) -> None:
        asked = config
        config = CometConfig.default() if asked is None else asked
        _check_arguments(data_dir, config)
        config.validate()
        self.read_only = read_only
        self._config = config
        self._door = door
        self.data_dir = open_directory(
            door, os.fspath(data_dir), read_only=read_only, allow_network=config.storage.allow_network_filesystem
        )
        self._layout = LogLayout(door, self.data_dir)
        with storage_errors(self.data_dir):
            metadata = load_metadata(door, self._layout) if read_only else open_metadata(door, self._layout, asked)
            self._settings = WriterSettings(
                log_id=metadata.log_id if metadata else bytes(16),
                segment_size=metadata.max_file_size if metadata else config.segment_size(),
                mapped=stores_through_maps(door, self.data_dir, config.storage.write_method),
                sync_each_append=config.storage.durability == "always",
                refuse_unsynced=(metadata.when_full if metadata else config.retention.when_full) == "reject_new",
                lock_timeout=seconds(config.concurrency.lock_timeout),
                max_entry_bytes=config.storage.max_entry_bytes,
                max_append_bytes=config.storage.max_append_bytes,
                compression=Compression(
                    min_size=config.compression.threshold(), level=config.compression.level, clock=door.monotonic
                ),
            )
        self._ledger = SpaceLedger(
            door,
            self._layout,
            bound=metadata.max_total_size if metadata else config.retention.max_total_size,
            when_full=metadata.when_full if metadata else config.retention.when_full,
            min_free_bytes=config.retention.min_free_bytes,
            lock_timeout=self._settings.lock_timeout,
        )
        self._pins = PinnedViews(door, config.storage.max_pinned_bytes)
        self._keeper = Keeper(
            door,
            self._layout,
            self._ledger,
            asked.retention if asked is not None else None,
            metadata.when_full if metadata else config.retention.when_full,
        )
        self._keeper.evictor.close_orphan = self._close_orphan
        self._keeper.evictor.finish_closed = self._finish_closed
        self._lock = threading.RLock()
        self._writers: dict[str, ShardWriter] = {}
        self._appenders: dict[str, Appender] = {}
        self._problems = Problems(door)
        self._latency = AppendLatency(door)
        self._past_work = WriterCounters()
        self._opening: dict[str, int] = {}
        self._cursors: weakref.WeakSet[ShardCursor] = weakref.WeakSet()
        self._flusher: Flusher | None = None
        self._checkpoint_at = float("-inf")
        self._closed = False
        fork.listen(self)

    def open_writer(self, name: ShardName, *, shared: bool, wait: float = OWNER_WAIT) -> ShardWriter:
        """The writer of a shard, claimed by the first call; calls for other shards do not wait for it.

        Raises:
            ReentrantAppendError: by a signal handler that interrupted this thread's own claim of the shard.
            LogBusyError: another thread's claim of the shard did not end within the lock timeout.
        """
        key, thread, mine = str(name), threading.get_ident(), False
        deadline = self._door.monotonic() + self._settings.lock_timeout
        try:
            while not mine:
                with self._lock:
                    self._check_writable()
                    if key in self._writers:
                        return self._writers[key]
                    if key not in self._opening:
                        # Nothing is called in between, so no exception leaves a mark that nobody takes away.
                        self._opening[key] = thread
                        mine = True
                if not mine:
                    self._wait_for_opening(key, deadline)
            return self._claim(name, shared=shared, wait=wait)
        finally:
            if mine:
                self._opening.pop(key, None)

    def _wait_for_opening(self, key: str, deadline: float) -> None:
        if self._opening.get(key) == threading.get_ident():
            raise ReentrantAppendError(f"append to {key} from inside its claim by the same thread; nothing was stored")
        if self._door.monotonic() >= deadline:
            raise LogBusyError(f"another thread's claim of {key} has not ended; nothing was stored")
        self._door.sleep(_OPENING_PAUSE)

    def _claim(self, name: ShardName, *, shared: bool, wait: float) -> ShardWriter:
        key, writers, adopted = str(name), self._writers, False
        context = self._context(name)
        try:
            if shared:
                writer: ShardWriter = SharedShardWriter(context)
            elif self._settings.sync_each_append:
                writer = DurableShardWriter(context, wait=wait)
            else:
                writer = ShardWriter(context, wait=wait)
            with self._lock:
                self._check_same_process(writers, name)
                self._check_open()
                writers[key] = writer
                adopted = True
                self._appenders[key] = LatencyProbe(self._appenders, key, writer, self._latency, self._problems)
                self._keeper.record_policy()
                self._start_flusher()
            return writer
        except BaseException as error:
            if not adopted:
                context.let_go()
            self._check_same_process(writers, name, error)
            raise

    def _check_same_process(
        self, writers: dict[str, ShardWriter], name: ShardName, cause: BaseException | None = None
    ) -> None:
        """A signal handler may fork in the middle of a claim: in the child it comes to nothing."""
        if not fork.page[0]:
            fork.adopt()
        if self._writers is not writers:
            raise ShardLostError(f"shard {name} is the parent process's; nothing was stored") from cause

    def drop_writer(self, writer: ShardWriter) -> None:
        """Forget a writer that lost its shard; the next append claims anew."""
        with self._lock:
            if self._writers.get(str(writer.name)) is writer:
                del self._writers[str(writer.name)]
                self._appenders.pop(str(writer.name), None)
                self._past_work.add(writer.counted())
                with contextlib.suppress(CometError), writer.turn():
                    writer.release(writer.failure or ShardLostError(f"shard {writer.name} was lost"))

    def appender(self, writer: ShardWriter) -> Appender:
        """What takes a writer's next append: the writer, or what measures it for once."""
        return self._appenders.get(str(writer.name), writer)

    def note_problem(self, error: CometError) -> None:
        """Count an append that failed."""
        self._problems.note(error)

    def lease_shard(self, stream: str, shard_id: int, group: str) -> ShardCursor | None:
        """A group's place in a shard, or None while the shard does not exist or another consumer holds it."""
        self._check_writable()
        name = ShardName(*parse_stream(stream), shard_id)
        layout = self._layout.shard(name)
        if not layout.exists():
            return None
        found = None
        try:
            with storage_errors(layout.directory):
                found = take_lease(self._door, layout.group(group), self._ledger.reserve_small, GroupRecord())
            if found is None:
                return None
            cursor = ShardCursor(str(name), shard_id, found[0], Tracker(found[1]), self._new_reader(name))
            with self._lock:
                self._cursors.add(cursor)
                self._start_flusher()
            return cursor
        except BaseException:
            # Whoever keeps the traceback must not keep the lease.
            if found is not None:
                found[0].close()
            raise

    def after_fork_in_child(self) -> None:
        """In a forked child: leave the parent's shards alone; the child claims its own when it appends."""
        self._lock = threading.RLock()
        self._flusher = None
        for writer in self._writers.values():
            writer.release(ShardLostError(f"shard {writer.name} is the parent process's; nothing was stored"))
        self._writers, self._appenders, self._opening = {}, {}, {}
        self._cursors = weakref.WeakSet()
        self._ledger.after_fork_in_child()

    def close(self) -> None:
        """Make everything durable and let go of it. Idempotent.

        By a signal handler that interrupted an append of this client: that shard is let go of when the append ends.
        """
        if not fork.page[0]:
            fork.adopt()
        with self._lock:
            self._closed = True
        # What an exception of a signal handler cut short, a second call goes on with.
        if self._flusher is not None:
            self._flusher.stop(self._settings.lock_timeout)
            self._flusher = None
        for cursor in self._open_cursors():
            with contextlib.suppress(CometError, OSError):
                cursor.lease.sync()
            cursor.close()
        self._appenders.clear()
        for key, writer in list(self._writers.items()):
            close_writer(writer, self._closed_error())
            self._writers.pop(key, None)
        if not self.read_only:
            with contextlib.suppress(CometError, OSError):
                self._keeper.clock.save()
        self._ledger.close()

    def _context(self, name: ShardName) -> ShardContext:
        return ShardContext(
            self._door,
            name,
            self._layout.shard(name),
            self._settings,
            self._ledger.reserve,
            self._ledger.release,
            self._wake_flusher,
            self._keeper.clock.now_ns,
        )

    def _new_reader(self, name: ShardName) -> ShardReader:
        revive = None if self.read_only else lambda: self._revive(name)
        return ShardReader(self._door, self._layout.shard(name), revive, self._config.indexing, self._pins)

    @contextlib.contextmanager
    def _reading(self, name: ShardName) -> Iterator[ShardReader]:
        """A reader for one question."""
        self._check_open()
        reader = self._new_reader(name)
        try:
            with storage_errors(self.data_dir):
                yield reader
        finally:
            reader.close()

    @contextlib.contextmanager
    def _place(self, name: ShardName, group: str) -> Iterator[tuple[ShardReader, GroupRecord]]:
        """A reader of a shard for one question, and where a group is in it."""
        with self._reading(name) as reader:
            yield reader, read_group_record(self._door, self._layout.shard(name).group(group)) or GroupRecord()

    def _revive(self, name: ShardName) -> None:
        """Recover a shard that has no live writer, so that it can be read."""
        with contextlib.suppress(CometError), self._lock:
            if str(name) in self._writers or str(name) in self._opening:
                return
            context = self._context(name)
            try:
                close_writer(ShardWriter(context, wait=0), self._closed_error())
            finally:
                context.let_go()

    def _settle(self, name: ShardName) -> None:
        """Recover a shard that nobody writes, close its active segment, and leave the next one without unused blocks.

        Raises:
            CometError, OSError: somebody does write it, or the disk refused.
        """
        context = self._context(name)
        try:
            writer = ShardWriter(context, wait=0)
            try:
                writer.rotate()
                writer.finish_closed()
                self._ledger.release(writer.active.trim)
            finally:
                writer.release(self._closed_error())
        finally:
            context.let_go()

    def _close_orphan(self, name: ShardName) -> bool:
        """Settle a shard when space is needed. Whether that could be done."""
        if str(name) in self._writers:
            return False
        try:
            self._settle(name)
        except (CometError, OSError):
            return False
        return True

    def _finish_closed(self) -> None:
        for writer in list(self._writers.values()):
            with contextlib.suppress(CometError, OSError):
                writer.finish_closed()

    def _counters(self) -> WriterCounters:
        """Work of all writers that this client has or had."""
        total = WriterCounters()
        total.add(self._past_work)
        for writer in list(self._writers.values()):
            total.add(writer.counted())
        return total

    def _check_writable(self) -> None:
        self._check_open()
        if self.read_only:
            raise ReadOnlyError(f"the client of {self.data_dir} was opened read-only")

    def _check_open(self) -> None:
        if not fork.page[0]:
            fork.adopt()
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the client of {self.data_dir} is closed; nothing was stored")


def _check_arguments(data_dir: object, config: object) -> None:
    """Callers without a type checker pass anything."""
    if not isinstance(config, CometConfig):
        raise ConfigError(f"config is a {type(config).__name__}: must be a CometConfig; from_json makes one of JSON")
    path = os.fspath(data_dir)  # type: ignore[call-overload]
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError(f"data_dir is {path!r}: must be the path of a directory")
