"""A consumer's place in one shard: its lease, its tracker, its reader."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from comet_storage._format.frame import entry_bounds
from comet_storage._format.limits import ENTRY_LENGTH_BYTES
from comet_storage._groups.lease import Lease
from comet_storage._groups.tracker import Tracker
from comet_storage._segment.file import Frame
from comet_storage._shard.reader import Gap, ShardReader
from comet_storage.errors import UnsupportedFormatError
from comet_storage.types import MessageID, StreamMessage


def frame_messages(
    stream: str, shard_id: int, frame: Frame, first: int, end: int, view: memoryview | None = None
) -> list[StreamMessage]:
    """The entries of a frame whose numbers are in ``[first, end)``, as copies or as parts of ``view``."""
    header = frame.header
    bounds = entry_bounds(header, frame.body)
    if bounds is None:
        return []
    raw: Any = bytes(frame.body) if view is None else view  # what is sliced is what messages hold
    start = ENTRY_LENGTH_BYTES * header.count if header.count > 1 else 0
    starts = [start, *bounds[:-1]]
    base = header.first_entry
    timestamp = header.timestamp
    return [
        StreamMessage(
            stream, MessageID(shard_id, number), raw[starts[number - base] : bounds[number - base]], timestamp
        )
        for number in range(max(first, base), min(end, base + header.count))
    ]


def as_view(message: StreamMessage) -> StreamMessage:
    """A message whose data is a view of its own bytes."""
    return message._replace(data=memoryview(message.data))  # type: ignore[arg-type]  # as the field's docstring says


@dataclass(eq=False)
class ShardCursor:
    """One leased shard."""

    name: str
    shard_id: int
    lease: Lease
    tracker: Tracker
    reader: ShardReader

    def read(
        self, count: int, max_bytes: int, largest: int | None = None, *, copy: bool = True
    ) -> tuple[list[StreamMessage], int]:
        """Up to ``count`` unacknowledged messages in order, and their bytes.

        The first one comes also when it is over ``max_bytes``, unless it is over ``largest``.
        Gaps that are met are counted, and committed when the offset moves over them.

        Raises:
            UnsupportedFormatError: the next entries are stored with a codec that this release does not know.
        """
        messages: list[StreamMessage] = []
        size = 0
        moved = False
        try:
            for found in self.reader.frames(self.tracker.record.offset):
                if isinstance(found, Gap):
                    moved = self.tracker.note_gap(found) or moved
                    continue
                for message in self._unacknowledged(found, copy=copy):
                    most = max_bytes if messages else largest
                    if len(messages) >= count or (most is not None and size + len(message.data) > most):
                        break
                    messages.append(message)
                    size += len(message.data)
                else:
                    if len(messages) < count and size < max_bytes:
                        continue
                break
        except UnsupportedFormatError:
            # What stands before it can be delivered; nothing behind it, or it would be passed over.
            if not messages:
                raise
        if messages:
            self.tracker.note_seen(messages[-1].id.entry_number + 1)
        if moved:
            self.lease.commit(self.tracker.record)
        return messages, size

    def _unacknowledged(self, frame: Frame, *, copy: bool) -> Iterator[StreamMessage]:
        first = frame.header.first_entry
        view = None if copy else self.reader.view(frame)
        for start, end in self.tracker.wanted(first, first + frame.header.count):
            messages = frame_messages(self.name, self.shard_id, frame, start, end, view)
            yield from messages if copy or view is not None else map(as_view, messages)

    def close(self) -> None:
        """Free the lease and close the reader."""
        self.lease.close()
        self.reader.close()

    def __del__(self) -> None:
        # A consumer that was dropped without being closed must not keep its shards from others.
        with contextlib.suppress(Exception):
            self.close()
