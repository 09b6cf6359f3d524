"""Messages from frames, a column at a time: per entry one slice and two tuples, and no line of Python."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise, repeat
from typing import Any

from comet_storage._format.frame import entry_bounds
from comet_storage._segment.file import Frame, Run
from comet_storage.types import MessageID, StreamMessage

_new = tuple.__new__


def message_list(
    stream: str, ids: list[MessageID], entries: list[bytes], timestamps: Iterable[int]
) -> list[StreamMessage]:
    """One message for each id, entry and time stamp."""
    return list(map(_new, repeat(StreamMessage), zip(repeat(stream), ids, entries, timestamps)))


def id_list(shard_id: int, first: int, count: int) -> list[MessageID]:
    """``count`` ids from ``first`` on."""
    return list(map(_new, repeat(MessageID), zip(repeat(shard_id), range(first, first + count))))


def frame_messages(stream: str, shard_id: int, frame: Frame, first: int, end: int) -> list[StreamMessage]:
    """The entries of a frame whose numbers are in ``[first, end)``."""
    first, end = max(first, frame.first_entry), min(end, frame.end_entry)
    entries, timestamps, _ = FoundEntries(frame).part(first, end)
    return message_list(stream, id_list(shard_id, first, len(entries)), entries, timestamps)


def holds_all(body: memoryview) -> bool:
    """Whether it is a view of bytes that are nothing but the body, and so can stand for it without a copy."""
    return isinstance(body.obj, bytes) and len(body.obj) == body.nbytes


class FoundEntries:
    """The entries of a frame or run; a frame's lengths are worked out once, however many parts are asked for.

    Args:
        found: where they are.
        view: memory with the frame's body that they are to be views of, instead of copies.

    Raises:
        UnsupportedFormatError: they are stored with a codec that this release does not know.
    """

    def __init__(self, found: Frame | Run, view: memoryview | None = None) -> None:
        self.found = found
        self._raw: Any = b""  # what is sliced is what messages hold: bytes, or a view
        self._bounds: Sequence[int] | None = None
        if isinstance(found, Frame):
            if view is not None:
                self._raw = view
            else:
                self._raw = found.body.obj if holds_all(found.body) else bytes(found.body)
            self._bounds = entry_bounds(found.header, found.body)

    def part(self, first: int, end: int) -> tuple[list[bytes], Iterable[int], int]:
        """Entries with numbers ``[first, end)``, which must be among those found, their time stamps, and their bytes.

        None at all where the lengths of a frame contradict it.
        """
        found = self.found
        low, high = first - found.first_entry, end - found.first_entry
        if isinstance(found, Run):
            if high - low == len(found.entries):
                return found.entries, found.timestamps, found.entry_bytes
            entries = found.entries[low:high]
            return entries, found.timestamps[low:high], sum(map(len, entries))
        bounds = self._bounds
        if bounds is None:
            return [], (), 0
        raw, size = self._raw, bounds[high] - bounds[low]
        if isinstance(bounds, range) and isinstance(raw, bytes):
            records = struct.iter_unpack(f"{bounds.step}s", memoryview(raw)[bounds[low] : bounds[high]])
            return list(chain.from_iterable(records)), repeat(found.header.timestamp), size
        entries = [raw[start:stop] for start, stop in pairwise(bounds[low : high + 1])]
        return entries, repeat(found.header.timestamp), size
