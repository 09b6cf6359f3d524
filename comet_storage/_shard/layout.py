"""Names of the files of one shard. The directory is the index: segments are named by their first entry number."""

from __future__ import annotations

import re
from bisect import bisect_right

from comet_storage._os.door import Door

OWNER_LOCK = "owner.lock"
STATE_PAGE = "state"
PREPARED = "prepared"
PREPARED_AHEAD = "prepared-ahead"
REPLACEMENT = "replacement"
GROUP_PREFIX = "group-"
PINNED_PREFIX = "pinned-"

_SEGMENTS = re.compile(r"\0([0-9]{20})\.segment(?=\0)", re.ASCII)
"""In names with NUL around them, which no name contains: finding all at once takes half the time."""

_GROUPS = re.compile(rf"\0{GROUP_PREFIX}([^\0]*)(?=\0)", re.ASCII)
_PINNED = re.compile(rf"{PINNED_PREFIX}[0-9]{{20}}", re.ASCII)

NUMBER_MAX = 1 << 63
"""Larger numbers in names are not ours: nothing could be appended behind them."""


class ShardLayout:
    """Paths inside one shard's directory."""

    def __init__(self, door: Door, directory: str) -> None:
        self._door = door
        self.directory = directory
        self.owner_lock = f"{directory}/{OWNER_LOCK}"
        self.state_page = f"{directory}/{STATE_PAGE}"
        self.prepared = f"{directory}/{PREPARED}"
        self.prepared_ahead = f"{directory}/{PREPARED_AHEAD}"
        self.replacement = f"{directory}/{REPLACEMENT}"

    def segment(self, first_entry: int) -> str:
        """Path of a segment."""
        return f"{self.directory}/{segment_name(first_entry)}"

    def pinned(self, first_entry: int) -> str:
        """Path of an evicted segment that somebody had open when it was evicted."""
        return f"{self.directory}/{PINNED_PREFIX}{first_entry:020d}"

    def all_pinned(self) -> list[str]:
        """Paths of all of them."""
        try:
            names = self._door.list_directory(self.directory)
        except FileNotFoundError:
            return []
        return [f"{self.directory}/{name}" for name in names if _PINNED.fullmatch(name)]

    def group(self, group: str) -> str:
        """Path of a consumer group's record."""
        return f"{self.directory}/{GROUP_PREFIX}{group}"

    def exists(self) -> bool:
        """Whether the shard has a directory."""
        try:
            return self._door.status(self.directory).is_directory
        except OSError:
            return False

    def segments(self) -> list[int]:
        """First entry numbers of the segments, in order. Empty when there is no directory."""
        return self.contents()[0]

    def contents(self) -> tuple[list[int], list[str]]:
        """First entry numbers of the segments, in order, and names of the groups that have a record here."""
        try:
            names = self._door.list_directory(self.directory)
        except FileNotFoundError:
            return [], []
        joined = "\0".join(("", *names, ""))
        segments = sorted(map(int, _SEGMENTS.findall(joined)))
        while segments and segments[-1] > NUMBER_MAX:
            segments.pop()
        return segments, _GROUPS.findall(joined)


def segment_name(first_entry: int) -> str:
    """File name of a segment: 20 digits hold every 64-bit number, so that names sort as numbers."""
    return f"{first_entry:020d}.segment"


def holding(segments: list[int], number: int) -> int:
    """Index of the segment that an entry number belongs to; the first one for numbers below all."""
    return max(0, bisect_right(segments, number) - 1)
