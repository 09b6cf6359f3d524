"""Reading a stream as a consumer group: what was acknowledged is not delivered again, and nothing else is left out."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from comet_storage._format.group_record import DELIVERED, REJECTED
from comet_storage._groups.shard_cursor import ShardCursor
from comet_storage._os import fork
from comet_storage._os.door import storage_errors
from comet_storage.errors import AckError, ClosedError, ReadOnlyError, UnsupportedFormatError
from comet_storage.names import parse_group, parse_stream
from comet_storage.types import MessageID, StreamMessage

if TYPE_CHECKING:
    from comet_storage.client import Client

READ_BYTES_MAX = 64 * 1024 * 1024
"""Payload bytes that one read returns at most, unless a single message is larger."""


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
        CometError: the log cannot be written to.
    """

    def __init__(self, client: Client, group: str, *, stream: str, start: str = "oldest") -> None:
        namespace, version = parse_stream(stream)
        self.stream = f"{namespace}:{version}"
        self.group = parse_group(group)
        if client.read_only:
            raise ReadOnlyError("a consumer keeps its offsets in the log, which this client opened read-only")
        if start not in {"oldest", "newest"}:
            raise ValueError(f"start is {start!r}: must be 'oldest' or 'newest'")
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
        others: each gets its part of ``count`` and ``max_bytes``, and what is left over goes round.

        Args:
            shards: shard numbers to read; all that exist by now if None. Unknown ones yield nothing and are not made.
            count: the most messages to return.
            max_bytes: payload bytes to return at most; a first message larger than that is returned alone.
            copy: False gives each message's data as a read-only memoryview of the segment's map, or of a buffer where
                it was compressed. It stays valid while it is held, whatever happens to segment, consumer and client,
                and keeps an evicted segment's blocks on the disk. Beyond ``max_pinned_bytes`` it is a view of a copy.
                A file that is cut under a map, or a bad sector, is no exception but ends the process with SIGBUS.

        Raises:
            ClosedError: the consumer or its client was closed.
            UnsupportedFormatError: nothing else is left than entries with a codec of a newer release. They stay.
            CometError: a bad disk; nothing moved.
        """
        with self._lock:
            self._check_open()
            wanted = sorted(set(self.shards() if shards is None else shards))
            if count <= 0 or not wanted:
                return []
            self._turn = (self._turn + 1) % len(wanted)
            wanted = wanted[self._turn :] + wanted[: self._turn]
            messages: list[StreamMessage] = []
            refused: UnsupportedFormatError | None = None
            for index, shard_id in enumerate(wanted):
                cursor = self._cursor(shard_id)
                left = len(wanted) - index
                share = -(-(count - len(messages)) // left)
                if cursor is None or share <= 0:
                    continue
                try:
                    with storage_errors(self._client.data_dir):
                        largest = max_bytes if messages else None
                        found, size = cursor.read(share, max(1, max_bytes // left), largest, copy=copy)
                except UnsupportedFormatError as error:
                    refused = error
                    continue
                messages += found
                max_bytes = max(0, max_bytes - size)
            if refused is not None and not messages:
                raise refused
            return messages

    def ack(self, *ids: MessageID) -> None:
        """Mark messages as delivered. In any order; twice is the same as once. Survives kill -9 when it returns.

        Raises:
            AckError: a message was never delivered to this consumer, or its shard's lease is lost. Nothing changed.
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
        if first > last or first < 0:
            raise AckError(f"cannot acknowledge {first} to {last} of shard {shard}: not a range of entry numbers")
        with self._lock:
            self._check_open()
            self._commit({shard: [(first, last + 1)]}, DELIVERED)

    def lag(self, shard: int) -> int:
        """Entries of a shard that the group has still to get, acknowledged or gone ones not counted; never negative."""
        return self._client.shard_accounting(self.stream, shard, self.group).pending

    def reset_offset(self, shard: int, entry: int) -> None:
        """Go to an entry number, forwards or backwards; negative counts from the end (-1 is the newest entry).

        What is jumped over forwards counts as skipped. Backwards, entries are delivered again and the group's
        accounting of this shard starts anew at ``entry``.

        Raises:
            AckError: the number lies beyond the end, the shard does not exist, or another consumer holds it.
        """
        with self._lock:
            self._check_open()
            cursor = self._held(shard)
            with storage_errors(self._client.data_dir):
                following = cursor.reader.next_number()
            target = max(0, following + entry) if entry < 0 else entry
            if target > following:
                raise AckError(f"cannot go to entry {target} of shard {shard}: the next one will be {following}")
            cursor.tracker.reset(target)
            with storage_errors(self._client.data_dir):
                cursor.lease.commit(cursor.tracker.record)

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
        numbers: defaultdict[int, list[int]] = defaultdict(list)
        for shard_id, number in ids:
            numbers[shard_id].append(number)
        with self._lock:
            self._check_open()
            self._commit({shard: _ranges(sorted(set(found))) for shard, found in numbers.items()}, kind)

    def _commit(self, acknowledged: dict[int, list[tuple[int, int]]], kind: int) -> None:
        """Check all shards before any changes, so that an error changes nothing."""
        cursors = {shard: self._held(shard) for shard in acknowledged}
        for shard, ranges in acknowledged.items():
            tracker = cursors[shard].tracker
            if ranges[0][0] < tracker.record.start or ranges[-1][1] > tracker.seen:
                raise AckError(
                    f"entries {ranges[0][0]} to {ranges[-1][1] - 1} of shard {shard}: only entries "
                    f"{tracker.record.start} to {tracker.seen - 1} were delivered to this consumer"
                )
            with storage_errors(self._client.data_dir):
                cursors[shard].lease.check()
        with storage_errors(self._client.data_dir):
            for shard, ranges in acknowledged.items():
                cursor = cursors[shard]
                for first, end in ranges:
                    cursor.tracker.acknowledge(first, end, kind)
                cursor.lease.commit(cursor.tracker.record)

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


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Sorted numbers as ranges ``[first, end)``."""
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return [(numbers[0], numbers[-1] + 1)]
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], number + 1))
        else:
            ranges.append((number, number + 1))
    return ranges
