"""What waits for its turn: one line of requests per shard, two where new entries go before old ones.

With ``fresh-first``, a shard's fresh line begins at the end of the shard and goes along with it, and its backlog line
works up from the group's offset to where the fresh line began. What the fresh line acknowledged is one range above the
offset, which the offset swallows when the backlog gets there. A fresh line that has fallen behind jumps to the end
again, and leaves one more stretch to the backlog.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from comet_otel.streams import Signal
from comet_storage import Consumer, ShardPosition
from shipper.delivery.budget import Share
from shipper.delivery.clock import Clock
from shipper.delivery.requests import Request, ready_to_send

READ_ENTRIES_MAX: Final = 20_000
"""Entries read at once; what is read is also limited to the bytes of one request."""

NEARLY_FULL: Final = 0.5
"""A request that is filled up to this part does not wait for more."""

FRESH_SECONDS: Final = 2.0
"""Entries that are older are not fresh any more."""

RECENT_SECONDS: Final = 30.0
"""What came so long before the shipper looked at a shard for the first time is fresh as well."""

RANGES_MAX: Final = 32
"""Stretches that may be acknowledged above the offset before the fresh line stops jumping. The log keeps 64."""

_NANOSECONDS: Final = 1e9


class Line:
    """Requests of one shard, in the order in which they are to be sent.

    Attributes:
        shard: the shard.
        fresh: whether it is the line of what is new.
        queue: requests that wait to be sent, again or for the first time.
        under_way: requests that are being sent.
        suspects: requests of one entry that were rejected; whether they or the destination is to blame will be seen.
        position: the entry number to read next, where it is not the group's offset.
        not_before: when the line may go on after its own trouble, by the monotonic clock.
        failures: outages in a row in which it failed, while others ended them.
        failed_in: the last of them.
        last_try: when it was last tried.
    """

    def __init__(self, shard: int, *, fresh: bool = False, position: int = 0) -> None:
        """Begin empty."""
        self.shard = shard
        self.fresh = fresh
        self.queue: deque[Request] = deque()
        self.under_way: list[Request] = []
        self.suspects: list[Request] = []
        self.position = position
        self.not_before = float("-inf")
        self.failures = 0
        self.failed_in = 0
        self.last_try = float("-inf")
        self.noticed: float | None = None

    @property
    def busy(self) -> bool:
        """Whether it holds requests that are not done with."""
        return bool(self.queue or self.under_way or self.suspects)

    def held(self) -> Iterator[Request]:
        """Yield the requests that are not done with."""
        return chain(self.queue, self.under_way, self.suspects)

    def lowest(self) -> int:
        """Return the lowest number that it has still to do with."""
        return min((request.first for request in self.held()), default=self.position)

    def put_back(self, requests: list[Request]) -> None:
        """Have requests sent again, each in its place among those that wait; their time is booked anew."""
        for request in requests:
            request.not_before = None
        self.queue.extendleft(reversed(requests))
        if len(self.queue) > len(requests):  # one that was tried out of its turn, or came back after later ones
            self.queue = deque(sorted(self.queue, key=lambda request: request.place))


class ShardLines:
    """The line, or the two lines, of one shard, and the reading that fills them."""

    def __init__(
        self, consumer: Consumer, shard: int, position: ShardPosition, clock: Clock, *, fresh_first: bool
    ) -> None:
        """Begin where the group is."""
        self._consumer = consumer
        self._shard = shard
        self.backlog = Line(shard)
        self.fresh = None
        if fresh_first:
            # What was exported while one shipper made room for another must not wait behind the backlog.
            since = clock.wall() - RECENT_SECONDS
            begin = _first_since(consumer, shard, position.offset, position.following, since, clock)
            self.fresh = Line(shard, fresh=True, position=begin)

    def lines(self) -> Iterator[Line]:
        """Yield the lines, the more urgent one first."""
        if self.fresh is not None:
            yield self.fresh
        yield self.backlog

    def fill(self, line: Line, reading: Reading) -> bool:
        """Read more for a line; return whether anything was there, even if it waits for more to come."""
        if not reading.share.take(reading.limit):
            return True
        position = self._consumer.position(self._shard)
        if position is None:
            return False
        start = line.position if line.busy or line.fresh else position.offset
        end = position.following
        if line is self.backlog and self.fresh is not None:
            end = min(end, self.fresh.lowest())
        if start >= end:
            line.noticed = None
            return False
        now = reading.clock.monotonic()
        if line.noticed is not None and now < line.noticed + reading.wait:
            return True
        messages = self._consumer.read_from(self._shard, start, READ_ENTRIES_MAX, max_bytes=reading.limit, bulk=True)
        while messages and messages[-1].id.entry_number >= end:
            messages.pop()
        if not messages:
            return False  # what is there is acknowledged, or gone, which reading has taken note of
        size = sum(len(message.data) for message in messages)
        small = size < NEARLY_FULL * reading.limit and len(messages) < READ_ENTRIES_MAX
        if small and line.noticed is None and reading.wait > 0 and messages[-1].id.entry_number + 1 >= end:
            line.noticed = now
            return True
        line.noticed = None
        since = reading.clock.wall() - FRESH_SECONDS
        stale = messages[0].timestamp / _NANOSECONDS < since
        if line.fresh and not small and stale and position.ranges < RANGES_MAX:
            line.position = _first_since(self._consumer, self._shard, start + 1, end, since, reading.clock)
            return self.fill(line, reading)
        line.position = messages[-1].id.entry_number + 1
        line.queue.extend(ready_to_send(messages, reading.signal, reading.request_limit))
        return True


def _first_since(consumer: Consumer, shard: int, first: int, end: int, since: float, clock: Clock) -> int:
    """The first entry from ``first`` to ``end`` that came after a moment, by bisection; ``end`` where none did.

    One from the future was stored while a clock was wrong, and counts as old.
    """
    latest = clock.wall() + RECENT_SECONDS
    low, high = first, end
    while low < high:
        middle = (low + high) // 2
        found = consumer.read_from(shard, middle, 1, max_bytes=1, bulk=True)
        if not found or since <= found[0].timestamp / _NANOSECONDS <= latest:
            high = middle
        else:
            low = found[0].id.entry_number + 1
    return min(low, end)


class Reading:
    """How lines are filled.

    Attributes:
        clock: where time comes from.
        signal: what the entries hold.
        limit: bytes to read for one request.
        request_limit: bytes that a request may have.
        wait: seconds that a small request waits for more.
        share: says whether there is memory for one more.
    """

    def __init__(self, clock: Clock, signal: Signal, limit: int, request_limit: int, wait: float, share: Share) -> None:
        """Take note of it."""
        self.share = share
        self.clock = clock
        self.signal = signal
        self.limit = limit
        self.request_limit = request_limit
        self.wait = wait


def all_lines(shards: Iterable[ShardLines]) -> Iterator[Line]:
    """Yield the lines of all shards."""
    return (line for shard in shards for line in shard.lines())


def nothing_queued(shards: Iterable[ShardLines]) -> bool:
    """Whether no request waits to be sent."""
    return not any(line.queue for line in all_lines(shards))


def bytes_held(shards: Iterable[ShardLines]) -> int:
    """Return how many bytes the requests have that are not done with."""
    return sum(request.size for line in all_lines(shards) for request in line.held())


def to_try(lines: Iterable[tuple[ShardLines, Line]], reading: Reading, wanted: int) -> Iterator[tuple[Line, Request]]:
    """Yield requests that may be tried next: the first of each line, or, if several are wanted, all that wait in it."""
    for shard, line in lines:
        if len(line.queue) < wanted:
            shard.fill(line, reading)
        for request in list(line.queue) if wanted > 1 else list(line.queue)[:1]:
            yield line, request


def read_ahead(lines: Iterable[tuple[ShardLines, Line]], reading: Reading) -> bool:
    """Read one request behind one that is under way, so that it can go without delay; return whether there was one.

    One at a time: what comes back meanwhile is more urgent.
    """
    return any(line.under_way and not line.queue and shard.fill(line, reading) and line.queue for shard, line in lines)
