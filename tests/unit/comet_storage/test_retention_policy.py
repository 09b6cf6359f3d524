"""What goes, and in which order, given facts."""

from __future__ import annotations

import pytest

from comet_storage import RetentionConfig
from comet_storage._retention.policy import Rules, Sealed, ShardFacts, in_order_of_eviction, overdue

HOUR = 3600 * 10**9
NOW = 1000 * HOUR


def shard(
    ages: list[int], *, key: object = 0, priority: int = 0, acknowledged: int | None = None, size: int = 0
) -> ShardFacts:
    """Facts about closed segments of ten entries and 100 bytes each, so many hours old, and one that is written."""
    sealed = [Sealed(10 * at, 10 * at + 10, NOW - age * HOUR, 100) for at, age in enumerate(ages)]
    return ShardFacts(key, priority, len(ages) + 1, acknowledged, sealed, size)


def gone(facts: ShardFacts, rules: Rules) -> list[tuple[int, str]]:
    """First entry and reason of what is overdue."""
    return [(segment.first, reason) for segment, reason in overdue(facts, rules, NOW)]


def order(shards: list[ShardFacts], rules: Rules, *, for_bound: bool = True) -> list[tuple[object, int]]:
    """Shard and first entry in the order in which they go."""
    found = in_order_of_eviction(shards, rules, NOW, for_bound=for_bound)
    return [(facts.key, segment.first) for facts, segment in found]


def test_what_is_older_than_the_limit_goes_and_nothing_else() -> None:
    """The age of a segment is the time since it was closed, that of its youngest entry."""
    assert gone(shard([5, 4, 3, 2, 1]), Rules(max_age=3 * HOUR)) == [(0, "age"), (10, "age")]
    assert gone(shard([5, 4]), Rules()) == []


def test_age_leaves_the_fewest_files_alone() -> None:
    """Two files with one that is written: one closed one stays, however old."""
    assert gone(shard([9, 9, 9]), Rules(max_age=HOUR, min_files=2)) == [(0, "age"), (10, "age")]
    assert gone(shard([9, 9, 9]), Rules(max_age=HOUR, min_files=9)) == []


def test_what_a_group_has_still_to_acknowledge_is_protected_from_age_and_size() -> None:
    """A segment with a single unacknowledged entry stays, and all behind it."""
    rules = Rules(max_age=HOUR, max_shard_size=1)
    assert gone(shard([9, 9, 9], acknowledged=19, size=1000), rules) == [(0, "age")]
    assert gone(shard([9, 9, 9], acknowledged=20, size=1000), rules) == [(0, "age"), (10, "age")]
    assert gone(shard([9, 9, 9], acknowledged=0), Rules(max_age=HOUR, protect=False))[-1] == (20, "age")


def test_protection_yields_to_the_forced_limit() -> None:
    """After `force_delete_after` nobody is asked."""
    rules = Rules(max_age=HOUR, force_after=5 * HOUR)
    assert gone(shard([9, 6, 4], acknowledged=0), rules) == [(0, "forced"), (10, "forced")]


def test_a_shard_over_its_size_gives_its_oldest_until_it_is_not() -> None:
    """And keeps what somebody wants: the limit of a shard is not the bound of the log."""
    assert gone(shard([1, 1, 1, 1], size=500), Rules(max_shard_size=300)) == [(0, "shard_size"), (10, "shard_size")]
    assert gone(shard([1, 1, 1, 1], size=300), Rules(max_shard_size=300)) == []
    assert gone(shard([1, 1, 1, 1], size=500, acknowledged=0), Rules(max_shard_size=300)) == []


def test_a_segment_whose_age_is_not_known_is_not_old() -> None:
    """A time of 0 says that nobody knows."""
    facts = ShardFacts(0, 0, 3, None, [Sealed(0, 10, 0, 1), Sealed(10, 20, 1, 1)])
    assert gone(facts, Rules(max_age=HOUR)) == []


def test_the_oldest_of_the_whole_log_goes_first() -> None:
    """Age decides between shards, numbers within one."""
    shards = [shard([5, 3], key="a"), shard([4, 9], key="b")]
    assert order(shards, Rules()) == [("a", 0), ("b", 0), ("b", 10), ("a", 10)]


def test_streams_of_lower_priority_go_first() -> None:
    """Whatever their age."""
    shards = [shard([9, 8], key="precious", priority=1), shard([1], key="cheap", priority=-1), shard([2], key="plain")]
    assert order(shards, Rules()) == [("cheap", 0), ("plain", 0), ("precious", 0), ("precious", 10)]


def test_what_everybody_acknowledged_goes_before_what_somebody_wants() -> None:
    """Also if it is younger and of higher priority: nobody misses it."""
    shards = [shard([9, 9], key="wanted", acknowledged=0), shard([1, 1], key="done", priority=5, acknowledged=20)]
    assert order(shards, Rules()) == [("done", 0), ("done", 10), ("wanted", 0), ("wanted", 10)]


def test_the_fewest_files_are_kept_as_long_as_others_will_do() -> None:
    """Acknowledged files beyond them go first, then acknowledged ones, then wanted ones."""
    shards = [shard([9, 9], key="a", acknowledged=20), shard([1, 1, 1], key="b", acknowledged=20)]
    assert order(shards, Rules(min_files=2)) == [("a", 0), ("b", 0), ("b", 10), ("a", 10), ("b", 20)]


def test_protection_yields_to_the_bound_and_not_to_a_full_volume() -> None:
    """The volume may be full of other people's files; then appends are refused."""
    shards = [shard([9, 9], acknowledged=10)]
    assert order(shards, Rules(), for_bound=True) == [(0, 0), (0, 10)]
    assert order(shards, Rules(), for_bound=False) == [(0, 0)]
    assert order(shards, Rules(protect=False), for_bound=False) == [(0, 0), (0, 10)]
    assert order([shard([9, 9])], Rules(), for_bound=False) == [(0, 0), (0, 10)]


def test_when_new_data_is_refused_only_what_every_group_acknowledged_makes_room() -> None:
    """Without groups nothing was acknowledged, and without protection nothing was either."""
    rules = Rules(evict_oldest=False, min_files=2)
    assert order([shard([9, 9, 9], acknowledged=20)], rules) == [(0, 0), (0, 10)]
    assert order([shard([9, 9, 9])], rules) == []
    assert order([shard([9, 9, 9], acknowledged=0)], Rules(evict_oldest=False, protect=False)) == []


def test_when_new_data_is_refused_what_is_too_old_anyway_makes_room() -> None:
    """Age and the forced limit would have deleted it with the next pass."""
    assert order([shard([9, 9, 1])], Rules(evict_oldest=False, max_age=5 * HOUR)) == [(0, 0), (0, 10)]
    assert order([shard([9, 1], acknowledged=0)], Rules(evict_oldest=False, max_age=5 * HOUR)) == []
    assert order([shard([9, 1], acknowledged=0)], Rules(evict_oldest=False, force_after=5 * HOUR)) == [(0, 0)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (RetentionConfig(), None),
        (RetentionConfig(max_age=4.0), 10**9),
        (RetentionConfig(max_age=0, force_delete_after=8), 2 * 10**9),
        (RetentionConfig(max_age=4.0, force_delete_after=2.0), 10**9 // 2),
    ],
)
def test_active_segments_are_closed_at_a_quarter_of_the_shorter_limit(config, expected) -> None:
    """So data lives at most five quarters of its limit."""
    assert Rules.of(config).seal_after() == expected
