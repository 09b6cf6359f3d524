"""Requests: which entries are in them, their bytes, their ids, and how they are divided when they were refused."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from comet_otel import wire
from comet_otel.streams import Signal
from comet_storage import StreamMessage

COALESCED_BYTES_MAX: Final = 4 * 1024
"""Entries up to this mean size are looked into, to send what they have in common once. Larger ones are only joined."""


@dataclass(eq=False)
class Pieces:
    """What becomes of the pieces of an entry that was too large for one request.

    Attributes:
        left: pieces that have still to be delivered or given up.
        refused: whether any was given up.
        begun: whether any was taken, so that it would be sent twice if the others were not sent by this process.
    """

    left: int
    refused: bool = False
    begun: bool = False


@dataclass(eq=False)
class Request:
    """One request to a destination: some entries of one shard in order, or a piece of one.

    Attributes:
        messages: the entries.
        payload: the bytes of a piece; None if the entries go as they are.
        piece: the number of the piece, with a dot for each further division.
        pieces: the fate of its siblings.
        attempts: how often it was sent.
        first_try: when it was first sent, in seconds since 1970.
        last_try: when it was last sent, by the monotonic clock.
        not_before: when it may go, by the monotonic clock; None as long as that is not decided.
        items: spans, log records or data points in it; None before it was first sent.
    """

    messages: Sequence[StreamMessage]
    payload: bytes | None = field(default=None, repr=False)
    piece: str = ""
    pieces: Pieces | None = None
    attempts: int = 0
    first_try: float = 0.0
    last_try: float = float("-inf")
    not_before: float | None = None
    items: int | None = None
    _joined: bytes | None = field(default=None, init=False, repr=False)

    @property
    def shard(self) -> int:
        """The shard that its entries are of."""
        return self.messages[0].id.shard_id

    @property
    def first(self) -> int:
        """Number of its first entry."""
        return self.messages[0].id.entry_number

    @property
    def last(self) -> int:
        """Number of its last entry."""
        return self.messages[-1].id.entry_number

    @property
    def place(self) -> tuple[int, ...]:
        """What puts the requests of a shard in the order in which they are to arrive."""
        return self.first, *(int(number) for number in self.piece.split(".") if number)

    @functools.cached_property
    def size(self) -> int:
        """Bytes of it, before what its entries have in common is left out."""
        return len(self.payload) if self.payload is not None else sum(len(message.data) for message in self.messages)

    @property
    def begun(self) -> bool:
        """Whether it is a piece of an entry of which another piece was taken."""
        return self.pieces is not None and self.pieces.begun

    def id(self, log_id: str, stream: str) -> str:
        """Return what names exactly these bytes, in this process and any later one."""
        name = f"{log_id}/{stream}/{self.shard}/{self.first}-{self.last}"
        # Which piece has which number depends on the limit that was known when the entry was divided.
        return f"{name}/{self.piece}-{zlib.crc32(self.body()):08x}" if self.piece else name

    def body(self) -> bytes:
        """Return the bytes to send."""
        if self.payload is not None:
            return self.payload
        if self._joined is None:
            entries = [message.data for message in self.messages]
            if len(entries) > 1 and self.size <= COALESCED_BYTES_MAX * len(entries):
                return wire.coalesce(map(bytes, entries))
            self._joined = b"".join(entries)
            # What they were read to is let go of: from here on there is one copy of these bytes.
            view, ends = memoryview(self._joined), list(accumulate(map(len, entries)))
            starts = [0, *ends]
            self.messages = [
                message._replace(data=view[start:end])  # type: ignore[arg-type]  # as StreamMessage has it
                for message, start, end in zip(self.messages, starts, ends, strict=False)
            ]
        return self._joined

    def count_items(self, signal: Signal, body: bytes) -> int:
        """Return how many spans, log records or data points its bytes hold; an entry that is no request counts none."""
        try:
            return wire.count_items(body, signal)
        except wire.MalformedError:
            if self.payload is not None or len(self.messages) == 1:
                return 0
        return sum(Request([message]).count_items(signal, bytes(message.data)) for message in self.messages)

    def halves(self) -> list[Request]:
        """Return two requests with half of the entries each; none if it is down to one."""
        if len(self.messages) < 2:  # noqa: PLR2004 - what has two halves
            return []
        middle = len(self.messages) // 2
        return [Request(self.messages[:middle]), Request(self.messages[middle:])]

    def divided(self, signal: Signal, limit: int) -> list[Request]:
        """Return smaller requests with the same items, of at most ``limit`` bytes as far as that is possible.

        None if it holds a single item, or cannot be read.
        """
        if len(self.messages) > 1:
            groups = list(grouped(self.messages, limit))
            return groups if len(groups) > 1 else self.halves()
        try:
            parts = wire.split_request(self.body(), signal, limit)
        except wire.MalformedError:
            return []
        if len(parts) < 2:  # noqa: PLR2004 - what was divided
            return []
        if self.pieces is not None:
            self.pieces.left += len(parts) - 1
        pieces = self.pieces or Pieces(len(parts))
        prefix = f"{self.piece}." if self.piece else ""
        return [
            Request(self.messages, part.payload, f"{prefix}{number}", pieces) for number, part in enumerate(parts, 1)
        ]


def grouped(messages: Iterable[StreamMessage], limit: int) -> Iterator[Request]:
    """Join entries, in order, into requests of at most ``limit`` bytes.

    An entry that is larger by itself is a request of its own, and so is one that is no request at all: joined to others
    it could take their bytes for its own.
    """
    group: list[StreamMessage] = []
    size = 0
    for message in messages:
        whole = wire.is_framed(message.data)
        if group and (size + len(message.data) > limit or not whole):
            yield Request(group)
            group, size = [], 0
        if not whole:
            yield Request([message])
            continue
        group.append(message)
        size += len(message.data)
    if group:
        yield Request(group)


def ready_to_send(messages: Sequence[StreamMessage], signal: Signal, limit: int) -> Iterator[Request]:
    """Make requests of at most ``limit`` bytes of entries, and take apart those entries that are larger alone."""
    for request in grouped(messages, limit):
        if len(request.messages) == 1 and request.size > limit:
            yield from request.divided(signal, limit) or [request]
        else:
            yield request
