"""The log as its users have it: questions and orders for the engine behind it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from types import TracebackType

from comet_storage._format.group_record import GroupRecord
from comet_storage._format.limits import PAGE_BYTES
from comet_storage._groups.accounting import shard_accounting
from comet_storage._groups.browse import oldest_pending, stream_stats
from comet_storage._groups.lease import take_lease
from comet_storage._groups.registry import changing_groups, register_group
from comet_storage._log.latency import Appender
from comet_storage._os import fork
from comet_storage._os.door import DOOR, Door, storage_errors, sync_names
from comet_storage._reporting import Reporting
from comet_storage._retention.report import evictions
from comet_storage._shard.batch import check_batch
from comet_storage._shard.group_file import read_group_record
from comet_storage.config import CometConfig
from comet_storage.errors import CometError, InvalidArgumentError, LogMovedError, ShardLostError
from comet_storage.lanes import LaneWriter
from comet_storage.names import ShardName, parse_group, parse_shard_stream, parse_stream
from comet_storage.types import (
    Accounting,
    Eviction,
    MessageIDs,
    StreamStats,
    message_ids,
)

_fork_page = fork.page

_STREAM_LEVELS = 3
"""Directories of a stream: its version's, its namespace's, and the log's."""


class Client(Reporting):
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
        _door: Door = DOOR,
    ) -> None:
        super().__init__(data_dir, config, read_only=read_only, door=_door)
        self._lanes: dict[str, LaneWriter] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def config(self) -> CometConfig:
        """The settings that this client was opened with, or the defaults."""
        return self._config

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
        appender: Appender | None
        try:
            appender = self._appenders[stream]
        except (KeyError, TypeError):
            appender = None
        try:
            return self._first_append(stream, entries) if appender is None else appender.append(entries)
        except CometError as error:
            self._append_failed(stream, error)
            raise

    def _first_append(self, stream: str, entries: Sequence[object]) -> MessageIDs:
        name = parse_shard_stream(stream)
        self._check_writable()
        check_batch(entries)
        if not len(entries):
            return message_ids(name.shard_id, 0, 0)
        return self.open_writer(name, shared=self._config.concurrency.multi_process).append(entries)

    def _append_failed(self, stream: str, error: CometError) -> None:
        self.note_problem(error)
        if isinstance(error, ShardLostError | LogMovedError) and (writer := self._writers.get(stream)) is not None:
            self.drop_writer(writer)

    def lanes(self, stream: str) -> LaneWriter:
        """The lane writer of a stream ``namespace:version``: appends to a shard that no other process owns."""
        with self._lock:
            self._check_writable()
            lanes = self._lanes.get(stream)
            if lanes is None:
                lanes = self._lanes[stream] = LaneWriter(self, stream, self._config.concurrency.lanes)
            return lanes

    def sync(self) -> None:
        """Return when everything appended and acknowledged before survives a power cut.

        Raises:
            CometError: the disk refused, or a shard was lost; the other shards and groups are durable.
        """
        self._check_open()
        with storage_errors(self.data_dir):
            if errors := self._make_durable(groups=True):
                raise errors[0]

    def repair(self, stream: str) -> dict[str, CometError]:
        """Recover each shard that nobody writes, close its last segment with an index, and give back unused blocks.

        Whoever opens a shard for writing recovers it as well; this is for those that nobody is going to. Damaged bytes
        stay where they are, and are told of by :meth:`verify`.

        Returns:
            By full name, the shards for which it could not be done, and why: mostly that a process writes them, perhaps
            this one; it keeps them in order itself.
        """
        self._check_writable()
        refused: dict[str, CometError] = {}
        for name in self._names(stream):
            try:
                with storage_errors(self.data_dir):
                    self._settle(name)
            except CometError as error:
                refused[str(name)] = error
        return refused

    def groups(self, stream: str) -> list[str]:
        """Names of the consumer groups of a stream."""
        self._check_open()
        with storage_errors(self.data_dir):
            return self._layout.groups(stream)

    def register_group(self, stream: str, group: str, start: str = "oldest") -> None:
        """Make a consumer group unless it exists. It begins at the oldest entries held, or at the next ones.

        1. Each existing shard gets the group's record. A crash leaves records without a group, which are made anew.
        2. The group's file appears. Shards made from here on are read from their first entry.
        """
        self._check_writable()
        if start not in {"oldest", "newest"}:
            raise InvalidArgumentError(f"start is {start!r}: must be 'oldest' or 'newest'")
        path = self._layout.group_file(stream, parse_group(group))
        directory = self._layout.stream_directory(stream)
        with self._lock, storage_errors(directory):
            if group not in self.groups(stream):
                self._door.make_directories(directory)
                with changing_groups(self._door, directory, self._settings.lock_timeout):
                    if group not in self.groups(stream):
                        for shard_id in self.shards(stream):
                            self._start_group(stream, shard_id, group, start)
                        self._ledger.reserve_small(PAGE_BYTES, lambda: None)
                        register_group(self._door, path, group, start)
            # Whoever made the file, or the directories, may have died before their names were on the disk.
            sync_names(self._door, directory, levels=_STREAM_LEVELS)

    def protect_group(self, stream: str, group: str, *, protect: bool) -> None:
        """Say whether what a group has still to acknowledge is protected from retention, as it is from the beginning.

        Where it is not, the group's place stands in no one's way: segments go as if it were done with them, and what
        it had still to get counts as evicted. To be changed at any time, by any client; in effect at once.
        """
        self._check_writable()
        mark = self._layout.unprotected_file(stream, parse_group(group))
        with storage_errors(self.data_dir):
            if protect:
                with contextlib.suppress(FileNotFoundError):
                    self._door.unlink(mark)
            elif group in self.groups(stream):
                self._door.close(self._door.open(mark, write=True, create=True))

    def is_group_protected(self, stream: str, group: str) -> bool:
        """Whether a group is one whose lag is protected from retention."""
        self._check_open()
        with storage_errors(self.data_dir):
            return parse_group(group) in self._layout.protecting_groups(stream)[0]

    def delete_group(self, stream: str, group: str) -> None:
        """Forget a consumer group and its offsets. Consumers of it that are open get AckError."""
        self._check_writable()
        path = self._layout.group_file(stream, parse_group(group))
        directory = self._layout.stream_directory(stream)
        with (
            self._lock,
            storage_errors(self.data_dir),
            contextlib.suppress(FileNotFoundError),
            changing_groups(self._door, directory, self._settings.lock_timeout),
        ):
            with contextlib.suppress(FileNotFoundError):
                self._door.unlink(path)
                self._door.sync_directory(directory)
            with contextlib.suppress(FileNotFoundError):
                self._door.unlink(self._layout.unprotected_file(stream, group))
            for name in self._names(stream):
                self._remove_record(name, group)
                with contextlib.suppress(FileNotFoundError):
                    self._door.unlink(self._keeper.evictor.histories.path(name, group))

    def accounting(self, stream: str, group: str) -> Accounting:
        """What became of every entry number of a group, summed over the shards of the stream."""
        total = Accounting()
        for shard_id in self.shards(stream):
            total += self.shard_accounting(stream, shard_id, group)
        return total

    def shard_accounting(self, stream: str, shard_id: int, group: str) -> Accounting:
        """What became of every entry number of a group in one shard."""
        name = ShardName(*parse_stream(stream), shard_id)
        with self._place(name, parse_group(group)) as (reader, record):
            return shard_accounting(record, reader.gone(record.offset), reader.next_number())

    def oldest_pending(self, stream: str, group: str) -> int | None:
        """When the oldest entry was appended that a group has still to get, in nanoseconds since 1970; None if none."""
        found = []
        for name in self._names(stream):
            with self._place(name, parse_group(group)) as (reader, record):
                found.append(oldest_pending(reader, record))
        return min((timestamp for timestamp in found if timestamp is not None), default=None)

    def shard_stats(self, stream: str, shard_id: int) -> StreamStats:
        """What a shard holds, and where the stream's groups are in it; zeros for a shard that does not exist."""
        name = ShardName(*parse_stream(stream), shard_id)
        layout = self._layout.shard(name)
        with self._reading(name) as reader:
            records = {group: read_group_record(self._door, layout.group(group)) for group in self.groups(stream)}
            offsets = {group: record.offset if record is not None else 0 for group, record in records.items()}
            return stream_stats(reader, name, offsets, len(layout.segments()))

    def pending_bytes(self, stream: str, group: str) -> int:
        """Stored bytes that a group has still to get, to the nearest frame."""
        total = 0
        for name in self._names(stream):
            with self._place(name, parse_group(group)) as (reader, record):
                first, end = reader.position_of(record.offset)
                total += end - first
        return total

    # Retention.

    def force_retention_cleanup(self) -> None:
        """Delete now what retention's rules condemn, in every shard of the log, whoever writes it.

        Raises:
            CometError: the disk refused, or another process kept the ledger; what was deleted before is.
        """
        self._check_writable()
        with storage_errors(self.data_dir):
            self._keeper.clean(self._writers.values())

    def shrink_stream(self, stream: str, limit: int, *, close: bool = False) -> int:
        """Delete the oldest closed segments of a stream, wanted or not, until they have at most ``limit`` bytes.

        Segments that are being written stay; with ``close``, those that this client writes are closed first.

        Returns:
            The bytes of the stream's closed segments that are left.

        Raises:
            CometError: as :meth:`force_retention_cleanup`.
        """
        self._check_writable()
        with storage_errors(self.data_dir):
            for writer in [each for each in self._writers.values() if close and each.name.stream == stream]:
                writer.rotate()
            return self._keeper.evictor.shrink_stream(stream, limit)

    def start_maintenance(self) -> None:
        """Have the background thread look after the log also when this client neither writes nor consumes."""
        with self._lock:
            self._check_writable()
            self._start_flusher()

    def evictions(self, stream: str, group: str | None = None) -> list[Eviction]:
        """Which entries retention deleted, and when, oldest first, of one shard or of all shards of a stream.

        Asked for a group: only what that had not acknowledged by then. What became of every number since is
        :meth:`accounting`'s to say.
        """
        found = []
        for name in self._names(stream):
            with self._reading(name) as reader:
                held = reader.first_held()
                history = self._keeper.evictor.histories.read(name, None if group is None else parse_group(group))
                found += evictions(str(name), history, held)
        return found

    def _start_group(self, stream: str, shard_id: int, group: str, start: str) -> None:
        name = ShardName(*parse_stream(stream), shard_id)
        self._remove_record(name, group)
        with self._reading(name) as reader:
            number = reader.next_number() if start == "newest" else reader.first_held() or 0
        if number:
            initial = GroupRecord(start=number, offset=number)
            found = take_lease(self._door, self._layout.shard(name).group(group), self._ledger.reserve_small, initial)
            if found is not None:
                try:
                    found[0].sync()
                finally:
                    found[0].close()

    def _remove_record(self, name: ShardName, group: str) -> None:
        """Remove a group's record of a shard, so that no power cut gives it to a later group of the same name."""
        layout = self._layout.shard(name)
        with contextlib.suppress(FileNotFoundError):
            self._door.unlink(layout.group(group))
            self._door.sync_directory(layout.directory)
