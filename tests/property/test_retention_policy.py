"""Does the policy keep its rules for all facts?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from comet_storage._retention.policy import Rules, Sealed, ShardFacts, in_order_of_eviction, overdue

NOW = 1_000
LIMITS = st.none() | st.integers(1, NOW)


@st.composite
def shards(draw: st.DrawFn, key: int) -> ShardFacts:
    """A shard whose segments follow one another, with times that may run backwards or be unknown."""
    bounds = sorted(draw(st.sets(st.integers(0, 60), min_size=1, max_size=9)))
    times = draw(st.lists(st.integers(0, NOW), min_size=len(bounds), max_size=len(bounds)))
    sizes = draw(st.lists(st.integers(0, 50), min_size=len(bounds), max_size=len(bounds)))
    sealed = [
        Sealed(first, end, closed, size)
        for first, end, closed, size in zip(bounds, bounds[1:], times, sizes, strict=False)
    ]
    return ShardFacts(
        key, draw(st.integers(-2, 2)), len(bounds), draw(st.none() | st.integers(0, 61)), sealed, sum(sizes)
    )


LOGS = st.integers(1, 4).flatmap(lambda count: st.tuples(*(shards(key) for key in range(count))))
RULES = st.builds(
    Rules,
    max_age=LIMITS,
    force_after=LIMITS,
    max_shard_size=st.none() | st.integers(0, 300),
    min_files=st.integers(0, 6),
    protect=st.booleans(),
    evict_oldest=st.booleans(),
)


def older(segment: Sealed, limit: int | None) -> bool:
    """Whether a segment is over an age limit."""
    return limit is not None and segment.closed_ns > 0 and NOW - segment.closed_ns > limit


@given(shards(0), RULES)
def test_what_is_overdue_is_the_front_of_its_shard_and_breaks_no_rule(facts, rules) -> None:
    """Oldest first without a hole, never the last files, never what is wanted unless it is forced."""
    found = list(overdue(facts, rules, NOW))
    assert [segment for segment, _ in found] == list(facts.sealed)[: len(found)]
    assert not found or facts.files - len(found) >= max(rules.min_files, 1)
    size = facts.size
    for segment, reason in found:
        wanted = rules.protect and facts.acknowledged is not None and segment.end > facts.acknowledged
        assert reason == "forced" or not wanted
        assert {
            "forced": older(segment, rules.force_after),
            "age": older(segment, rules.max_age),
            "shard_size": rules.max_shard_size is not None and size > rules.max_shard_size,
        }[reason]
        size -= segment.allocated


@given(LOGS, RULES, st.booleans())
def test_space_is_made_in_order_and_nobody_loses_what_is_protected(log, rules, for_bound) -> None:
    """Each shard from its front; what somebody wants only for the bound, and only if the oldest is to go."""
    found = list(in_order_of_eviction(log, rules, NOW, for_bound=for_bound))
    for facts in log:
        mine = [segment for owner, segment in found if owner is facts]
        assert mine == list(facts.sealed)[: len(mine)]
        if rules.evict_oldest and for_bound:
            assert mine == list(facts.sealed)
            continue
        for segment in mine:
            unread = facts.acknowledged is None or segment.end > facts.acknowledged
            if unread and not older(segment, rules.force_after):
                assert not rules.protect or facts.acknowledged is None
                assert rules.evict_oldest or older(segment, rules.max_age)


@given(LOGS, RULES)
def test_nothing_that_is_wanted_goes_while_something_is_left_that_is_not(log, rules) -> None:
    """The segments that somebody wants are the last ones in the order, and among themselves in that of priority."""
    if not rules.evict_oldest:
        return
    found = list(in_order_of_eviction(log, rules, NOW, for_bound=True))
    free = set()
    for facts in log:
        for segment in facts.sealed:
            wanted = rules.protect and facts.acknowledged is not None and segment.end > facts.acknowledged
            if wanted and not older(segment, rules.force_after):
                break
            free.add((facts.key, segment.first))
    first = [(facts.key, segment.first) for facts, segment in found[: len(free)]]
    assert set(first) == free
    rest = [facts.priority for facts, _ in found[len(free) :]]
    assert rest == sorted(rest)
