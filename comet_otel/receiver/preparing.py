"""What becomes of a request's body before it is stored: decompressed, transcoded, checked, and split if need be."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from comet_otel.receiver.decompression import decompress
from comet_otel.receiver.duplicates import Duplicates
from comet_otel.receiver.errors import TooLargeError, UndecodableError
from comet_otel.receiver.json_transcoder import memory_needed, transcode
from comet_otel.receiver.memory import give_memory_back
from comet_otel.receiver.wellformed import check
from comet_otel.streams import Signal
from comet_otel.wire import MalformedError, split_request, walk
from comet_otel.wire.fields import LENGTH_DELIMITED
from comet_otel.wire.levels import LEVELS

__all__ = ["LARGE_BYTES", "LARGE_COPIES", "Entries", "LargeError", "LargeWork", "Preparer", "Request"]

FIELDS_MAX: Final = 500_000
"""Resources, scopes and items that a request may have which has to be split; each becomes an object on the way."""

LARGE_BYTES: Final = 8 * 1024 * 1024
"""Bodies over this size are worked on one at a time."""

JSON_BYTES_MIN: Final = 32 * 1024 * 1024
"""A JSON body may always take so much memory, also where the bytes in flight are fewer."""

LARGE_COPIES: Final = 3
"""Times its own size that a large body takes in memory, while it is received, cut and stored."""

_CONTINUES: Final = 0x80
_WIRE_TYPE_MASK: Final = 7


@dataclass(slots=True)
class Request:
    """A request as it came.

    Attributes:
        signal: of its method or path.
        body: the bytes.
        encoding: the content encoding of the body, one of `decompression.ACCEPTED_ENCODINGS`.
        is_json: whether the body is JSON and not protobuf.
        request_id: what the shipper calls it; empty for others.
        charged: bytes in flight that are counted for it, and given back when it is answered.
        is_large: whether it is work for those threads that do nothing else.
    """

    signal: Signal
    body: bytes
    encoding: str = "identity"
    is_json: bool = False
    request_id: str = ""
    charged: int = 0
    is_large: bool = False


@dataclass(slots=True)
class Entries:
    """What is to be stored of a request.

    Attributes:
        payloads: the entries; none for an empty request and for a duplicate.
        rejected_items: spans, log records or data points that cannot be stored.
        message: why.
        key: what to remember the request by once it is stored.
        duplicate: whether it is stored already.
    """

    payloads: list[bytes] = field(default_factory=list)
    rejected_items: int = 0
    message: str = ""
    key: tuple[Signal, str, bytes] | None = None
    duplicate: bool = False


class LargeError(Exception):
    """What a request turns out to be, or to take, is more than may be worked on here."""


class LargeWork:
    """The right to work on something large, which one thread has at a time, and some never.

    A body takes several times its size in memory while it is worked on. For small ones that is little, and of the large
    ones there is one at a time: so it is bounded, and no request has to wait for memory while it keeps some.
    """

    def __init__(self, turn: threading.Lock | None) -> None:
        self._turn = turn
        self._has_it = False

    def needs(self, size: int) -> None:
        """Wait for the right, if such a size needs it, unless this thread has it already.

        Raises:
            LargeError: it is not to be had.
        """
        if size > LARGE_BYTES and not self._has_it:
            if self._turn is None:
                raise LargeError
            self._turn.acquire()
            self._has_it = True

    def __enter__(self) -> LargeWork:
        return self

    def __exit__(self, *_: object) -> None:
        if self._turn is not None and self._has_it:
            self._turn.release()
            give_memory_back()


class Preparer:
    """Turns requests into entries. Used by several threads at once.

    Args:
        max_body_bytes: most that a body may have without its encoding.
        json_bytes_max: most memory that it may take to read one JSON body; never less than `JSON_BYTES_MIN`.
        entry_bytes_max: size from which on a request is split, so that the shipper can send what is stored.
        item_bytes_max: size of an entry that the log refuses.
        duplicates: what was stored before.
    """

    def __init__(
        self,
        *,
        max_body_bytes: int,
        json_bytes_max: int,
        entry_bytes_max: int,
        item_bytes_max: int,
        duplicates: Duplicates,
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._json_bytes_max = max(json_bytes_max, JSON_BYTES_MIN)
        self._entry_bytes_max = entry_bytes_max
        self._item_bytes_max = item_bytes_max
        self._duplicates = duplicates

    def prepare(self, request: Request, work: LargeWork) -> Entries:
        """Return the entries of a request.

        Raises:
            ReceiverError: it is none, or too large.
            LargeError: it is large, and this is not the place for it.
        """
        key = self._duplicates.key(request.signal, request.request_id, request.body)
        if key is not None and self._duplicates.is_known(key):
            return Entries(duplicate=True)
        work.needs(len(request.body))
        payload = decompress(request.body, request.encoding, self._max_body_bytes, work.needs)
        if request.is_json:
            needed = memory_needed(payload)
            if needed > self._json_bytes_max:
                raise TooLargeError(
                    f"to read this JSON takes about {needed} bytes of memory, of which there are "
                    f"{self._json_bytes_max}: send less at once"
                )
            work.needs(needed)
            payload = transcode(request.signal, payload)
        if not payload:
            return Entries(key=key)
        if len(payload) > self._entry_bytes_max:
            return self._split(request, payload, key)
        if not request.is_json:
            check(request.signal, payload)
        return Entries([payload], key=key)

    def _split(self, request: Request, payload: bytes, key: tuple[Signal, str, bytes] | None) -> Entries:
        try:
            _count_fields(payload, 0, len(payload), LEVELS[request.signal], FIELDS_MAX)
            parts = split_request(payload, request.signal, self._entry_bytes_max)
        except MalformedError as error:
            raise UndecodableError(f"the body is no request: {error}") from None
        found = Entries(key=key)
        for part in parts:
            # One after the other, since checking takes as much memory again as what is checked.
            if not request.is_json:
                check(request.signal, part.payload)
            # What cannot be cut is stored all the same, where the log takes it: some receivers take it too.
            if len(part.payload) <= self._item_bytes_max:
                found.payloads.append(part.payload)
            else:
                found.rejected_items += part.items
                found.message = f"an item has {len(part.payload)} bytes; the log takes {self._item_bytes_max} at most"
        if not found.payloads:
            raise TooLargeError(found.message)
        return found


def _count_fields(data: bytes, start: int, end: int, levels: tuple[frozenset[int], ...], left: int) -> int:
    """Count down from ``left`` for each resource, scope and item of a request, and for the fields beside them.

    As `walk`, without making an object of each field: there may be millions.

    Raises:
        TooLargeError: there are more.
        MalformedError: it is no message.
    """
    position = start
    while position < end:
        left -= 1
        if left < 0:
            raise TooLargeError(f"a request of this size may have at most {FIELDS_MAX} resources, scopes and items")
        tag = data[position]
        size = data[position + 1] if position + 1 < end else _CONTINUES
        if tag & _WIRE_TYPE_MASK == LENGTH_DELIMITED and tag < _CONTINUES and size < _CONTINUES:
            value, position = position + 2, position + 2 + size
            number = tag >> 3
        else:
            field_ = next(walk(data, position, end))
            value, position, number = field_.value_start, field_.end, field_.number
            if field_.wire_type != LENGTH_DELIMITED:
                continue
        if number in levels[0] and len(levels) > 1 and position <= end:
            left = _count_fields(data, value, position, levels[1:], left)
    return left
