"""Value types that callers hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Literal, NamedTuple, overload

from comet_storage.errors import InvalidArgumentError

_MESSAGE_ID = re.compile(r"(0|[1-9][0-9]{0,9})-(0|[1-9][0-9]{0,19})", re.ASCII)


class MessageID(NamedTuple):
    """Where an entry is: the shard and its number there. Numbers start at 0 per shard and are never given out twice."""

    shard_id: int
    entry_number: int

    def __str__(self) -> str:
        return f"{self.shard_id}-{self.entry_number}"

    @classmethod
    def parse(cls, text: str) -> MessageID:
        """Parse ``"shard-entry"`` as :func:`str` writes it.

        Raises:
            InvalidArgumentError: any other text (signs, spaces, leading zeros, numbers over 32 or 64 bits).
        """
        # What is no text at all is as wrong as any other text.
        match = _MESSAGE_ID.fullmatch(str(text))
        if match is None or int(match[1]) >= 1 << 32 or int(match[2]) >= 1 << 64:
            raise InvalidArgumentError(f"invalid message id {text!r}: expected 'shard-entry', for example '3-1042'")
        return cls(int(match[1]), int(match[2]))


class MessageIDs(Sequence[MessageID]):
    """The ids of one append call: consecutive numbers of one shard, made into objects only when looked at."""

    # Without a constructor: the append path makes one per call, and sets the attributes itself.
    __slots__ = ("first", "shard_id", "size")

    first: int
    shard_id: int
    size: int

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> MessageID: ...
    @overload
    def __getitem__(self, index: slice) -> list[MessageID]: ...
    def __getitem__(self, index: int | slice) -> MessageID | list[MessageID]:
        numbers = range(self.first, self.first + self.size)
        if isinstance(index, slice):
            return [MessageID(self.shard_id, number) for number in numbers[index]]
        return MessageID(self.shard_id, numbers[index])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # compares equal to lists, which have no hash either

    def __repr__(self) -> str:
        return f"MessageIDs(shard_id={self.shard_id}, first={self.first}, size={self.size})"


def message_ids(shard_id: int, first: int, count: int) -> MessageIDs:
    """The ids of ``count`` entries from ``first`` on."""
    ids = MessageIDs()
    ids.shard_id = shard_id
    ids.first = first
    ids.size = count
    return ids


class StreamMessage(NamedTuple):
    """One entry as a consumer gets it."""

    stream: str
    """Full name of the shard's stream, as used to append."""
    id: MessageID
    data: bytes
    """A memoryview instead if it was read with ``copy=False``, or in bulk; ``memoryview(message.data)`` suits both."""
    timestamp: int
    """Wall clock of the append call, nanoseconds since 1970."""


class ShardPosition(NamedTuple):
    """Where a consumer group is in one shard."""

    offset: int
    """Lowest number that is not yet acknowledged."""
    following: int
    """The number that the next entry will get."""
    ranges: int
    """Ranges of numbers above the offset that are acknowledged. The log keeps 64 of them over a crash; what is in
    others would be delivered again."""


@dataclass(frozen=True)
class StreamStats:
    """What one shard of a stream holds, and where its consumer groups are."""

    shard_id: int
    total_entries: int
    """Entries held."""
    total_bytes: int
    """Bytes of their frames."""
    oldest_entry_ns: int | None
    """When the oldest of them was appended, nanoseconds since 1970; None in an empty shard."""
    newest_entry_ns: int | None
    """When the newest was appended."""
    consumer_offsets: dict[str, int]
    """Each group's lowest number that is not yet acknowledged."""
    file_count: int
    """Segments."""


@dataclass(frozen=True)
class MissingEntries:
    """Entry numbers of a shard that it does not hold, or not any more."""

    first: int
    last: int
    """First and last number of the range."""
    reason: Literal["evicted", "lost", "corrupt", "unsupported"]
    """Deleted by retention; taken by a power cut; damaged on the disk; stored by a release that this one is older
    than, and whole."""

    @property
    def count(self) -> int:
        """How many they are."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class ShardVerification:
    """What reading every byte of one shard showed."""

    stream: str
    """Full name of the shard."""
    segments: int
    entries: int
    """Entries that proved themselves by their checksums."""
    entry_bytes: int
    """Bytes of them."""
    following: int
    """The number that the next entry will get."""
    missing: tuple[MissingEntries, ...]
    """All other numbers below that, in order."""

    @property
    def corrupt(self) -> int:
        """Entries that are damaged on the disk."""
        return sum(each.count for each in self.missing if each.reason == "corrupt")


@dataclass(frozen=True)
class Accounting:
    """What became of every entry number of a group, from its start to the shards' next numbers.

    Every number is in exactly one class, so the classes add up to ``total``. Sums over the shards of a stream.
    """

    total: int = 0
    delivered: int = 0
    rejected: int = 0
    skipped: int = 0
    evicted: int = 0
    corrupt: int = 0
    lost: int = 0
    pending: int = 0

    def __add__(self, other: Accounting) -> Accounting:
        return Accounting(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Eviction:
    """Entry numbers of one shard that retention deleted."""

    stream: str
    """Full name of the shard."""
    first: int
    last: int
    """First and last number of the range."""
    count: int
    """How many of them were deleted; asked for a group, how many it had not acknowledged when they were."""
    since: datetime
    until: datetime
    """When the first and the last of them were deleted, by the wall clock. Old neighbours are joined to one range."""
    reasons: tuple[str, ...]
    """``age``, ``forced`` (force_delete_after), ``shard_size``, ``bound`` (max_total_size), ``volume`` (full)."""


@dataclass(frozen=True)
class ShardRetentionStats:
    """What one shard holds."""

    size_bytes: int
    """Blocks of every file of the shard."""
    files: int
    """Segments, the one being written included."""
    oldest_entry: datetime | None
    newest_entry: datetime | None
    """When the oldest and the newest entry held were appended, by the wall clock; None where there is none."""
    consumer_lag: dict[str, int] = field(default_factory=dict)
    """Entries that each consumer group has still to get."""
    evicted_entries: int = 0
    """Entries that retention has deleted, since the shard began."""
    pinned_bytes: int = 0
    """Blocks of evicted segments that somebody has still open. They count as the log's."""


@dataclass(frozen=True)
class RetentionStats:
    """What the log holds, and within which limits."""

    total_size_bytes: int
    """Blocks of every file and directory of the log: what ``max_total_size`` bounds."""
    total_size_gb: float
    max_total_size_gb: float
    """In units of 10^9 bytes."""
    retention_age: float | None
    """``max_age`` in seconds; None where there is no limit."""
    total_files: int
    """Segments of all shards."""
    oldest_data: datetime | None
    newest_data: datetime | None
    shard_stats: dict[str, ShardRetentionStats] = field(default_factory=dict)
    """By full name of the shard."""
    free_bytes: int = 0
    """What the volume has left for this process."""
    evicted_entries: int = 0
    pinned_bytes: int = 0
    """Sums over the shards."""
