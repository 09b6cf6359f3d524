"""Reading a stream as a consumer group: what was acknowledged is not delivered again, and nothing else is left out."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from comet_storage._format.group_record import DELIVERED, REJECTED
from comet_storage._groups.arguments import ranges, shard_numbers, whole_number
from comet_storage._groups.fair_read import read_in_turn
from comet_storage._groups.processing import DeadLetter, Handler, OnBatch, OnError, Processing, ProcessOptions
from comet_storage._groups.shard_cursor import ShardCursor
from comet_storage._os import fork
from comet_storage._os.door import storage_errors
from comet_storage.errors import AckError, ClosedError, InvalidArgumentError, InvalidStreamName, ReadOnlyError
from comet_storage.names import parse_group, parse_shard_stream, parse_stream
from comet_storage.types import MessageID, ShardPosition, StreamMessage, StreamStats

if TYPE_CHECKING:
    from comet_storage.client import Client

READ_BYTES_MAX = 16 * 1024 * 1024
"""Payload bytes that one read returns at most unless told otherwise, or unless a single message is larger."""


class Consumer:
    """One member of a consumer group of one stream.

    The group exists from here on, also when nothing is ever read. Within a group each shard is leased to one live
    consumer: shards that another one holds yield nothing here until it ends.

    Args:
        client: an open client that is not read-only.
        group: name of the group.
        stream: ``namespace:version``.
        start: where a new group begins: ``oldest`` (what is held) or ``newest`` (what is appended from now on).

    Raises:
        InvalidStreamName: the stream's or the group's name is not valid.
        InvalidArgumentError: ``start`` is something else.
        CometError: the log cannot be written to.
    """

    def __init__(self, client: Client, group: str, *, stream: str, start: str = "oldest") -> None:
        namespace, version = parse_stream(stream)
        self.stream = f"{namespace}:{version}"
        self.group = parse_group(group)
        if client.read_only:
            raise ReadOnlyError("a consumer keeps its offsets in the log, which this client opened read-only")
        self._client = client
        self._lock = threading.RLock()
        self._cursors: dict[int, ShardCursor] = {}
        self._turn = 0
        self._closed = False
        client.register_group(self.stream, self.group, start)
        fork.listen(self)

    def __enter__(self) -> Consumer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def shards(self) -> list[int]:
        """Numbers of the stream's shards as of now."""
        return self._client.shards(self.stream)

    def read(
        self,
        shards: Iterable[int] | None = None,
        count: int = 100,
        *,
        max_bytes: int = READ_BYTES_MAX,
        copy: bool = True,
    ) -> list[StreamMessage]:
        """Messages from the lowest unacknowledged one of each shard on, in order per shard.

        Reading moves nothing: without an acknowledgement the next read returns the same. No shard can crowd out the
        others: each gets its part of ``count`` and ``max_bytes``, and what some leave over goes to the others. Another
        shard comes first each time.

        Args:
            shards: shard numbers to read, each once however often it is named; all that exist by now if None. Unknown
                ones yield nothing and are not made.
            count: the most messages to return; none for 0 and less.
            max_bytes: payload bytes to return at most; a first message larger than that is returned alone.
            copy: False gives each message's data as a read-only memoryview of the segment's map, or of a buffer where
                it was compressed. It stays valid while it is held, whatever happens to segment, consumer and client,
                and keeps an evicted segment's blocks on the disk. Beyond ``max_pinned_bytes`` it is a view of a copy.
                A file that is cut under a map, or a bad sector, is no exception but ends the process with SIGBUS.

        Raises:
            InvalidArgumentError: an argument is of another kind.
            ClosedError: the consumer or its client was closed.
            UnsupportedFormatError: nothing else is left than entries with a codec of a newer release. They stay.
            StorageIOError: the disk refused, or the process lacks descriptors or memory, and nothing else could be
                read. Nothing moved; try again. What a disk refuses again and again counts as corrupt after a while.
        """
        whole_number("count", count)
        whole_number("max_bytes", max_bytes)
        named = None if shards is None else shard_numbers(shards)
        with self._lock:
            self._check_open()
            wanted = sorted(set(self.shards() if named is None else named))
            if count <= 0 or not wanted:
                return []
            self._turn = (self._turn + 1) % len(wanted)
            with storage_errors(self._client.data_dir):
                wanted = wanted[self._turn :] + wanted[: self._turn]
                return read_in_turn(self._cursor, wanted, count, max_bytes, copy=copy)

    def read_from(
        self, shard: int, entry: int, count: int = 100, *, max_bytes: int = READ_BYTES_MAX, bulk: bool = False
    ) -> list[StreamMessage]:
        """Messages of one shard from an entry number on, at least from the offset, without acknowledged ones.

        For who keeps several places in a shard, or reads what is new before what is old. Moves nothing. ``bulk`` is for
        who joins the data and lets go of it soon: large entries may be read-only memoryviews of what was read.

        Raises:
            InvalidArgumentError, ClosedError, UnsupportedFormatError, StorageIOError: as :meth:`read`.
        """
        shard_numbers([shard])
        for name, value in (("entry", entry), ("count", count), ("max_bytes", max_bytes)):
            whole_number(name, value)
        with self._lock, storage_errors(self._client.data_dir):
            self._check_open()
            cursor = self._cursor(shard) if count > 0 else None
            return [] if cursor is None else cursor.read(count, max_bytes, start=entry, bulk=bulk)[0]

    def position(self, shard: int) -> ShardPosition | None:
        """Where the group is in a shard; None while another consumer has it, or it does not exist. Leases it if free.

        Raises:
            ClosedError: the consumer or its client was closed.
            StorageIOError: the disk refused.
        """
        shard_numbers([shard])
        with self._lock, storage_errors(self._client.data_dir):
            self._check_open()
            if (cursor := self._cursor(shard)) is None:
                return None
            record = cursor.tracker.record
            return ShardPosition(record.offset, cursor.reader.next_number(), len(record.ranges))

    def process(
        self,
        handler: Handler,
        *,
        stream: str | None = None,
        shards: Iterable[int] | None = None,
        batch_size: int = 100,
        max_retries: int = 3,
        poll_interval: float | timedelta = 0.1,
        retry_delay: float | timedelta = 1.0,
        auto_ack: bool = True,
        on_error: OnError | None = None,
        on_batch: OnBatch | None = None,
        assignment: tuple[int, int] | None = None,
        dead_letter: DeadLetter | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Hand messages to ``handler`` until ``stop`` is set, in the calling thread.

        Each batch is of one shard, in order. Shards are independent: one whose batch fails waits and is tried again,
        and the others go on meanwhile. A shard that another consumer of the group has is taken when that one ends.
        Nothing is acknowledged before the handler returned, so an exception of any kind, at any instant, costs at most
        handing the same messages over again.

        Args:
            handler: called with a list of messages of one shard; what it returns is ignored.
            stream: this consumer's stream, also as ``namespace:version:shard:*``; or one shard of it by its full name.
            shards: only these shards. By default all, also those that come to be later. None is ever made.
            batch_size: the most messages of a batch.
            max_retries: how often a batch is tried again before it goes to ``dead_letter``. Without that hook it is
                tried for ever, less and less often; it is never skipped.
            poll_interval: seconds after which an idle loop looks for new entries, shards, freed leases; 0.01 at least.
            retry_delay: seconds before the first retry. Doubles each time, up to a minute; varied by up to a half.
            auto_ack: acknowledge a batch when the handler returned. Otherwise the handler, or another thread,
                acknowledges (or rejects); the shard's next batch comes when all of this one is done with, and what is
                not is handed over again after ``retry_delay``, then less and less often.
            on_error: called with each exception and the number of retries before it: of the handler, of the dead-letter
                hook, and of the log where trying again may help.
            on_batch: called with the number of messages and the seconds taken, for each batch that was handled or given
                up. What the callbacks raise ends the call.
            assignment: ``(id, total)``: only shards whose number modulo ``total`` is ``id``.
            dead_letter: called with the messages and the last exception. When it returns, they are rejected: they
                leave the group, counted. If it raises, they stay.
            stop: an event that ends the call within a moment, after the batch in hand. Any thread and any signal
                handler may set it.

        Raises:
            InvalidArgumentError: an argument is wrong; nothing was read.
            AckError: the group was deleted.
            ClosedError: the consumer or its client was closed.
        """
        options = ProcessOptions(
            shards=self._chosen_shards(stream, shards),
            batch_size=batch_size,
            max_retries=max_retries,
            poll_interval=poll_interval,
            retry_delay=retry_delay,
            auto_ack=auto_ack,
            on_error=on_error,
            on_batch=on_batch,
            assignment=assignment,
            dead_letter=dead_letter,
            stop=stop,
        )
        options.validate()
        if not callable(handler):
            raise InvalidArgumentError(f"handler is {handler!r}: must be callable")
        self._check_open()
        Processing(self, self._client._door, handler, options).run()  # noqa: SLF001 - the client's way to the system

    def is_settled(self, shard: int, end: int) -> bool:
        """Whether every entry below ``end`` that this consumer was given of a shard is done with."""
        with self._lock:
            cursor = self._cursors.get(shard)
            return cursor is not None and not cursor.tracker.wanted(0, end)

    def _chosen_shards(self, stream: str | None, shards: Iterable[int] | None) -> tuple[int, ...] | None:
        """The shards that ``process`` was asked for; None for all of the stream."""
        chosen = None
        if stream is not None:
            try:
                name = parse_shard_stream(stream)
            except InvalidStreamName:
                asked = ":".join(parse_stream(stream))
            else:
                asked, chosen = name.stream, (name.shard_id,)
            if asked != self.stream:
                raise InvalidArgumentError(f"stream is {stream!r}: this consumer is one of {self.stream!r}")
        return chosen if shards is None else shard_numbers(shards)

    def ack(self, *ids: MessageID) -> None:
        """Mark messages as delivered. In any order; twice is the same as once. Survives kill -9 when it returns.

        Of what is acknowledged out of order, the record of a shard keeps 64 stretches; what lies beyond is known while
        the consumer lives, and is delivered again to the next one unless what came before it was acknowledged as well.

        Raises:
            AckError: a message was never delivered to this consumer, or its shard's lease is lost. Nothing changed.
            InvalidArgumentError: not every one is a MessageID. Nothing changed.
        """
        self._acknowledge(ids, DELIVERED)

    def reject(self, *ids: MessageID, reason: str) -> None:
        """Mark messages as not deliverable for good: they leave the group counted as rejected, not as delivered.

        Raises:
            AckError: as :meth:`ack`.
        """
        if not reason:
            raise ValueError("a rejection needs a reason")
        self._acknowledge(ids, REJECTED)

    def ack_range(self, shard: int, first: int, last: int) -> None:
        """Acknowledge the entry numbers from ``first`` to ``last``, both included.

        Raises:
            AckError: ``first`` is above ``last``, or as :meth:`ack`.
        """
        shard_numbers([shard])
        whole_number("last", last)
        if whole_number("first", first) > last or first < 0:
            raise AckError(f"cannot acknowledge {first} to {last} of shard {shard}: not a range of entry numbers")
        with self._lock:
            self._check_open()
            self._commit({shard: [(first, last + 1)]}, DELIVERED)

    def lag(self, shard: int) -> int:
        """Entries of a shard that the group has still to get, acknowledged or gone ones not counted; never negative."""
        self._check_open()
        return self._client.shard_accounting(self.stream, shard, self.group).pending

    def shard_stats(self, shard: int) -> StreamStats:
        """What a shard holds, and where each group of the stream is in it."""
        self._check_open()
        return self._client.shard_stats(self.stream, shard)

    def reset_offset(self, shard: int, entry: int) -> None:
        """Go to an entry number, forwards or backwards; negative counts from the end (-1 is the newest entry).

        What is jumped over forwards counts as skipped. Backwards, entries are delivered again and the group's
        accounting of this shard starts anew at ``entry``.

        Raises:
            AckError: the number lies beyond the end, the shard does not exist, or another consumer holds it.
        """
        shard_numbers([shard])
        whole_number("entry", entry)
        with self._lock:
            self._check_open()
            cursor = self._held(shard)
            with storage_errors(self._client.data_dir):
                following = cursor.reader.next_number()
            target = max(0, following + entry) if entry < 0 else entry
            if target > following:
                raise AckError(f"cannot go to entry {target} of shard {shard}: the next one will be {following}")
            with storage_errors(self._client.data_dir):
                cursor.reset(target)

    def sync(self) -> None:
        """Return when all acknowledgements so far survive a power cut."""
        with self._lock, storage_errors(self._client.data_dir):
            for cursor in self._cursors.values():
                cursor.lease.sync()

    def close(self) -> None:
        """Free the leases. The group and its offsets stay, safe from power cuts. Idempotent."""
        with self._lock:
            self._closed = True
            for shard, cursor in list(self._cursors.items()):
                # No sync of the client comes by here any more.
                with contextlib.suppress(OSError):
                    cursor.lease.sync()
                cursor.close()
                self._cursors.pop(shard, None)

    def after_fork_in_child(self) -> None:
        """In a forked child: the parent keeps its leases; this copy is closed."""
        self._lock = threading.RLock()
        self._closed = True
        while self._cursors:
            self._cursors.popitem()[1].close()

    def _acknowledge(self, ids: tuple[MessageID, ...], kind: int) -> None:
        with self._lock:
            self._check_open()
            try:
                spans = self._by_shard(list(ids))
            except (AttributeError, TypeError, ValueError):
                raise InvalidArgumentError(f"not every one of {len(ids)} ids is a MessageID; nothing changed") from None
            self._commit(spans, kind)

    def _by_shard(self, ids: list[MessageID]) -> dict[int, list[tuple[int, int]]]:
        """The ids as ranges ``[first, end)`` of entry numbers, sorted, per shard."""
        numbers: defaultdict[int, list[int]] = defaultdict(list)
        spans: dict[int, list[tuple[int, int]]] = {}
        at = 0
        while at < len(ids):
            shard_id, number = ids[at]
            cursor = None if shard_id in spans or shard_id in numbers else self._cursors.get(shard_id)
            count = cursor.handed_again(ids, at) if cursor is not None else 0
            if count:
                spans[shard_id] = [(number, number + count)]
            else:
                numbers[shard_id].append(number)
            at += max(1, count)
        for shard_id, found in numbers.items():
            found += [number for span in spans.get(shard_id, ()) for number in range(*span)]
            spans[shard_id] = ranges(found)
        return spans

    def _commit(self, acknowledged: dict[int, list[tuple[int, int]]], kind: int) -> None:
        """Check all shards before any changes, so that an error changes nothing."""
        cursors = {shard: self._held(shard) for shard in acknowledged}
        for shard, spans in acknowledged.items():
            tracker = cursors[shard].tracker
            if spans[0][0] < tracker.record.start or spans[-1][1] > tracker.seen:
                raise AckError(
                    f"entries {spans[0][0]} to {spans[-1][1] - 1} of shard {shard}: only entries "
                    f"{tracker.record.start} to {tracker.seen - 1} were delivered to this consumer"
                )
            with storage_errors(self._client.data_dir):
                cursors[shard].lease.check()
        with storage_errors(self._client.data_dir):
            for shard, spans in acknowledged.items():
                cursors[shard].acknowledge(spans, kind)

    def _held(self, shard: int) -> ShardCursor:
        cursor = self._cursor(shard)
        if cursor is None:
            raise AckError(
                f"shard {shard} of {self.stream} does not exist, or another consumer of {self.group!r} has it"
            )
        return cursor

    def _cursor(self, shard: int) -> ShardCursor | None:
        cursor = self._cursors.get(shard)
        if cursor is None:
            cursor = self._client.lease_shard(self.stream, shard, self.group)
            if cursor is not None:
                self._cursors[shard] = cursor
        return cursor

    def _check_open(self) -> None:
        if not fork.page[0]:
            fork.adopt()
        if self._closed:
            raise ClosedError(f"consumer of group {self.group!r} is closed")
        self._client._check_open()  # noqa: SLF001 - without its client a consumer is closed as well
