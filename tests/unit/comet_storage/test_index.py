"""The sparse index: nearest lower node, bounded, and evenly so."""

from __future__ import annotations

import functools
import itertools
import sys
import types
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import comet_storage.index
from comet_storage.index import BinarySearchableIndex, EntryIndexNode, EntryPosition


def filled(numbers: range, *, interval: int = 10, most: int = 0) -> BinarySearchableIndex:
    """Return an index over entries of eight bytes each."""
    index = BinarySearchableIndex(interval, most)
    for number in numbers:
        index.add_index_node(number, EntryPosition(number * 8))
    return index


def test_only_multiples_of_the_interval_are_kept_in_order() -> None:
    """Whatever order they come in."""
    index = filled(range(50, -1, -1))
    assert [node.entry_number for node in index.nodes] == [0, 10, 20, 30, 40, 50]
    assert index.nodes[1] == EntryIndexNode(10, EntryPosition(80, 0))
    assert len(index) == 6


def test_an_interval_of_0_is_1000() -> None:
    """As in the original."""
    assert BinarySearchableIndex(0).index_interval == BinarySearchableIndex().index_interval == 1000


def test_a_known_number_is_replaced() -> None:
    """The latest position counts."""
    index = filled(range(30))
    index.add_index_node(10, EntryPosition(7, 3))
    assert index.find_entry(10) == EntryPosition(7, 3)
    assert len(index) == 3


def test_an_entry_is_found_exactly_or_by_the_nearest_lower_node() -> None:
    """Below the first node nothing is found, but a scan starts at the very beginning."""
    index = filled(range(20, 60))
    assert index.find_entry(30) == EntryPosition(240)
    assert index.find_entry(39) == EntryPosition(240)
    assert index.find_entry(10**9) == EntryPosition(400)
    assert index.find_entry(19) is None
    assert index.find_following(19) == EntryPosition(160)
    assert index.find_following(30) == EntryPosition(320)
    assert index.find_following(50) is None
    assert index.get_scan_start_position(39) == (EntryPosition(240), 30)
    assert index.get_scan_start_position(19) == (EntryPosition(0), 0)


def test_an_empty_index_knows_nothing() -> None:
    """Neither a position nor a start."""
    index = BinarySearchableIndex()
    assert index.find_entry(0) is None
    assert index.get_scan_start_position(0) is None
    assert index.nodes == []


@pytest.mark.parametrize("most", [1, 2, 3, 10, 64])
def test_beyond_its_bound_every_second_node_goes_and_old_entries_stay_near_one(most) -> None:
    """The original forgot the oldest, so that an old entry was looked for from the start of its file."""
    index = filled(range(10_000), most=most)
    assert 1 <= len(index) <= most
    starts = [index.get_scan_start_position(number)[1] for number in range(10_000)]  # type: ignore[index]
    assert all(start <= number for number, start in enumerate(starts))
    assert max(number - start for number, start in enumerate(starts)) <= 4 * 10_000 // most


@pytest.mark.parametrize("most", [3, 10, 64])
def test_nodes_at_any_numbers_are_thinned_out_evenly(most) -> None:
    """Those of records that hold several entries each: no stretch of the file is left without a node."""
    index = BinarySearchableIndex(max_nodes=most)
    for number in range(3, 100_003, 7):
        index.insert(number, (number, 0))
    numbers = [node.entry_number for node in index.nodes]
    assert len(numbers) <= most
    gaps = [after - before for before, after in zip(numbers, [*numbers[1:], 100_003], strict=True)]
    assert max(gaps) <= 4 * 100_000 // most


def test_nodes_of_another_file_take_the_place_of_all() -> None:
    """A segment's footer is taken over at once, within the bound."""
    index = filled(range(100))
    index.replace([5, 17, 90], [1024, 2000, 3000])
    assert index.get_scan_start_position(89) == (EntryPosition(2000, 0), 17)
    index.insert(20, (2200, 0))
    assert index.find_entry(89) == EntryPosition(2200)
    bounded = BinarySearchableIndex(1, 3)
    bounded.replace(range(0, 80, 10), range(8))
    assert [node.entry_number for node in bounded.nodes] == [0, 40]


@pytest.mark.parametrize("arguments", [(-1, 0), (1, -1)])
def test_negative_settings_are_refused(arguments) -> None:
    """There is nothing that they could mean."""
    with pytest.raises(ValueError, match="must be 0 or more"):
        BinarySearchableIndex(*arguments)


def test_a_negative_number_is_refused() -> None:
    """Entry numbers start at 0."""
    with pytest.raises(ValueError, match="entry number is -10"):
        BinarySearchableIndex(10).add_index_node(-10, EntryPosition(0))


@given(st.lists(st.integers(0, 500)), st.integers(1, 20), st.integers(0, 12), st.integers(0, 600))
def test_what_is_found_was_added_and_is_not_above(numbers, interval, most, wanted) -> None:
    """And without a bound it is the nearest."""
    index = BinarySearchableIndex(interval, most)
    for number in numbers:
        index.add_index_node(number, EntryPosition(number + 1, number))
    found = index.find_entry(wanted)
    lower = [number for number in numbers if number % interval == 0 and number <= wanted]
    if found is not None:
        assert found == (found.file_index + 1, found.file_index)
        assert found.file_index in lower
    if not most:
        assert (found.file_index if found else None) == max(lower, default=None)


class InterruptError(Exception):
    """What a signal handler might raise."""


def interrupted_at(step: int, call: Callable[[], None]) -> bool:
    """Make a call, and raise before the line of it that is the ``step``-th. Returns whether it has so many."""
    left = step

    def trace(frame: types.FrameType, event: str, _argument: object) -> object:
        nonlocal left
        if frame.f_code.co_filename != comet_storage.index.__file__:
            return None  # a finalizer, for example, that Python runs meanwhile
        if event == "line":
            left -= 1
            if not left:
                raise InterruptError
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except InterruptError:
        return True
    finally:
        sys.settrace(former)
    return False


@pytest.mark.parametrize("number", [5, 10, 95, 100, 999])
@pytest.mark.parametrize("most", [0, 10])
def test_an_interruption_anywhere_leaves_each_number_its_own_position(number, most) -> None:
    """In front, in the middle, at the end, and while every second node goes; and the next calls work."""
    calls: list[Callable[[BinarySearchableIndex], None]] = [
        lambda index: index.insert(number, (number * 8, 0)),
        lambda index: index.add_index_node(number * 10, EntryPosition(number * 80)),
        lambda index: index.replace(range(0, 200, 3), range(0, 1600, 24)),
    ]
    steps = 0
    for call in calls:
        for step in itertools.count(1):
            index = filled(range(10, 101), most=most)
            more = interrupted_at(step, functools.partial(call, index))
            for follower in (1, 57, 2000, 3000):
                index.insert(follower, (follower * 8, 0))
            assert [node.position.byte_offset for node in index.nodes] == [n.entry_number * 8 for n in index.nodes]
            found = index.get_scan_start_position(3000)
            assert found == (EntryPosition(24_000), 3000) or most
            assert index.find_following(10**6) is None
            if not more:
                break
            steps += 1
    assert steps > 10
