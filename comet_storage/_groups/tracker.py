"""What a consumer group has been through in one shard: pure arithmetic on entry numbers."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import cast

from comet_storage._format.group_record import DELIVERED, REJECTED, GroupRecord
from comet_storage._shard.reader import Gap, GapKind


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
        self.seen = max(self.record.offset, *(end for _, end, _ in self.record.ranges), 0)

    def note_seen(self, end: int) -> None:
        """Numbers below ``end`` were handed to the application."""
        self.seen = max(self.seen, end)

    def note_gap(self, gap: Gap) -> bool:
        """A gap was met while reading. Returns whether the offset moved."""
        parts = [
            Gap(first, end, gap.kind)
            for first, end in self.wanted(gap.first, gap.end)
            if not any(known.first <= first and end <= known.end for known in self.gaps)
        ]
        if not parts:
            return False
        self.gaps += parts
        self.gaps.sort()
        self.note_seen(gap.end)
        return self._fold()

    def acknowledge(self, first: int, end: int, kind: int = DELIVERED) -> None:
        """Numbers in ``[first, end)`` are done with; those that are already stay as they are."""
        first = max(first, self.record.offset)
        if first >= end:
            return
        # What was delivered before it was evicted is delivered.
        self.gaps = [
            part
            for gap in self.gaps
            for part in (Gap(gap.first, min(gap.end, first), gap.kind), Gap(max(gap.first, end), gap.end, gap.kind))
            if part.first < part.end
        ]
        ranges = list(self.record.ranges)
        at = max(0, bisect_right(ranges, (first, 1 << 64, 0)) - 1)
        pieces = []
        for known_first, known_end, _ in ranges[at:]:
            if known_first >= end:
                break
            if known_first > first:
                pieces.append((first, min(known_first, end), kind))
            first = max(first, known_end)
        if first < end:
            pieces.append((first, end, kind))
        self.record = replace(self.record, ranges=_merged(sorted(ranges + pieces)))
        self._fold()

    def reset(self, number: int) -> None:
        """Go to ``number``: forwards, what lies between is skipped; backwards, the accounting starts again there."""
        if number < self.record.offset:
            self.record = GroupRecord(start=number, offset=number, generation=self.record.generation)
            self.gaps.clear()
            self.seen = number
            return
        self._fold(up_to=number)
        self.note_seen(number)

    def acknowledged_above(self) -> tuple[int, int]:
        """Delivered and rejected numbers above the offset."""
        delivered = sum(end - first for first, end, kind in self.record.ranges if kind == DELIVERED)
        return delivered, sum(end - first for first, end, kind in self.record.ranges if kind == REJECTED)

    def wanted(self, first: int, end: int) -> list[tuple[int, int]]:
        """The parts of ``[first, end)`` that are not yet acknowledged."""
        first = max(first, self.record.offset)
        parts = []
        for known_first, known_end, _ in self.record.ranges:
            if known_first >= end:
                break
            if known_first > first:
                parts.append((first, known_first))
            first = max(first, known_end)
        if first < end:
            parts.append((first, end))
        return parts

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
        self.gaps = [
            Gap(first, end, cast("GapKind", kind)) for first, end, kind in rest if kind not in {"", "rejected"}
        ]
        self.record = replace(record, offset=offset, ranges=ranges, **counts)
        return moved


def _merged(ranges: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Join neighbours of the same class."""
    merged: list[tuple[int, int, int]] = []
    for first, end, kind in ranges:
        if merged and merged[-1][1] == first and merged[-1][2] == kind:
            merged[-1] = (merged[-1][0], end, kind)
        else:
            merged.append((first, end, kind))
    return tuple(merged)
