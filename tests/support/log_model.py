"""A log as plain lists, and a group's place in it as one class per number: what the engine has to agree with."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise

PENDING, DELIVERED, REJECTED, SKIPPED, EVICTED, CORRUPT, LOST = range(7)
CLASSES = ("pending", "delivered", "rejected", "skipped", "evicted", "corrupt", "lost")
GAPS = frozenset({EVICTED, CORRUPT, LOST})
RANGES_MAX = 64
"""Separate acknowledged ranges that survive the end of a consumer; the others are delivered again."""

_ACKNOWLEDGED = re.compile(rb"\x01+|\x02+")
_GIVE = [bytes([kind, *range(1, 256)]) for kind in range(len(CLASSES))]
_WITHOUT_GAPS = bytes(PENDING if code in GAPS else code for code in range(256))

Fields = tuple[int, int, int, int, int, int, int, tuple[tuple[int, int, int], ...]]


class Place:
    """What became of each number of one shard for one group, as the consumer that holds the shard knows it."""

    def __init__(self, start: int = 0) -> None:
        self.start = self.offset = start
        self.seen = self.handed = start
        self.classes = bytearray()

    def note_gap(self, first: int, end: int, kind: int) -> None:
        """Numbers are gone; the first reason that was met counts; what was handed out may still be acknowledged."""
        low = max(first, self.offset)
        if first > self.offset:
            low = max(low, self.handed)
        if self._give(low, end, kind):
            self.note_seen(end)
        self._fold()

    def note_seen(self, end: int) -> None:
        """Numbers below ``end`` were handed to the application, or are known to be gone."""
        self.seen = max(self.seen, end)
        self.handed = max(self.handed, end)

    def acknowledge(self, first: int, end: int, kind: int) -> None:
        """What was gone before it was handed out is not delivered by a range of numbers around it."""
        self._give(max(first, self.offset), end, kind)
        self._fold()

    def may_acknowledge(self, first: int, end: int) -> bool:
        """Whether all these numbers were delivered to the consumer."""
        return self.start <= first and end <= self.seen

    def reset(self, number: int) -> None:
        """Forwards the rest is skipped; backwards everything starts anew."""
        if number < self.offset:
            self.start = self.offset = self.seen = self.handed = number
            self.classes = bytearray()
            return
        self._give(self.offset, number, SKIPPED)
        self.note_seen(number)
        self._fold()

    def wants(self, numbers: Sequence[int]) -> list[int]:
        """Those of the numbers, in order, that are to be read."""
        known = len(self.classes)
        first = bisect_left(numbers, self.offset)
        return [n for n in numbers[first:] if n >= known or self.classes[n] == PENDING]

    def ranges(self) -> list[tuple[int, int, int]]:
        """What is acknowledged above the offset: first number, end, class."""
        found = _ACKNOWLEDGED.finditer(self.classes, self.offset)
        return [(part.start(), part.end(), self.classes[part.start()]) for part in found]

    def stored(self) -> Place:
        """What the next consumer of the group finds when this one is gone."""
        found = Place(self.start)
        found.offset = found.seen = found.handed = self.offset
        found.classes = self.classes[: self.offset] + self.classes[self.offset :].translate(_WITHOUT_GAPS)
        ranges = self.ranges()
        if len(ranges) > RANGES_MAX:
            del found.classes[ranges[RANGES_MAX][0] :]
        for _, end, _ in ranges[:RANGES_MAX]:
            found.seen = max(found.seen, end)
        return found

    def fields(self) -> Fields:
        """The same in the fields of a group's record."""
        below = [self.classes.count(kind, self.start, self.offset) for kind in (REJECTED, SKIPPED, *sorted(GAPS))]
        ranges = tuple((first, end, 0 if kind == DELIVERED else 1) for first, end, kind in self.ranges())
        return (self.start, self.offset, *below, ranges)  # type: ignore[return-value]  # five counts

    def accounting(self, shard: ShardModel) -> dict[str, int]:
        """How many numbers are in each class; those that nobody can read any more count as gone."""
        place = self.stored()
        end = max(shard.next_number, place.seen)
        for first, stop, kind in shard.gone_before_first(place.offset):
            place._give(first, stop, kind)
        place.classes = place.classes[:end].ljust(end, b"\0")
        found = {name: place.classes.count(kind, place.start, end) for kind, name in enumerate(CLASSES)}
        return {"total": end - place.start, **found}

    def _give(self, first: int, end: int, kind: int) -> bool:
        """Give a class to those numbers of a range that have none. Whether there were any."""
        if first >= end:
            return False
        if len(self.classes) < end:
            self.classes = self.classes.ljust(end, b"\0")
        part = self.classes[first:end]
        self.classes[first:end] = part.translate(_GIVE[kind])
        return PENDING in part

    def _fold(self) -> None:
        """The offset is the lowest number without a class."""
        at = self.classes.find(PENDING, self.offset)
        self.offset = at if at >= 0 else max(self.offset, len(self.classes))


class ShardModel:
    """One shard: its entries in order. What a power cut took has no entry, and a range in ``lost``."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.data: list[bytes] = []
        self.stamps: list[int] = []
        self.next_number = 0
        self.first = 0
        """The oldest number that may still be read: the name of the first segment."""
        self.first_lost_from = 0
        """Numbers from here up to ``first`` were lost before they could be evicted."""
        self.segments: list[int] = []
        self.lost: list[tuple[int, int]] = []
        self.owner: int | None = None
        """The client that has claimed it."""
        self.safe_below = 0
        self.safe: list[tuple[int, int]] = []
        """Numbers that a power cut may not take: all below a number, and ranges above it."""

    def __str__(self) -> str:
        return f"segments {self.segments}, {len(self.numbers[self.held()])} entries, lost {self.lost}"

    def append(self, entries: Sequence[bytes], stamp: int) -> None:
        """Entries that the engine took."""
        self.numbers += range(self.next_number, self.next_number + len(entries))
        self.data += entries
        self.stamps += [stamp] * len(entries)
        self.next_number += len(entries)

    def make_safe(self) -> None:
        """Everything until now was synced."""
        self.safe_below = self.next_number
        self.safe.clear()

    def is_safe(self, number: int) -> bool:
        """Whether a power cut may not take an entry."""
        return number < self.safe_below or any(first <= number < end for first, end in self.safe)

    def held(self, start: int = 0) -> slice:
        """Where in the lists the entries from number ``start`` on are that can be read."""
        return slice(bisect_left(self.numbers, max(self.first, start)), None)

    def entry(self, number: int) -> bytes:
        """The bytes of one entry."""
        return self.data[bisect_left(self.numbers, number)]

    def gone_before_first(self, number: int) -> Iterator[tuple[int, int, int]]:
        """Ranges from ``number`` on that lie before everything held, and what became of them."""
        lost_from = max(number, min(self.first_lost_from, self.first))
        if number < lost_from:
            yield number, lost_from, EVICTED
        if lost_from < self.first:
            yield lost_from, self.first, LOST

    def gaps(self, number: int) -> Iterator[tuple[int, int, int]]:
        """All ranges from ``number`` on that cannot be read, in order, and what became of them."""
        yield from self.gone_before_first(number)
        number = max(number, self.first)
        for first, end in self.lost:
            if end > number:
                yield max(first, number), end, LOST

    def lose(self, found: Sequence[int], next_number: int) -> None:
        """Only these entries came through a power cut, and the next one gets this number."""
        kept = set(found)
        keep = [index for index, number in enumerate(self.numbers) if number < self.first or number in kept]
        self.numbers = [self.numbers[index] for index in keep]
        self.data = [self.data[index] for index in keep]
        self.stamps = [self.stamps[index] for index in keep]
        self.next_number = next_number
        edges = [self.first - 1, *found, next_number]
        self.lost = [(low + 1, high) for low, high in pairwise(edges) if low + 1 < high]
        self.make_safe()
