"""What a log's users were promised by any moment of a trace, and what they had asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.support.crash_states.disk import Disk
from tests.support.crash_states.trace import WORD_BYTES, Mark, Write

_SEGMENT = re.compile(r"/([0-9]{20})\.segment$")


@dataclass
class Knowledge:
    """What is known when everything stops.

    Marks: ``append`` and ``appended``, ``acknowledge`` and ``acknowledged``, ``register`` and ``registered`` stand
    around a call; ``sync`` and ``sync done`` around one that makes durable what was appended before it, and the
    acknowledgements that it names; ``sync offsets`` and ``sync offsets done`` around one that does so for these alone.

    Args:
        durable_at_once: ``durability="always"``.
    """

    durable_at_once: bool = False
    begun: dict[int, bytes] = field(default_factory=dict)
    """Entries that may be there."""
    appends: list[range] = field(default_factory=list)
    """Their numbers, by call: all of one or none."""
    appended: set[int] = field(default_factory=set)
    """Numbers that a process crash may not take."""
    durable: set[int] = field(default_factory=set)
    """Numbers that a power cut may not take."""
    given: int = 0
    """No number below may be given out again."""
    evicted_below: int = 0
    """Numbers that may be gone by now."""
    acknowledge_begun: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    acknowledged_durable: set[int] = field(default_factory=set)
    register_begun: bool = False
    registered: bool = False
    _in_flight: Mark | None = None
    _before_sync: tuple[set[int], frozenset[int]] = (set(), frozenset())

    def mark(self, mark: Mark) -> None:
        """Take note of a mark."""
        if mark.kind == "append":
            self._in_flight = mark
            numbers = range(mark.first, mark.first + len(mark.entries))
            self._forget_unfinished(numbers.start)
            self.begun.update(zip(numbers, mark.entries, strict=True))
            self.appends.append(numbers)
        elif mark.kind == "appended" and self._in_flight is not None:
            numbers = range(self._in_flight.first, self._in_flight.first + len(self._in_flight.entries))
            self.appended |= set(numbers)
            self.given = max(self.given, numbers.stop)
            if self.durable_at_once:
                self.durable |= set(numbers)
            self._in_flight = None
        elif mark.kind == "acknowledge":
            self.acknowledge_begun |= mark.numbers
        elif mark.kind == "acknowledged":
            self.acknowledged |= mark.numbers
        elif mark.kind in {"sync", "sync offsets"}:
            self._before_sync = (set(self.appended), mark.numbers)
        elif mark.kind in {"sync done", "sync offsets done"}:
            self.acknowledged_durable |= self._before_sync[1]
            if mark.kind == "sync done":
                self.durable |= self._before_sync[0]
        elif mark.kind == "recovered":
            # What a power cut has left is on the disk.
            self.appended, self.durable = set(mark.numbers), set(mark.numbers)
        elif mark.kind == "register":
            self.register_begun = True
        elif mark.kind == "registered":
            self.registered = True

    def cut_power(self) -> None:
        """Only what was durable is certain until a mark says what is there; nothing is in flight any more."""
        self.appended = set(self.durable)
        self.acknowledged = set(self.acknowledged_durable)
        self._in_flight = None

    def _forget_unfinished(self, first: int) -> None:
        """An append that a crash interrupted did not happen where its numbers are given out again."""
        for numbers in [numbers for numbers in self.appends if numbers.stop > first]:
            self.appends.remove(numbers)
            for number in numbers:
                del self.begun[number]

    def change(self, change: object, disk: Disk) -> None:
        """Take note of a change: what is published is given out, and what has lost its segment may be gone."""
        if isinstance(change, Write) and self._in_flight is not None:
            mark = self._in_flight
            published = change.offset == 0 and len(change.data) == WORD_BYTES
            if published and int.from_bytes(change.data, "little") == mark.position:
                self.given = max(self.given, mark.first + len(mark.entries))
        if not isinstance(change, Write):
            segments = [int(found[1]) for found in map(_SEGMENT.search, disk.names) if found]
            self.evicted_below = max(self.evicted_below, min(segments, default=0))
