"""Entries of one append call as the body of a frame."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from comet_storage._format.checksum import crc32_keeping_gil
from comet_storage._format.frame import CODEC_SHIFT, CODEC_ZSTD
from comet_storage._format.limits import ENTRY_LENGTH_BYTES, FRAME_CONTENT_BYTES_MAX, FRAME_ENTRIES_MAX
from comet_storage._segment.active import MAPPED_FRAME_BYTES, LargeBody
from comet_storage._shard.context import WriterSettings
from comet_storage.config import ENTRY_BYTES_MAX
from comet_storage.errors import BatchTooLarge, EntryTooLarge, InvalidEntryError

_JOIN_BYTES = 256 * 1024
"""``bytes.join`` of more than 1 MiB releases the GIL, and getting it back can take milliseconds."""

if ENTRY_BYTES_MAX + ENTRY_LENGTH_BYTES * FRAME_ENTRIES_MAX > FRAME_CONTENT_BYTES_MAX:
    raise RuntimeError("the settings allow frames that readers refuse")


def body_checksum(body: bytes | LargeBody, salt: int) -> int:
    """CRC-32 of a body, started from the segment's salt, without ever releasing the GIL."""
    if isinstance(body, bytes):
        return crc32_keeping_gil(body, salt)
    value = salt
    for piece in body.pieces:
        value = crc32_keeping_gil(piece, value)
    return value


def entry_bytes(entry: object, index: int = 0) -> bytes:
    """The bytes of one bytes-like entry.

    Raises:
        InvalidEntryError: it is not bytes-like.
    """
    if type(entry) is bytes:
        return entry
    return _view(entry, index).tobytes()


def _view(entry: object, index: int) -> memoryview:
    try:
        return memoryview(entry)  # type: ignore[arg-type]  # any object with the buffer protocol
    except (TypeError, ValueError, BufferError):
        raise InvalidEntryError(
            f"entry {index} is {type(entry).__name__}, not bytes-like; nothing was appended"
        ) from None


def check_batch(entries: object) -> None:
    """Refuse what is no sequence of entries: one entry without brackets, an iterator, a set.

    Raises:
        InvalidEntryError: it is none.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, (str, bytes, bytearray, memoryview)):
        raise InvalidEntryError(
            f"entries is one {type(entries).__name__}; pass a list of bytes-like entries; nothing was appended"
        )


def pack_batch(entries: Sequence[object], settings: WriterSettings) -> tuple[bytes | LargeBody, int, int]:
    """Body of a frame with these entries, its length, and count and codec as the header has them.

    Compresses where the settings say so: outside of all locks, because it takes longer than everything else.

    Raises:
        InvalidEntryError: an entry is not bytes-like, or the whole is one bytes object or text.
        EntryTooLarge: an entry is over ``max_entry_bytes``.
        BatchTooLarge: the whole is over ``max_append_bytes`` or has too many entries.
    """
    if type(entries) is not list and type(entries) is not tuple:
        check_batch(entries)
    try:
        body = _pack(entries, settings)  # type: ignore[arg-type]  # checked by joining them
    except (EntryTooLarge, BatchTooLarge):
        # Before the copies below are made of what may be too large for the memory as well.
        for index, entry in enumerate(entries):
            _view(entry, index).release()
        raise
    except (TypeError, ValueError, BufferError, _LengthsDisagreeError):
        plain = [entry_bytes(entry, index) for index, entry in enumerate(entries)]
        body = _pack(plain, settings)
    return _encoded(body, len(entries), settings)


def _encoded(body: bytes | LargeBody, count: int, settings: WriterSettings) -> tuple[bytes | LargeBody, int, int]:
    length = len(body) if isinstance(body, bytes) else body.length
    compression = settings.compression
    if compression.min_size is None or length < compression.min_size:
        return body, length, count
    smaller = compression.compress([body] if isinstance(body, bytes) else body.pieces, length, count)
    if smaller is None:
        return body, length, count
    length = sum(map(len, smaller))
    body = b"".join(smaller) if length <= MAPPED_FRAME_BYTES else LargeBody(length, smaller)
    return body, length, count | CODEC_ZSTD << CODEC_SHIFT


class _LengthsDisagreeError(Exception):
    """``len`` of an entry is not its number of bytes, as with a memoryview of wider items."""


def _pack(entries: Sequence[bytes], settings: WriterSettings) -> bytes | LargeBody:
    lengths = list(map(len, entries))
    size = sum(lengths)
    count = len(lengths)
    total = size + (ENTRY_LENGTH_BYTES * count if count > 1 else 0)
    if total > MAPPED_FRAME_BYTES or settings.max_entry_bytes < MAPPED_FRAME_BYTES:
        _check_size(lengths, size, settings)
    prefix = struct.pack(f"<{count}I", *lengths) if count > 1 else b""
    if total <= MAPPED_FRAME_BYTES:
        body = b"".join((prefix, *entries))
        if len(body) != total:
            raise _LengthsDisagreeError
        return body
    per_piece = max(1, _JOIN_BYTES * count // max(size, 1))
    pieces = [b"".join(entries[start : start + per_piece]) for start in range(0, count, per_piece)]
    if sum(map(len, pieces)) != size:
        raise _LengthsDisagreeError
    return LargeBody(total, [prefix, *pieces])


def _check_size(lengths: list[int], size: int, settings: WriterSettings) -> None:
    count, largest = len(lengths), max(lengths)
    if count > FRAME_ENTRIES_MAX:
        raise BatchTooLarge(
            f"{count} entries in one append call; the most is {FRAME_ENTRIES_MAX}; nothing was appended"
        )
    if largest > settings.max_entry_bytes:
        raise EntryTooLarge(
            f"an entry of {largest} bytes; the most is {settings.max_entry_bytes} (max_entry_bytes); "
            "nothing was appended"
        )
    if size > settings.max_append_bytes:
        raise BatchTooLarge(
            f"{size} bytes in one append call; the most is {settings.max_append_bytes} (max_append_bytes); "
            "nothing was appended"
        )
