"""Does the arithmetic of a group's record agree with a plain set of numbers?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from comet_storage._format.group_record import DELIVERED as STORED_DELIVERED
from comet_storage._format.group_record import REJECTED as STORED_REJECTED
from comet_storage._format.group_record import GroupRecord
from comet_storage._groups.tracker import Tracker
from comet_storage._shard.reader import Gap
from tests.support.log_model import CLASSES, DELIVERED, REJECTED, Place

TOP = 60
spans = st.tuples(st.integers(0, TOP), st.integers(0, TOP)).map(sorted)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("ack"), spans),
        st.tuples(st.just("reject"), spans),
        st.tuples(st.sampled_from(["corrupt", "lost", "evicted"]), spans),
        st.tuples(st.just("reset"), spans),
    ),
    max_size=25,
)


KINDS = {name: kind for kind, name in enumerate(CLASSES)}


@given(st.integers(0, 10), steps)
def test_every_number_has_the_class_that_a_set_gives_it(start, actions) -> None:
    """Offset, counts and what is still wanted, after any sequence of gaps, acknowledgements and resets."""
    tracker, place = Tracker(GroupRecord(start=start, offset=start)), Place(start)
    for name, (first, end) in actions:
        if name == "reset":
            tracker.reset(first)
            place.reset(first)
        elif name in {"ack", "reject"}:
            tracker.acknowledge(first, end, STORED_REJECTED if name == "reject" else STORED_DELIVERED)
            place.acknowledge(first, end, REJECTED if name == "reject" else DELIVERED)
        elif first < end:
            tracker.note_gap(Gap(first, end, name))
            place.note_gap(first, end, KINDS[name])
        record = tracker.record
        assert place.fields() == (
            *(
                record.start,
                record.offset,
                record.rejected,
                record.skipped,
                record.evicted,
                record.corrupt,
                record.lost,
            ),
            record.ranges,
        )
        classes = place.classes.ljust(TOP + 1, b"\0")
        assert record.delivered == classes.count(DELIVERED, place.start, place.offset)
        wanted = {number for low, high in tracker.wanted(0, TOP) for number in range(low, high)}
        assert wanted == {n for n in range(place.offset, TOP) if classes[n] not in {DELIVERED, REJECTED}}
        above = classes[place.offset :]
        assert tracker.acknowledged_above() == (above.count(DELIVERED), above.count(REJECTED))
        assert tracker.seen == place.seen
