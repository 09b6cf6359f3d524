"""The log as its users have it. Delegates, decides nothing."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from comet_storage._format.group_record import GroupRecord
from comet_storage._groups.lease import take_lease
from comet_storage._groups.registry import register_group
from comet_storage._groups.shard_cursor import ShardCursor, frame_messages
from comet_storage._groups.tracker import Tracker
from comet_storage._log.accounting import shard_accounting
from comet_storage._log.directory import open_directory, stores_through_maps
from comet_storage._log.flusher import Flusher
from comet_storage._log.layout import LogLayout
from comet_storage._log.metadata import load_metadata, open_metadata
from comet_storage._log.space import SpaceLedger
from comet_storage._os import fork
from comet_storage._os.door import Door, storage_errors
from comet_storage._segment.file import Frame
from comet_storage._shard.batch import check_batch
from comet_storage._shard.claim import OWNER_WAIT
from comet_storage._shard.context import ShardContext, WriterSettings
from comet_storage._shard.flush import close_writer, flush_writer
from comet_storage._shard.group_file import read_group_record
from comet_storage._shard.reader import ShardReader
from comet_storage._shard.shared_writer import SharedShardWriter
from comet_storage._shard.writer import ShardWriter
from comet_storage.config import CometConfig, seconds
from comet_storage.errors import ClosedError, CometError, LogMovedError, ReadOnlyError, ShardLostError
from comet_storage.lanes import LaneWriter
from comet_storage.names import ShardName, parse_group, parse_shard_stream, parse_stream
from comet_storage.types import Accounting, MessageIDs, StreamMessage, message_ids

if TYPE_CHECKING:
    from typing_extensions import Self

_DOOR = Door()
_fork_page = fork.page


class Client:
    """A log on the local disk, open for this process.

    Args:
        data_dir: the log's directory; made if it does not exist, with access for this user only.
        config: settings; those that all processes must share were fixed by whoever made the log.
        read_only: change nothing, not even by making or recovering anything.

    Raises:
        ConfigError: a setting is wrong.
        UnsafeDirectoryError, UnsupportedFilesystemError, StorageIOError: the directory cannot be used.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        config: CometConfig | None = None,
        *,
        read_only: bool = False,
        _door: Door = _DOOR,
    ) -> None:
        config = config or CometConfig.default()
        config.validate()
        self.read_only = read_only
        self._config = config
        self._door = _door
        self.data_dir = open_directory(
            _door, os.fspath(data_dir), read_only=read_only, allow_network=config.storage.allow_network_filesystem
        )
        self._layout = LogLayout(_door, self.data_dir)
        with storage_errors(self.data_dir):
            metadata = load_metadata(_door, self._layout) if read_only else open_metadata(_door, self._layout, config)
            self._settings = WriterSettings(
                log_id=metadata.log_id if metadata else bytes(16),
                segment_size=metadata.max_file_size if metadata else config.segment_size(),
                mapped=stores_through_maps(_door, self.data_dir, config.storage.write_method),
                sync_each_append=config.storage.durability == "always",
                lock_timeout=seconds(config.concurrency.lock_timeout),
                max_entry_bytes=config.storage.max_entry_bytes,
                max_append_bytes=config.storage.max_append_bytes,
            )
        self._ledger = SpaceLedger(
            _door,
            self._layout,
            bound=metadata.max_total_size if metadata else config.retention.max_total_size,
            when_full=metadata.when_full if metadata else config.retention.when_full,
            min_free_bytes=config.retention.min_free_bytes,
            lock_timeout=self._settings.lock_timeout,
        )
        self._ledger.close_orphan = self._close_orphan
        self._lock = threading.RLock()
        self._writers: dict[str, ShardWriter] = {}
        self._lanes: dict[str, LaneWriter] = {}
        self._cursors: weakref.WeakSet[ShardCursor] = weakref.WeakSet()
        self._flusher: Flusher | None = None
        self._closed = False
        fork.listen(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Writing.

    def append(self, stream: str, entries: Sequence[object]) -> MessageIDs:
        """Append entries to one shard as one publication: all of them or none.

        When it returns, they survive ``kill -9`` of every process; with ``durability="always"`` also a power cut.

        Args:
            stream: full name of the shard, ``namespace:version:shard:NNNN``; made by its first entry.
            entries: bytes-like objects; none at all is allowed, and makes nothing.

        Returns:
            The ids of the entries, in their order.

        Raises:
            CometError: one of its kinds; nothing was appended.
        """
        if not _fork_page[0]:
            fork.adopt()
        writer = self._writers.get(stream)
        if writer is None:
            name = parse_shard_stream(stream)
            self._check_writable()
            check_batch(entries)
            if not len(entries):
                return message_ids(name.shard_id, 0, 0)
            writer = self.open_writer(name, shared=self._config.concurrency.multi_process)
        try:
            return writer.append(entries)
        except (ShardLostError, LogMovedError):
            self.drop_writer(writer)
            raise

    def lanes(self, stream: str) -> LaneWriter:
        """The lane writer of a stream ``namespace:version``: appends to a shard that no other process owns."""
        with self._lock:
            self._check_writable()
            if stream not in self._lanes:
                self._lanes[stream] = LaneWriter(self, stream, self._config.concurrency.lanes)
            return self._lanes[stream]

    def sync(self) -> None:
        """Return when everything appended and acknowledged before survives a power cut.

        Raises:
            CometError: the disk refused; what was durable before still is.
        """
        self._check_open()
        for writer in list(self._writers.values()):
            flush_writer(writer)
        with storage_errors(self.data_dir):
            for cursor in list(self._cursors):
                cursor.lease.sync()

    # Looking.

    def streams(self) -> list[str]:
        """Names of the streams that exist, ``namespace:version``."""
        return self._layout.streams()

    def shards(self, stream: str) -> list[int]:
        """Numbers of the shards that a stream has."""
        return self._layout.shards(stream)

    def len(self, stream: str) -> int:
        """Entries still held by a shard, or by all shards of a stream. Never creates anything."""
        total = 0
        for name in self._names(stream):
            with self._reading(name) as reader:
                total += reader.held()
        return total

    def scan(self, stream: str, start: int = 0) -> Iterator[StreamMessage]:
        """Every entry that a shard holds from number ``start`` on, as of now. No group is touched."""
        name = parse_shard_stream(stream)
        reader = self._new_reader(name)
        try:
            for found in reader.frames(start):
                if isinstance(found, Frame):
                    end = found.header.first_entry + found.header.count
                    yield from frame_messages(stream, name.shard_id, found, start, end)
        finally:
            reader.close()

    def allocated_bytes(self) -> int:
        """Bytes of the disk blocks of every file and directory of the log."""
        with storage_errors(self.data_dir):
            return self._ledger.measure()

    # Groups.

    def groups(self, stream: str) -> list[str]:
        """Names of the consumer groups of a stream."""
        return self._layout.groups(stream)

    def register_group(self, stream: str, group: str, start: str = "oldest") -> None:
        """Make a consumer group unless it exists. It begins at the oldest entries held, or at the next ones.

        1. Each existing shard gets the group's record. A crash leaves records without a group, which are made anew.
        2. The group's file appears. Shards made from here on are read from their first entry.
        """
        self._check_writable()
        path = self._layout.group_file(stream, parse_group(group))
        directory = self._layout.stream_directory(stream)
        with self._lock, storage_errors(directory):
            if group in self.groups(stream):
                return
            self._door.make_directories(directory)
            for shard_id in self.shards(stream):
                self._start_group(stream, shard_id, group, start)
            register_group(self._door, path, group, start)
            self._door.sync_directory(directory)

    def delete_group(self, stream: str, group: str) -> None:
        """Forget a consumer group and its offsets. Consumers of it that are open get AckError."""
        self._check_writable()
        with self._lock, storage_errors(self.data_dir):
            with contextlib.suppress(FileNotFoundError):
                self._door.unlink(self._layout.group_file(stream, parse_group(group)))
            for name in self._names(stream):
                with contextlib.suppress(FileNotFoundError):
                    self._door.unlink(self._layout.shard(name).group(group))

    def accounting(self, stream: str, group: str) -> Accounting:
        """What became of every entry number of a group, summed over the shards of the stream."""
        total = Accounting()
        for shard_id in self.shards(stream):
            total += self.shard_accounting(stream, shard_id, group)
        return total

    def shard_accounting(self, stream: str, shard_id: int, group: str) -> Accounting:
        """What became of every entry number of a group in one shard."""
        name = ShardName(*parse_stream(stream), shard_id)
        record = read_group_record(self._door, self._layout.shard(name).group(parse_group(group))) or GroupRecord()
        with self._reading(name) as reader:
            return shard_accounting(record, reader.first_held(), reader.next_number())

    def pending_bytes(self, stream: str, group: str) -> int:
        """Stored bytes that a group has still to get, to the nearest frame."""
        total = 0
        for name in self._names(stream):
            record = read_group_record(self._door, self._layout.shard(name).group(group)) or GroupRecord()
            with self._reading(name) as reader:
                first, end = reader.position_of(record.offset)
                total += end - first
        return total

    def close(self) -> None:
        """Make everything durable and let go of it. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            flusher, self._flusher = self._flusher, None
        if flusher is not None:
            flusher.stop()
        for cursor in list(self._cursors):
            with contextlib.suppress(CometError, OSError):
                cursor.lease.sync()
            cursor.close()
        while self._writers:
            _, writer = self._writers.popitem()
            close_writer(writer, self._closed_error())
        self._ledger.close()

    # For lanes and consumers.

    def open_writer(self, name: ShardName, *, shared: bool, wait: float = OWNER_WAIT) -> ShardWriter:
        """The writer of a shard, claimed by the first call."""
        with self._lock:
            self._check_writable()
            key = str(name)
            writer = self._writers.get(key)
            if writer is None:
                context = self._context(name)
                writer = SharedShardWriter(context) if shared else ShardWriter(context, wait=wait)
                self._writers[key] = writer
                self._start_flusher()
            return writer

    def drop_writer(self, writer: ShardWriter) -> None:
        """Forget a writer that lost its shard; the next append claims anew."""
        with self._lock:
            if self._writers.get(str(writer.name)) is writer:
                del self._writers[str(writer.name)]
                with contextlib.suppress(CometError), writer.turn():
                    writer.release(writer.failure or ShardLostError(f"shard {writer.name} was lost"))

    def lease_shard(self, stream: str, shard_id: int, group: str) -> ShardCursor | None:
        """A group's place in a shard, or None while the shard does not exist or another consumer holds it."""
        self._check_writable()
        name = ShardName(*parse_stream(stream), shard_id)
        layout = self._layout.shard(name)
        if not layout.exists():
            return None
        with storage_errors(layout.directory):
            found = take_lease(self._door, layout.group(group), self._ledger.reserve, GroupRecord())
        if found is None:
            return None
        lease, record = found
        cursor = ShardCursor(str(name), shard_id, lease, Tracker(record), self._new_reader(name))
        with self._lock:
            self._cursors.add(cursor)
            self._start_flusher()
        return cursor

    def after_fork_in_child(self) -> None:
        """In a forked child: leave the parent's shards alone; the child claims its own when it appends."""
        self._lock = threading.RLock()
        self._flusher = None
        for writer in self._writers.values():
            writer.release(ShardLostError(f"shard {writer.name} is the parent process's; nothing was stored"))
        self._writers = {}
        self._cursors = weakref.WeakSet()
        self._ledger.after_fork_in_child()

    def _start_group(self, stream: str, shard_id: int, group: str, start: str) -> None:
        name = ShardName(*parse_stream(stream), shard_id)
        with contextlib.suppress(FileNotFoundError):
            self._door.unlink(self._layout.shard(name).group(group))
        with self._reading(name) as reader:
            number = reader.next_number() if start == "newest" else reader.first_held() or 0
        if number:
            initial = GroupRecord(start=number, offset=number)
            found = take_lease(self._door, self._layout.shard(name).group(group), self._ledger.reserve, initial)
            if found is not None:
                found[0].sync()
                found[0].close()

    def _names(self, stream: str) -> list[ShardName]:
        """The shards that a name stands for: one, or all of a stream."""
        with contextlib.suppress(CometError):
            return [parse_shard_stream(stream)]
        namespace, version = parse_stream(stream)
        return [ShardName(namespace, version, shard_id) for shard_id in self.shards(stream)]

    def _context(self, name: ShardName) -> ShardContext:
        return ShardContext(
            self._door,
            name,
            self._layout.shard(name),
            self._settings,
            self._ledger.reserve,
            self._ledger.release,
            self._wake_flusher,
        )

    def _new_reader(self, name: ShardName) -> ShardReader:
        revive = None if self.read_only else lambda: self._revive(name)
        return ShardReader(self._door, self._layout.shard(name), revive)

    @contextlib.contextmanager
    def _reading(self, name: ShardName) -> Iterator[ShardReader]:
        """A reader for one question."""
        reader = self._new_reader(name)
        try:
            with storage_errors(self.data_dir):
                yield reader
        finally:
            reader.close()

    def _revive(self, name: ShardName) -> None:
        """Recover a shard that has no live writer, so that it can be read."""
        if str(name) in self._writers:
            return
        with contextlib.suppress(CometError), self._lock:
            close_writer(ShardWriter(self._context(name), wait=0), self._closed_error())

    def _close_orphan(self, name: ShardName) -> bool:
        """Close the active segment of a shard that nobody writes. Called under the ledger's lock."""
        if str(name) in self._writers:
            return False
        try:
            writer = ShardWriter(self._context(name), wait=0)
        except CometError:
            return False
        try:
            writer.rotate()
            writer.finish_closed()
        except CometError:
            return False
        finally:
            writer.release(self._closed_error())
        return True

    def _start_flusher(self) -> None:
        if self._flusher is None and not self._closed:
            self._flusher = Flusher(self._flush, self._grow_ahead, seconds(self._config.storage.sync_interval))
            self._flusher.start()

    def _flush(self) -> None:
        """One round of the flusher: every shard gets its turn, then the first error is told."""
        errors: list[Exception] = []
        for writer in list(self._writers.values()):
            try:
                flush_writer(writer)
            except (CometError, OSError) as error:
                errors.append(error)
        for cursor in list(self._cursors):
            try:
                cursor.lease.sync()
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _grow_ahead(self) -> None:
        for writer in list(self._writers.values()):
            with contextlib.suppress(CometError):
                writer.grow_ahead()
                writer.finish_closed()

    def _wake_flusher(self) -> None:
        flusher = self._flusher
        if flusher is not None:
            flusher.wake()

    def _check_writable(self) -> None:
        self._check_open()
        if self.read_only:
            raise ReadOnlyError(f"the client of {self.data_dir} was opened read-only")

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"the client of {self.data_dir} is closed; nothing was stored")
