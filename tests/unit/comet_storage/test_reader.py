"""Reading a shard from a number on: positions, gaps, and segments that vanish meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, StorageConfig
from comet_storage._os.door import Door
from comet_storage._segment.file import Frame
from comet_storage._shard.layout import ShardLayout, holding
from comet_storage._shard.reader import Gap, ShardReader

NAME = "events:v1:shard:0000"
CONFIG = CometConfig(storage=StorageConfig(max_file_size=4096))


@pytest.fixture
def shard(tmp_path) -> Path:
    """A closed shard of 40 frames of 3 entries, in several segments."""
    with Client(tmp_path / "log", CONFIG) as client:
        for number in range(40):
            client.append(NAME, [b"%d" % number, b"", bytes(500)])
    return tmp_path / "log/events/v1/shard-0000"


@pytest.fixture
def reader(shard) -> Iterator[ShardReader]:
    """A reader of it."""
    reader = ShardReader(Door(), ShardLayout(Door(), str(shard)), None)
    yield reader
    reader.close()


def numbers(found: list[Frame | Gap]) -> list[int]:
    """Return the first entry number of each frame."""
    return [frame.header.first_entry for frame in found if isinstance(frame, Frame)]


def test_the_segment_of_a_number_is_the_last_one_that_starts_at_or_below_it() -> None:
    """Numbers below all belong to the first."""
    assert [holding([10, 20, 30], number) for number in (0, 10, 19, 20, 35)] == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("start", [0, 1, 2, 3, 57, 118, 119])
def test_reading_from_a_number_begins_with_the_frame_that_holds_it(start, reader) -> None:
    """Also in the middle of a frame, and in any order of questions."""
    found = list(reader.frames(start))
    assert numbers(found) == list(range(start // 3 * 3, 120, 3))
    assert numbers(list(reader.frames(0))) == list(range(0, 120, 3))


def test_behind_the_end_there_is_nothing(reader) -> None:
    """The next number, and those that do not exist yet, yield no frame and no gap."""
    assert reader.next_number() == 120
    assert list(reader.frames(120)) == list(reader.frames(10**6)) == []


def test_positions_grow_with_numbers_and_end_where_the_shard_ends(reader) -> None:
    """The bytes still to get are the difference of two positions."""
    found = [reader.position_of(number) for number in (0, 3, 60, 117, 120)]
    assert [first for first, _ in found] == sorted({first for first, _ in found})
    assert found[0][0] == 0
    assert {end for _, end in found} == {found[-1][0]}


def test_evicted_numbers_are_one_gap_before_the_first_frame(shard, reader) -> None:
    """What is gone is told, also when it goes while it is being read."""
    first, second, *_ = sorted(shard.glob("*.segment"))
    start = int(second.name[:20])
    walk = reader.frames(0)
    assert isinstance(next(walk), Frame)
    first.unlink()
    assert reader.first_held() == start
    assert reader.held() == 120 - start
    other = ShardReader(Door(), ShardLayout(Door(), str(shard)), None)
    found = list(other.frames(1))
    assert found[0] == Gap(1, start, "evicted")
    assert numbers(found) == list(range(start, 120, 3))
    other.close()


def test_a_segment_that_vanishes_between_listing_and_opening_is_evicted(shard, reader) -> None:
    """The reader lists again and goes on behind it."""
    paths = sorted(shard.glob("*.segment"))
    starts = [int(path.name[:20]) for path in paths]
    walk = reader.frames(0)
    found = [next(walk)]
    for path in paths[1:3]:
        path.unlink()
    paths[0].unlink()
    found += list(walk)
    assert Gap(starts[1], starts[3], "evicted") in found
    assert numbers(found)[-1] == 117


def test_a_middle_segment_that_is_gone_is_corrupt_and_not_evicted(shard, reader) -> None:
    """Retention never makes a hole, so a hole is damage, and counted as such."""
    paths = sorted(shard.glob("*.segment"))
    starts = [int(path.name[:20]) for path in paths]
    paths[2].unlink()
    found = list(reader.frames(0))
    assert [gap for gap in found if isinstance(gap, Gap)] == [Gap(starts[2], starts[3], "corrupt")]


def test_names_that_are_no_segments_are_left_alone(shard, reader) -> None:
    """Other files, other spellings and numbers beyond all sense change nothing."""
    before = reader.held()
    for name in ("1.segment", "x" * 20 + ".segment", "00000000000000000009.segment.bak", "9" * 20 + ".segment"):
        (shard / name).write_bytes(b"")
    (shard / "a\n00000000000000000001.segment").write_bytes(b"")
    assert reader.held() == before
    assert numbers(list(reader.frames(0))) == list(range(0, 120, 3))
    with Client(shard.parents[2], CONFIG) as client:
        assert client.append(NAME, [b"x"])[0].entry_number == 120
