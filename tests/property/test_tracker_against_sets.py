"""Does the arithmetic of a group's record agree with a plain set of numbers?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from comet_storage._format.group_record import DELIVERED, REJECTED, GroupRecord
from comet_storage._groups.tracker import Tracker
from comet_storage._shard.reader import Gap

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


class Naive:
    """The same with one class per number."""

    def __init__(self, start: int) -> None:
        self.start = self.offset = start
        self.acknowledged: dict[int, str] = {}
        self.gaps: dict[int, str] = {}
        self.handed = start

    def note_gap(self, first: int, end: int, kind: str) -> None:
        """Numbers are gone; the first reason that was met counts; what was handed out may still be acknowledged."""
        noted = [n for n in range(max(first, self.offset), end) if n not in self.acknowledged]
        if first > self.offset:
            noted = [n for n in noted if n >= self.handed]
        for number in noted:
            self.gaps.setdefault(number, kind)
        if noted:
            self.handed = max(self.handed, end)
        self.fold()

    def acknowledge(self, first: int, end: int, kind: str) -> None:
        """What was gone before it was handed out is not delivered by a range of numbers around it."""
        for number in range(max(first, self.offset), end):
            if number not in self.gaps:
                self.acknowledged.setdefault(number, kind)
        self.fold()

    def reset(self, number: int) -> None:
        """Forwards the rest is skipped; backwards everything starts anew."""
        if number < self.offset:
            self.__init__(number)  # type: ignore[misc]
            return
        for skipped in range(self.offset, number):
            if skipped not in self.gaps:
                self.acknowledged.setdefault(skipped, "skipped")
        self.handed = max(self.handed, number)
        self.fold()

    def fold(self) -> None:
        """The offset is the lowest number without a class."""
        while self.offset in self.acknowledged or self.offset in self.gaps:
            self.offset += 1

    def below(self, kind: str) -> int:
        """Numbers of a class below the offset."""
        return sum((self.acknowledged.get(n) or self.gaps.get(n)) == kind for n in range(self.start, self.offset))


@given(st.integers(0, 10), steps)
def test_every_number_has_the_class_that_a_set_gives_it(start, actions) -> None:
    """Offset, counts and what is still wanted, after any sequence of gaps, acknowledgements and resets."""
    tracker, naive = Tracker(GroupRecord(start=start, offset=start)), Naive(start)
    for name, (first, end) in actions:
        if name == "reset":
            tracker.reset(first)
            naive.reset(first)
        elif name in {"ack", "reject"}:
            tracker.acknowledge(first, end, REJECTED if name == "reject" else DELIVERED)
            naive.acknowledge(first, end, "rejected" if name == "reject" else "delivered")
        elif first < end:
            tracker.note_gap(Gap(first, end, name))
            naive.note_gap(first, end, name)
        record = tracker.record
        assert (record.start, record.offset) == (naive.start, naive.offset)
        for kind in ("delivered", "rejected", "skipped", "evicted", "corrupt", "lost"):
            assert getattr(record, kind) == naive.below(kind), kind
        wanted = {number for low, high in tracker.wanted(0, TOP) for number in range(low, high)}
        assert wanted == {n for n in range(naive.offset, TOP) if n not in naive.acknowledged}
        delivered, rejected = tracker.acknowledged_above()
        above = [kind for number, kind in naive.acknowledged.items() if number >= naive.offset]
        assert (delivered, rejected) == (above.count("delivered"), above.count("rejected"))
