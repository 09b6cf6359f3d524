"""A sparse index: where to start reading to find an entry, by binary search and within a bound of memory.

The engine keeps one per segment (the points of a segment's footer, and those that a reader adds); it serves any other
numbered records as well.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import repeat
from typing import NamedTuple

from comet_storage.errors import InvalidArgumentError

__all__ = ["INTERVAL_DEFAULT", "BinarySearchableIndex", "EntryIndexNode", "EntryPosition"]

INTERVAL_DEFAULT = 1000


class EntryPosition(NamedTuple):
    """Where an entry is."""

    byte_offset: int
    """Offset in its file, in bytes."""
    file_index: int = 0
    """Which file, where an index spans several."""


class EntryIndexNode(NamedTuple):
    """An entry whose position is known."""

    entry_number: int
    position: EntryPosition


class BinarySearchableIndex:
    """Positions of some entries, in the order of their numbers.

    Args:
        index_interval: entries between two nodes: others than multiples of it are not kept. 0 means 1,000.
        max_nodes: nodes kept at most; 0 means no limit. Beyond it every second node goes and the interval doubles, so
            that old entries are found as fast as new ones.

    Raises:
        InvalidArgumentError: one of them is negative.
    """

    def __init__(self, index_interval: int = INTERVAL_DEFAULT, max_nodes: int = 0) -> None:
        if index_interval < 0 or max_nodes < 0:
            raise InvalidArgumentError(
                f"index_interval is {index_interval}, max_nodes is {max_nodes}: must be 0 or more"
            )
        self.index_interval = index_interval or INTERVAL_DEFAULT
        self.max_nodes = max_nodes
        self._spacing = 0
        # Numbers and positions as two plain lists: made from a footer and searched without an object per node. In one
        # attribute, because an exception of a signal handler must not leave one of them changed and the other not; the
        # positions may have more at the end, which stands for nothing.
        self._nodes: tuple[list[int], list[tuple[int, int]]] = ([], [])

    @property
    def nodes(self) -> list[EntryIndexNode]:
        """The nodes, in the order of their numbers."""
        numbers, positions = self._nodes
        return [EntryIndexNode(*node) for node in zip(numbers, map(EntryPosition._make, positions), strict=False)]

    def __len__(self) -> int:
        return len(self._nodes[0])

    def add_index_node(self, entry_number: int, position: EntryPosition) -> None:
        """Note where an entry is, if its number is a multiple of the interval; a known one is replaced.

        Raises:
            InvalidArgumentError: the number is negative.
        """
        if entry_number < 0:
            raise InvalidArgumentError(f"entry number is {entry_number}: must be 0 or more")
        if entry_number % self.index_interval:
            return
        self._put(bisect_right(self._nodes[0], entry_number), entry_number, position)

    def insert(self, entry_number: int, position: tuple[int, int]) -> None:
        """Note where an entry is, whatever its number: for records that hold several entries and begin at any.

        In an index that has been full, those close behind a node are left out.
        """
        numbers, _ = self._nodes
        at = bisect_right(numbers, entry_number)
        if not at or entry_number - numbers[at - 1] >= self._spacing:
            self._put(at, entry_number, position)

    def _put(self, at: int, entry_number: int, position: tuple[int, int]) -> None:
        numbers, positions = self._nodes
        if at and numbers[at - 1] == entry_number:
            positions[at - 1] = position
            return
        if at == len(numbers):
            # The position first: interrupted before its number, it stands for nothing, and the next call replaces it.
            positions[at:] = [position]
            numbers.append(entry_number)
        else:
            self._nodes = ([*numbers[:at], entry_number, *numbers[at:]], [*positions[:at], position, *positions[at:]])
        self._thin_out()

    def replace(self, numbers: Sequence[int], byte_offsets: Sequence[int]) -> None:
        """Hold these nodes of one file instead of all others.

        Args:
            numbers: entry numbers in rising order.
            byte_offsets: where they are.
        """
        self._nodes = (list(numbers), list(zip(byte_offsets, repeat(0))))
        self._thin_out()

    def find_entry(self, entry_number: int) -> EntryPosition | None:
        """Position of the entry, or of the nearest lower one that is known; None where there is no lower one."""
        numbers, positions = self._nodes
        at = bisect_right(numbers, entry_number)
        return EntryPosition(*positions[at - 1]) if at else None

    def find_following(self, entry_number: int) -> EntryPosition | None:
        """Position of the nearest higher entry that is known: where reading towards an entry has gone too far."""
        numbers, positions = self._nodes
        at = bisect_right(numbers, entry_number)
        return EntryPosition(*positions[at]) if at < len(numbers) else None

    def get_scan_start_position(self, entry_number: int) -> tuple[EntryPosition, int] | None:
        """Where to start reading towards an entry, and the number of the entry that is there.

        Before the first node that is the very beginning, entry 0; None in an index without nodes.
        """
        numbers, positions = self._nodes
        at = bisect_right(numbers, entry_number)
        if at:
            return EntryPosition(*positions[at - 1]), numbers[at - 1]
        return (EntryPosition(0), 0) if numbers else None

    def _thin_out(self) -> None:
        numbers, positions = self._nodes
        while self.max_nodes and len(numbers) > self.max_nodes:
            positions = positions[: len(numbers) : 2]
            numbers = numbers[::2]
            # Without this, the nodes to come would be dense and the ones that are here thinned again and again.
            self._spacing = max(2 * self._spacing, (numbers[-1] - numbers[0]) // len(numbers))
            self.index_interval *= 2
            self._nodes = (numbers, positions)
