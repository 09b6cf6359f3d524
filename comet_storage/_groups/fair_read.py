"""One read over several shards, where none crowds out the others and none gets less than there is room for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from comet_storage._groups.shard_cursor import ShardCursor
from comet_storage.errors import UnsupportedFormatError
from comet_storage.types import StreamMessage

CursorOf = Callable[[int], ShardCursor | None]


def read_in_turn(
    cursor_of: CursorOf, shards: list[int], count: int, max_bytes: int, *, copy: bool
) -> list[StreamMessage]:
    """Up to ``count`` messages and ``max_bytes``: first each shard's part of it, then the rest to whoever has more.

    Raises:
        OSError, UnsupportedFormatError: a shard could not be read, and the others had nothing.
    """
    parts: dict[int, tuple[list[StreamMessage], int]] = {}
    unfinished: list[ShardCursor] = []
    refused: OSError | UnsupportedFormatError | None = None
    for index, shard in enumerate(shards):
        left = len(shards) - index
        if count <= 0 or (parts and max_bytes <= 0):
            break
        try:
            cursor = cursor_of(shard)
            if cursor is None:
                continue
            largest = max_bytes if parts else None
            messages, size = cursor.read(-(-count // left), max(1, max_bytes // left), largest, copy=copy)
        except (OSError, UnsupportedFormatError) as error:
            refused = refused or error
            continue
        if messages:
            parts[shard] = messages, size
            count, max_bytes = count - len(messages), max_bytes - size
        if cursor.has_more:
            unfinished.append(cursor)
    if len(shards) > 1:
        _share_out(parts, unfinished, count, max_bytes, copy=copy)
    if refused is not None and not parts:
        raise refused
    return list(chain.from_iterable(messages for messages, _ in parts.values()))


def _share_out(
    parts: dict[int, tuple[list[StreamMessage], int]],
    unfinished: Iterable[ShardCursor],
    count: int,
    max_bytes: int,
    *,
    copy: bool,
) -> None:
    """Let those that have more read it, as far as others left room."""
    for cursor in unfinished:
        if count <= 0 or max_bytes <= 0:
            return
        before, size_before = parts.get(cursor.shard_id, ([], 0))
        messages, size = cursor.read(count + len(before), max_bytes + size_before, max_bytes + size_before, copy=copy)
        if messages:
            parts[cursor.shard_id] = messages, size
            count, max_bytes = count - len(messages) + len(before), max_bytes - size + size_before
