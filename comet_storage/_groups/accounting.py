"""What became of every entry number of a group in one shard, from its record and the ends of the shard."""

from __future__ import annotations

from collections.abc import Sequence

from comet_storage._format.group_record import GroupRecord
from comet_storage._groups.tracker import Tracker
from comet_storage._shard.reader import Gap
from comet_storage.types import Accounting


def shard_accounting(record: GroupRecord, gone: Sequence[Gap], next_number: int) -> Accounting:
    """The classes of P1. What is ``gone`` before the first segment is derived; damage is pending until it is met."""
    following = max(next_number, record.offset, *(end for _, end, _ in record.ranges), 0)
    tracker = Tracker(record)
    delivered, rejected = tracker.acknowledged_above()
    counts = {"evicted": 0, "corrupt": 0, "lost": 0}
    for gap in gone:
        counts[gap.kind] += sum(end - first for first, end in tracker.wanted(gap.first, min(gap.end, following)))
    return Accounting(
        total=following - record.start,
        delivered=record.delivered + delivered,
        rejected=record.rejected + rejected,
        skipped=record.skipped,
        evicted=record.evicted + counts["evicted"],
        corrupt=record.corrupt + counts["corrupt"],
        lost=record.lost + counts["lost"],
        pending=following - record.offset - delivered - rejected - sum(counts.values()),
    )
