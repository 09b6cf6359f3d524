"""A consumer's place in one shard: its lease, its tracker, its reader."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from comet_storage._groups.lease import Lease
from comet_storage._groups.messages import FoundEntries, holds_all, id_list, message_list
from comet_storage._groups.tracker import Tracker
from comet_storage._segment.file import Frame, Run
from comet_storage._shard.reader import KEPT_BYTES, Gap, ShardReader
from comet_storage.errors import UnsupportedFormatError
from comet_storage.types import MessageID, StreamMessage

BULK_ENTRY_BYTES = 4 * 1024
"""Entries of this mean size are worth a view each; smaller ones are copied."""


@dataclass(eq=False)
class ShardCursor:
    """One leased shard."""

    name: str
    shard_id: int
    lease: Lease
    tracker: Tracker
    reader: ShardReader

    def __post_init__(self) -> None:
        self.handed: list[MessageID] = []
        """The ids of the last read, in order."""
        self.has_more = False
        """Whether the last read stopped because it had enough."""
        self._entries: FoundEntries | None = None

    def handed_again(self, ids: Sequence[MessageID], at: int) -> int:
        """How many of ``ids`` from ``at`` on are, one after the other, those of the last read, and without a gap.

        Who acknowledges what was read, or a part of it, gives back the very objects, which compare in no time.
        """
        handed = self.handed
        if not handed or handed[-1].entry_number - handed[0].entry_number != len(handed) - 1:
            return 0
        index = ids[at].entry_number - handed[0].entry_number
        if not 0 <= index < len(handed):
            return 0
        count = min(len(handed) - index, len(ids) - at)
        return count if handed[index : index + count] == ids[at : at + count] else 0

    def read(
        self,
        count: int,
        max_bytes: int,
        largest: int | None = None,
        *,
        copy: bool = True,
        start: int = 0,
        bulk: bool = False,
    ) -> tuple[list[StreamMessage], int]:
        """Up to ``count`` unacknowledged messages in order, from number ``start`` on, and their bytes.

        The first one comes also when it is over ``max_bytes``, unless it is over ``largest``. In bulk, large ones may
        be views of what they were read with, and with ``copy=False`` all are views, of the map if they can be.
        Gaps that are met are counted, and committed when the offset moves over them.

        Raises:
            UnsupportedFormatError: the next entries are stored with a codec that this release does not know.
        """
        messages: list[StreamMessage] = []
        size = 0
        full = moved = False
        self.handed = []
        self.reader.bulk = bulk
        # Views of the map are of frames: a run's entries are copies.
        start = max(start, self.tracker.record.offset)
        for found in self.reader.runs(start, count if copy else 0):
            if isinstance(found, Gap):
                moved = self.tracker.note_gap(found) or moved
                continue
            try:
                self._entries = self._entries_of(found, copy=copy, bulk=bulk)
            except UnsupportedFormatError:
                # What stands before it can be delivered; nothing behind it, or it would be passed over.
                if not messages:
                    raise
                break
            for first, end in self.tracker.wanted(max(start, found.first_entry), found.end_entry):
                entries, timestamps, more = self._entries.part(first, min(end, first + count - len(messages)))
                fitting = len(entries)
                if size + more <= max_bytes:
                    size += more
                else:
                    fitting, size = _fitting(entries, size, max_bytes, max_bytes if messages else largest)
                ids = id_list(self.shard_id, first, fitting)
                self.handed += ids
                messages += message_list(self.name, ids, entries, timestamps)
                full = fitting < len(entries) or len(messages) >= count or size >= max_bytes
                if full:
                    break
            if full:
                break
        self.has_more = full
        if self._entries is not None and (bulk or not copy or self._entries.found.size > KEPT_BYTES):
            self._entries = None
        if messages:
            self.tracker.note_seen(messages[-1].id.entry_number + 1)
        if moved:
            self.lease.commit(self.tracker.record)
        return messages, size

    def _entries_of(self, found: Frame | Run, *, copy: bool, bulk: bool) -> FoundEntries:
        if bulk and isinstance(found, Frame) and found.body.nbytes >= BULK_ENTRY_BYTES * found.header.count:
            return FoundEntries(found, None if holds_all(found.body) else found.body)
        if copy or isinstance(found, Run):
            known = self._entries
            return known if known is not None and known.found is found else FoundEntries(found)
        view = self.reader.view(found)
        # Where all memory that views may stay in is taken: views of a copy.
        return FoundEntries(found, memoryview(bytes(found.body)) if view is None else view)

    def acknowledge(self, spans: list[tuple[int, int]], kind: int) -> None:
        """Numbers in ``spans`` are done with. If that cannot be stored, nothing changed."""
        with self._stored():
            for first, end in spans:
                self.tracker.acknowledge(first, end, kind)

    def reset(self, number: int) -> None:
        """Go to a number. If that cannot be stored, nothing changed."""
        with self._stored():
            self.tracker.reset(number)

    @contextlib.contextmanager
    def _stored(self) -> Iterator[None]:
        before = self.tracker.state()
        try:
            yield
            self.lease.commit(self.tracker.record)
        except BaseException:
            # Also after an interruption, when it may have been stored: then it is delivered once more at worst.
            self.tracker.restore(before)
            raise

    def close(self) -> None:
        """Free the lease and close the reader."""
        self.lease.close()
        self.reader.close()

    def __del__(self) -> None:
        # A consumer that was dropped without being closed must not keep its shards from others.
        with contextlib.suppress(Exception):
            self.close()


def _fitting(entries: list[bytes], size: int, max_bytes: int, largest: int | None) -> tuple[int, int]:
    """How many of ``entries`` fit within ``max_bytes`` behind ``size`` bytes, and the bytes there are then.

    The first one fits also when it is within ``largest``, or there is no such limit.
    """
    sums = list(accumulate(map(len, entries), initial=size))
    fitting = max(0, bisect_right(sums, max_bytes) - 1)
    if fitting == 0 and (largest is None or sums[1] <= largest):
        fitting = 1
    return fitting, sums[fitting]
