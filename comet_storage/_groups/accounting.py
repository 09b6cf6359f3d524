"""What became of every entry number of a group in one shard, from its record and the ends of the shard."""

from __future__ import annotations

from comet_storage._format.group_record import GroupRecord
from comet_storage._groups.tracker import Tracker
from comet_storage.types import Accounting


def shard_accounting(record: GroupRecord, first_held: int | None, next_number: int) -> Accounting:
    """The classes of P1. What was evicted above the offset is derived; damage above it is pending until it is met."""
    following = max(next_number, record.offset, *(end for _, end, _ in record.ranges), 0)
    held = following if first_held is None else min(max(first_held, record.offset), following)
    tracker = Tracker(record)
    delivered, rejected = tracker.acknowledged_above()
    evicted = sum(end - first for first, end in tracker.wanted(record.offset, held))
    return Accounting(
        total=following - record.start,
        delivered=record.delivered + delivered,
        rejected=record.rejected + rejected,
        skipped=record.skipped,
        evicted=record.evicted + evicted,
        corrupt=record.corrupt,
        lost=record.lost,
        pending=following - record.offset - delivered - rejected - evicted,
    )
