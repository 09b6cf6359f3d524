"""Entries of one append call as the body of a frame."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from comet_storage._format.checksum import crc32_keeping_gil
from comet_storage._format.limits import ENTRY_LENGTH_BYTES, FRAME_ENTRIES_MAX
from comet_storage._shard.context import WriterSettings
from comet_storage.errors import BatchTooLarge, EntryTooLarge, InvalidEntryError

_JOIN_BYTES = 256 * 1024
"""``bytes.join`` of more than 1 MiB releases the GIL, and getting it back can take milliseconds."""


class Body(NamedTuple):
    """A frame's body in pieces."""

    count: int
    length: int
    pieces: list[bytes]

    def checksum(self, salt: int) -> int:
        """CRC-32 of the body, started from the segment's salt."""
        value = salt
        for piece in self.pieces:
            value = crc32_keeping_gil(piece, value)
        return value


def entry_bytes(entry: object, index: int = 0) -> bytes:
    """The bytes of one bytes-like entry.

    Raises:
        InvalidEntryError: it is not bytes-like.
    """
    if type(entry) is bytes:
        return entry
    if isinstance(entry, (bytes, bytearray, memoryview)):
        return bytes(entry)
    try:
        return bytes(memoryview(entry))  # type: ignore[arg-type]  # any object with the buffer protocol
    except TypeError:
        raise InvalidEntryError(
            f"entry {index} is {type(entry).__name__}, not bytes-like; nothing was appended"
        ) from None


def pack_batch(entries: Sequence[object], settings: WriterSettings) -> Body:
    """Body of a frame with these entries.

    Raises:
        InvalidEntryError: an entry is not bytes-like, or the whole is one bytes object or text.
        EntryTooLarge: an entry is over ``max_entry_bytes``.
        BatchTooLarge: the whole is over ``max_append_bytes`` or has too many entries.
    """
    if isinstance(entries, (str, bytes, bytearray, memoryview)):
        raise InvalidEntryError(
            f"entries is one {type(entries).__name__}; pass a list of bytes-like entries; nothing was appended"
        )
    count = len(entries)
    if count > FRAME_ENTRIES_MAX:
        raise BatchTooLarge(f"{count} entries in one append call; the most is {FRAME_ENTRIES_MAX}; nothing was appended")
    try:
        return _pack(entries, count, settings)  # type: ignore[arg-type]  # checked by joining them
    except (TypeError, _LengthsDisagree):
        plain = [entry_bytes(entry, index) for index, entry in enumerate(entries)]
        return _pack(plain, count, settings)


class _LengthsDisagree(Exception):
    """``len`` of an entry is not its number of bytes, as with a memoryview of wider items."""


def _pack(entries: Sequence[bytes], count: int, settings: WriterSettings) -> Body:
    lengths = list(map(len, entries))
    size = sum(lengths)
    if size > settings.max_entry_bytes and max(lengths) > settings.max_entry_bytes:
        raise _too_large(max(lengths), settings)
    if size > settings.max_append_bytes:
        raise BatchTooLarge(
            f"{size} bytes in one append call; the most is {settings.max_append_bytes} (max_append_bytes); "
            "nothing was appended"
        )
    pieces = [struct.pack(f"<{count}I", *lengths)] if count > 1 else []
    if size <= _JOIN_BYTES:
        pieces.append(b"".join(entries))
    else:
        per_piece = max(1, _JOIN_BYTES * count // size)
        pieces += [b"".join(entries[start : start + per_piece]) for start in range(0, count, per_piece)]
    length = sum(map(len, pieces))
    if length != size + (ENTRY_LENGTH_BYTES * count if count > 1 else 0):
        raise _LengthsDisagree
    return Body(count, length, pieces)


def _too_large(size: int, settings: WriterSettings) -> EntryTooLarge:
    return EntryTooLarge(
        f"an entry of {size} bytes; the most is {settings.max_entry_bytes} (max_entry_bytes); nothing was appended"
    )
