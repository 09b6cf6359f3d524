"""What was evicted is kept as ranges, in a file that does not grow."""

from __future__ import annotations

import itertools
import random

from comet_storage._format.eviction_history import (
    HISTORY_FILE_BYTES,
    HISTORY_RANGES_MAX,
    HISTORY_SLOT_BYTES,
    JOIN_NS,
    EvictedRange,
    History,
    decode_history,
    encode_history_slot,
    with_range,
)


def new(first: int, end: int, at: int, *, entries: int | None = None, reasons: int = 1) -> EvictedRange:
    """One eviction."""
    return EvictedRange(first, end, end - first if entries is None else entries, at, at, reasons)


def test_neighbours_of_the_same_minute_are_one_range() -> None:
    """And those of another are not."""
    history = with_range((), new(0, 10, 5))
    history = with_range(history, new(10, 30, 5 + JOIN_NS, reasons=2))
    assert history == (EvictedRange(0, 30, 30, 5, 5 + JOIN_NS, 3),)
    assert len(with_range(history, new(30, 40, 6 + JOIN_NS))) == 2
    assert len(with_range(history, new(31, 40, 6))) == 2


def test_what_is_known_is_not_added_again() -> None:
    """A crash between recording and deleting brings the same segments by once more."""
    history = with_range((), new(0, 10, 5))
    assert with_range(history, new(0, 10, 99)) == history
    assert with_range(history, new(3, 9, 99)) == history
    assert with_range(history, new(0, 20, 6)) == (EvictedRange(0, 20, 20, 5, 6, 1),)


def test_the_history_stays_short_and_loses_no_number() -> None:
    """The oldest ranges become one when there are too many."""
    chance = random.Random(4)
    history: History = ()
    total, number = 0, 0
    for turn in range(500):
        number += chance.randrange(0, 3)
        count = chance.randrange(1, 9)
        history = with_range(history, new(number, number + count, turn * 2 * JOIN_NS))
        number += count
        total += count
        assert len(history) <= HISTORY_RANGES_MAX
        assert sum(each.entries for each in history) == total
        assert [each.first for each in history] == sorted({each.first for each in history})
        assert all(one.end <= other.first for one, other in itertools.pairwise(history))
    assert history[-1].until_ns == 499 * 2 * JOIN_NS
    assert (history[0].since_ns, history[0].first <= 2) == (0, True)


def test_a_full_history_fits_its_slot_and_a_torn_one_leaves_the_other() -> None:
    """The file is two slots of 2,048 bytes."""
    history = tuple(new(at, at + 1, at) for at in range(HISTORY_RANGES_MAX))
    slot = encode_history_slot(8, history)
    assert len(slot) <= HISTORY_SLOT_BYTES
    older = encode_history_slot(7, history[:3]).ljust(HISTORY_SLOT_BYTES, b"\0")
    data = slot.ljust(HISTORY_SLOT_BYTES, b"\0") + older
    assert len(data) == HISTORY_FILE_BYTES
    assert decode_history(data) == (8, history)
    assert decode_history(b"torn" + data[4:]) == (7, history[:3])
    assert decode_history(bytes(HISTORY_FILE_BYTES)) is None
    assert decode_history(b"") is None


def test_the_bytes_are_those_of_the_format() -> None:
    """As in docs/disk-format.md, section 10.1."""
    slot = encode_history_slot(2, (EvictedRange(1, 2, 3, 4, 5, 6),))
    words = "".join(f"{value:02x}" + "00" * 7 for value in (1, 2, 3, 4, 5))
    assert slot[:-4].hex() == "45564943" + "30000000" + "0200000000000000" + "01000000" + words + "06000000"
