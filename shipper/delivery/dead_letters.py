"""What a destination refuses for good, kept in the log itself with the reason (docs/dead-letters.md)."""

from __future__ import annotations

import json
import logging
import struct
import threading
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from comet_storage import Client, CometError, EntryTooLarge
from comet_storage.names import shard_stream_name

STREAM: Final = "deadletter:v1"

_MAGIC: Final = b"CDL1"
_HEAD: Final = struct.Struct("<4sI")
_REMEMBERED: Final = 256
"""Records at the end of each shard whose ids are known, so that none is stored again after a crash."""

_PARTS: Final = 4
"""A segment is closed, and old ones go, whenever the stream has grown by this part of its share."""

_logger = logging.getLogger(__name__)


class NotADeadLetterError(ValueError):
    """Bytes that are no record of `deadletter:v1`."""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One refused request.

    Attributes:
        destination: name of the destination that refused it.
        signal: the signal.
        stream: the stream that it was read from.
        shard: the shard.
        first_entry: number of its first entry.
        last_entry: number of its last entry.
        piece: which piece of the entry, if that was sent in pieces; else empty.
        reason: ``rejected`` or ``too large``.
        code: what the destination answered, as `HTTP 400` or `INVALID_ARGUMENT`.
        message: its own words.
        attempts: how often exactly this was sent.
        first_try: when it was first sent, in seconds since 1970.
        last_try: when it was last sent.
        items: spans, log records or data points in it; None if it cannot be read.
        request_id: the id it was sent with.
        fragment: ``1/2`` and ``2/2`` where the request is too large for one record; else empty.
        body: the request, byte for byte.
    """

    destination: str
    signal: str
    stream: str
    shard: int
    first_entry: int
    last_entry: int
    piece: str = ""
    reason: str
    code: str
    message: str
    attempts: int
    first_try: float
    last_try: float
    items: int | None
    request_id: str
    fragment: str = ""
    body: bytes = field(repr=False)


def encode(letter: DeadLetter) -> bytes:
    """Return the record of a dead letter."""
    header = asdict(letter)
    del header["body"]
    text = json.dumps(header, ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode()
    return _HEAD.pack(_MAGIC, len(text)) + text + letter.body


def decode(record: bytes) -> DeadLetter:
    """Return the dead letter of a record. What a later version adds to its header is left out.

    Raises:
        NotADeadLetterError: it is none.
    """
    try:
        magic, length = _HEAD.unpack_from(record)
        if magic != _MAGIC or _HEAD.size + length > len(record):
            raise NotADeadLetterError("this is no record of a dead letter")
        header = json.loads(record[_HEAD.size : _HEAD.size + length])
        known = {name: header[name] for name in DeadLetter.__dataclass_fields__ if name in header}
        return DeadLetter(**known, body=bytes(record[_HEAD.size + length :]))
    except (struct.error, ValueError, TypeError, RecursionError) as error:
        raise NotADeadLetterError(f"this is no record of a dead letter: {error}") from error


class DeadLetters:
    """Stores dead letters within their share of the log. Safe to use from several threads.

    A process that is killed after a letter was stored, and before its entry was marked as rejected, sends that entry
    once more, has it refused once more, and finds the letter here: the ids of the last records are remembered.
    """

    def __init__(self, client: Client, share: int) -> None:
        """Keep at most ``share`` bytes, to the nearest segment."""
        self._client = client
        self._share = share
        self._lock = threading.Lock()
        self._known: set[tuple[str, str]] | None = None
        self._order: deque[tuple[str, str]] = deque()
        self._grown = 0

    def store(self, letter: DeadLetter) -> None:
        """Store one, unless it is there already. When it returns, it survives ``kill -9``.

        Raises:
            CometError: the log could not take it. Nothing was stored.
        """
        key = (letter.destination, letter.request_id)
        with self._lock:
            if key in self._remembered():
                return
            try:
                self._client.lanes(STREAM).append([encode(letter)])
            except EntryTooLarge:
                # The entry itself was as large as the log takes, and there is no room for what is said about it.
                middle = len(letter.body) // 2
                halves = ("1/2", letter.body[:middle]), ("2/2", letter.body[middle:])
                records = [encode(replace(letter, fragment=fragment, body=body)) for fragment, body in halves]
                self._client.lanes(STREAM).append(records)
            self._remember(key)
            self._grown += len(letter.body)
            if self._grown * _PARTS >= self._share:
                self._trim(close=True)

    def _trim(self, *, close: bool) -> None:
        try:
            self._client.shrink_stream(STREAM, self._share - self._share // _PARTS, close=close)
        except CometError as error:
            _logger.warning("%s: cannot be brought within its share now: %s", STREAM, error)
        else:
            self._grown = 0

    def _remember(self, key: tuple[str, str]) -> None:
        if self._known is None:
            return
        self._known.add(key)
        self._order.append(key)
        while len(self._order) > _REMEMBERED * 8:
            self._known.discard(self._order.popleft())

    def _remembered(self) -> set[tuple[str, str]]:
        if self._known is None:
            found: set[tuple[str, str]] = set()
            self._known = found
            for shard in self._client.shards(STREAM):
                name = shard_stream_name("deadletter", "v1", shard)
                newest = self._client.list_recent(name, 1)
                start = newest[0].id.entry_number - _REMEMBERED if newest else 0
                for message in self._client.scan(name, max(0, start)):
                    try:
                        letter = decode(message.data)
                    except NotADeadLetterError:
                        continue
                    self._remember((letter.destination, letter.request_id))
            self._trim(close=False)
        return self._known
