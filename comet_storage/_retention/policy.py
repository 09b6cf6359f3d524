"""What goes, and in which order: decided from facts alone. Nothing here touches a file or a clock.

Segments go whole, and in a shard always the oldest first, so every decision about a shard is a number of segments from
its front. That holds because each property that a decision looks at (old enough, acknowledged by all, enough others
left) is one that a segment has only if all before it have it too.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from comet_storage.config import RetentionConfig, seconds

Reason = Literal["age", "forced", "shard_size", "bound", "volume"]

WANTED = 2
"""Tier of what somebody still wants: evicted only to keep the bound, and only if that is what was asked for."""


class Sealed(NamedTuple):
    """A closed segment."""

    first: int
    """Its first entry number."""
    end: int
    """The number behind its last one: the next segment's first."""
    closed_ns: int
    """When it was closed, by the log clock; 0 when that is not known, which is never old."""
    allocated: int
    """Bytes of its blocks."""


@dataclass
class ShardFacts:
    """What decisions about one shard rest on.

    Attributes:
        key: how whoever asks calls the shard.
        priority: of its stream.
        files: segments, the one being written included.
        acknowledged: every consumer group is done with the numbers below; None in a stream without groups.
        sealed: closed segments, oldest first; looked at only as far as needed.
        size: bytes of the blocks of all its segments, where a limit asks for it.
    """

    key: object
    priority: int
    files: int
    acknowledged: int | None
    sealed: Iterable[Sealed]
    size: int = 0


@dataclass(frozen=True)
class Rules:
    """A :class:`RetentionConfig` as decisions need it; times in nanoseconds, None for no limit."""

    max_age: int | None = None
    force_after: int | None = None
    max_shard_size: int | None = None
    min_files: int = 0
    protect: bool = True
    evict_oldest: bool = True
    min_free_bytes: int = 0
    priorities: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RetentionConfig, *, when_full: str | None = None) -> Rules:
        """The rules that a configuration stands for, with what the log itself says of ``when_full``."""
        max_age = seconds(config.max_age) if config.max_age is not None else 0.0
        forced = seconds(config.force_delete_after) if config.force_delete_after is not None else 0.0
        return cls(
            max_age=int(max_age * 1e9) or None,
            force_after=int(forced * 1e9) or None,
            max_shard_size=config.max_shard_size or None,
            min_files=config.min_files_to_keep,
            protect=config.protect_unconsumed,
            evict_oldest=(when_full or config.when_full) == "evict_oldest",
            min_free_bytes=config.min_free_bytes,
            priorities=config.priorities,
        )

    def seal_after(self) -> int | None:
        """Age at which an active segment is closed, so that what is in it can go in time: a quarter of the limit."""
        limits = [limit for limit in (self.max_age, self.force_after) if limit is not None]
        return min(limits) // 4 if limits else None


def overdue(shard: ShardFacts, rules: Rules, now: int) -> Iterator[tuple[Sealed, Reason]]:
    """The segments of a shard that are to go without anybody needing the space."""
    size, files = shard.size, shard.files
    for segment in shard.sealed:
        reason = _overdue_reason(shard, segment, rules, now, size)
        if reason is None or files - 1 < rules.min_files:
            return
        yield segment, reason
        size -= segment.allocated
        files -= 1


def _overdue_reason(shard: ShardFacts, segment: Sealed, rules: Rules, now: int, size: int) -> Reason | None:
    if _older(segment, rules.force_after, now):
        return "forced"
    if _wanted(shard, segment, rules):
        return None
    if _older(segment, rules.max_age, now):
        return "age"
    return "shard_size" if rules.max_shard_size is not None and size > rules.max_shard_size else None


def in_order_of_eviction(
    shards: Iterable[ShardFacts], rules: Rules, now: int, *, for_bound: bool
) -> Iterator[tuple[ShardFacts, Sealed]]:
    """Closed segments that may go because space is needed, what is missed least first.

    First what nobody wants any more, as far as ``min_files`` others stay; then the rest of that; then, to keep the
    bound and unless appends are to be refused instead, also what somebody wants. Each in the order of priority, then
    of age.
    """
    last_tier = WANTED if for_bound and rules.evict_oldest else WANTED - 1
    heap: list[tuple[tuple[int, int, int, int], ShardFacts, Sealed, Iterator[Sealed], int]] = []

    def push(index: int, shard: ShardFacts, left: int, rest: Iterator[Sealed], not_before: int) -> None:
        segment = next(rest, None)
        if segment is None:
            return
        tier = _tier(shard, segment, rules, now, left)
        if tier <= last_tier:
            # In each shard in the order of numbers, whatever the times say.
            closed = max(not_before, segment.closed_ns)
            heapq.heappush(heap, ((tier, shard.priority, closed, index), shard, segment, rest, left))

    for index, shard in enumerate(shards):
        push(index, shard, shard.files - 1, iter(shard.sealed), 0)
    while heap:
        (_, _, closed, index), shard, segment, rest, left = heapq.heappop(heap)
        yield shard, segment
        push(index, shard, left - 1, rest, closed)


def _tier(shard: ShardFacts, segment: Sealed, rules: Rules, now: int, left: int) -> int:
    """How much a segment would be missed; ``left`` files of the shard would stay."""
    if rules.evict_oldest:
        wanted = _wanted(shard, segment, rules)
    else:
        # Whoever has new data refused rather than old data deleted wants all of it, but for what was acknowledged.
        wanted = shard.acknowledged is None or segment.end > shard.acknowledged
        if wanted and _older(segment, rules.max_age, now):
            wanted = _wanted(shard, segment, rules)
    if wanted and not _older(segment, rules.force_after, now):
        return WANTED
    return 0 if left >= rules.min_files else 1


def _wanted(shard: ShardFacts, segment: Sealed, rules: Rules) -> bool:
    """Whether a group that is protected has still to acknowledge something of it."""
    return rules.protect and shard.acknowledged is not None and segment.end > shard.acknowledged


def _older(segment: Sealed, limit: int | None, now: int) -> bool:
    return limit is not None and segment.closed_ns > 0 and now - segment.closed_ns > limit
