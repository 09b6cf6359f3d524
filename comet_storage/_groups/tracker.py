"""What a consumer group has been through in one shard: pure arithmetic on entry numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

from comet_storage._format.group_record import DELIVERED, REJECTED, GroupRecord
from comet_storage._shard.reader import Gap, GapKind


class TrackerState(NamedTuple):
    """What a tracker knew at some time."""

    record: GroupRecord
    gaps: list[Gap]
    seen: int
    handed: int


@dataclass
class Tracker:
    """The record of a group in one shard, and the gaps that were met above its offset.

    Invariant: ``ranges`` and ``gaps`` are sorted, do not overlap, and start above ``record.offset``; a range or gap
    that reaches the offset is folded into it at once, so every number below the offset has its class.
    """

    record: GroupRecord
    gaps: list[Gap] = field(default_factory=list)
    seen: int = 0
    """Numbers below were delivered to this consumer or are known to be gone; only they can be acknowledged."""

    def __post_init__(self) -> None:
        self._handed = self.record.offset
        self.seen = max(self.record.offset, *(end for _, end, _ in self.record.ranges), 0)

    def state(self) -> TrackerState:
        """All that changes, to go back to."""
        return TrackerState(self.record, list(self.gaps), self.seen, self._handed)

    def restore(self, state: TrackerState) -> None:
        """Be as before."""
        self.record, self.gaps, self.seen, self._handed = state

    def note_seen(self, end: int) -> None:
        """Numbers below ``end`` were handed to the application, or are in a gap."""
        self.seen = max(self.seen, end)
        self._handed = max(self._handed, end)

    def note_gap(self, gap: Gap) -> bool:
        """A gap was met while reading. Returns whether the offset moved.

        What was handed out before it was gone may still be acknowledged, until the offset gets there.
        """
        known_from = gap.first if gap.first <= self.record.offset else max(gap.first, self._handed)
        done = self._done_with(self.record.ranges)
        parts = [Gap(first, end, gap.kind) for first, end in _parts(max(known_from, self.record.offset), gap.end, done)]
        if not parts:
            return False
        self.gaps += parts
        self.gaps.sort()
        self.note_seen(gap.end)
        return self._fold()

    def acknowledge(self, first: int, end: int, kind: int = DELIVERED) -> None:
        """Numbers in ``[first, end)`` are done with; those that are already, or were never there, stay as they are."""
        first = max(first, self.record.offset)
        if first >= end:
            return
        if first == self.record.offset and kind == DELIVERED and not self.record.ranges and not self.gaps:
            self.record = replace(self.record, offset=end)
            return
        ranges = list(self.record.ranges)
        # Also in the middle of an acknowledged range, nobody got what was not there.
        done = self._done_with(ranges[max(0, bisect_right(ranges, (first, 1 << 64, 0)) - 1) :])
        pieces = [(low, high, kind) for low, high in _parts(first, end, done)]
        self.record = replace(self.record, ranges=_merged(sorted(ranges + pieces)))
        self._fold()

    def reset(self, number: int) -> None:
        """Go to ``number``: forwards, what lies between is skipped; backwards, the accounting starts again there."""
        if number < self.record.offset:
            self.record = GroupRecord(start=number, offset=number, generation=self.record.generation)
            self.gaps.clear()
            self.seen = self._handed = number
            return
        self._fold(up_to=number)
        self.note_seen(number)

    def acknowledged_above(self) -> tuple[int, int]:
        """Delivered and rejected numbers above the offset."""
        delivered = sum(end - first for first, end, kind in self.record.ranges if kind == DELIVERED)
        return delivered, sum(end - first for first, end, kind in self.record.ranges if kind == REJECTED)

    def wanted(self, first: int, end: int) -> list[tuple[int, int]]:
        """The parts of ``[first, end)`` that are not yet acknowledged."""
        return _parts(max(first, self.record.offset), end, self.record.ranges)

    def _done_with(self, ranges: Sequence[tuple[int, int, int]]) -> Sequence[tuple[int, int, int]]:
        """Acknowledged ranges and the gaps between them, in order."""
        return sorted([*ranges, *((gap.first, gap.end, 0) for gap in self.gaps)]) if self.gaps else ranges

    def _fold(self, up_to: int | None = None) -> bool:
        """Move the offset over everything that is done with; with ``up_to`` also over what is not, as skipped."""
        record = self.record
        offset = record.offset
        counts = {name: getattr(record, name) for name in ("rejected", "skipped", "evicted", "corrupt", "lost")}
        steps = sorted(
            [(first, end, "rejected" if kind == REJECTED else "") for first, end, kind in record.ranges]
            + [(gap.first, gap.end, gap.kind) for gap in self.gaps]
        )
        rest = []
        for first, end, kind in steps:
            if first > offset and up_to is not None and offset < up_to:
                counts["skipped"] += min(first, up_to) - offset
                offset = min(first, up_to)
            if first > offset:
                rest.append((first, end, kind))
            elif end > offset:
                if kind:
                    counts[kind] += end - offset
                offset = end
        if up_to is not None and offset < up_to:
            counts["skipped"] += up_to - offset
            offset = up_to
        moved = offset != record.offset
        ranges = tuple(
            (first, end, REJECTED if kind else DELIVERED) for first, end, kind in rest if kind in {"", "rejected"}
        )
        gaps = [Gap(first, end, cast("GapKind", kind)) for first, end, kind in rest if kind not in {"", "rejected"}]
        record = replace(record, offset=offset, ranges=ranges, **counts)
        # Nothing is called in between, so a signal handler that raises leaves both or none.
        self.record, self.gaps = record, gaps
        return moved


def _parts(first: int, end: int, done: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """The parts of ``[first, end)`` that are in none of the sorted ranges ``done``."""
    parts = []
    for known_first, known_end, _ in done:
        if known_first >= end:
            break
        if known_first > first:
            parts.append((first, known_first))
        first = max(first, known_end)
    if first < end:
        parts.append((first, end))
    return parts


def _merged(ranges: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Join neighbours of the same class."""
    merged: list[tuple[int, int, int]] = []
    for first, end, kind in ranges:
        if merged and merged[-1][1] == first and merged[-1][2] == kind:
            merged[-1] = (merged[-1][0], end, kind)
        else:
            merged.append((first, end, kind))
    return tuple(merged)
