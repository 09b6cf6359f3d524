"""What does damage to a closed or crashed shard cost? A frame, counted, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage._format.frame import encode_frame
from comet_storage._segment.file import SegmentFile
from tests.support.entries import make_entry
from tests.support.small_log import (
    GROUP,
    QUICK,
    SHARD,
    STREAM,
    WRITER,
    KnownFrame,
    assert_conserved,
    copy_log,
    crash,
    expected_data,
    fill,
    flip,
    known_frames,
    memory_directory,
    numbers_and_data,
    open_small,
    overwrite,
    read_all,
    shard_directory,
)

BATCHES = [1, 3, 1, 2, 1, 4, 1, 2]
TOTAL = sum(BATCHES)
ENDINGS = ["closed", "copied", "crashed", "crashed after a sync"]


@pytest.fixture
def tmp_path(tmp_path) -> Iterator[Path]:
    """In memory: these tests make thousands of logs."""
    yield from memory_directory(tmp_path)


def make_log(directory: Path, ending: str, batches: list[int] = BATCHES) -> list[KnownFrame]:
    """A log as it is after one of the endings, with its frames."""
    client = open_small(directory)
    fill(client, batches[:-2])
    if ending == "crashed after a sync":
        client.sync()
    fill(client, batches[-2:], sum(batches[:-2]))
    if ending.startswith("crashed"):
        crash(client)
    else:
        client.close()
    if ending == "copied":
        # The copy's page has another inode, so nothing that it says can be taken on trust.
        copied = copy_log(directory, directory.with_name(directory.name + "-copy"))
        shutil.rmtree(directory)
        copied.rename(directory)
    return known_frames(directory)


def assert_cost_is(directory: Path, frame: KnownFrame, total: int = TOTAL) -> None:
    """The next owner reads all but one frame, goes on with the right number, and every number has its class."""
    with open_small(directory) as client:
        (appended,) = client.append(SHARD, [make_entry(WRITER, total, 12 + total % 23)])
        assert appended.entry_number == total
        expected = expected_data(total + 1, without=frame.numbers)
        assert numbers_and_data(list(client.scan(SHARD))) == expected
        assert read_all(client) == expected
        accounting = client.accounting(STREAM, GROUP)
        assert_conserved(accounting)
        assert (accounting.total, accounting.delivered) == (total + 1, total + 1 - frame.count)
        assert accounting.corrupt + accounting.lost == frame.count


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_torn_tail_costs_only_the_last_frame(tmp_path, ending) -> None:
    """Cut at any byte of the last frame, the log opens, loses that frame and gives no number twice."""
    frames = make_log(tmp_path / "probe", ending)
    for cut in range(frames[-1].offset, frames[-1].end - 8, 1 if ending in {"closed", "crashed"} else 5):
        directory = tmp_path / f"cut{cut}"
        last = make_log(directory, ending)[-1]
        with last.path.open("r+b") as file:
            file.truncate(cut)
        assert_cost_is(directory, last)
        shutil.rmtree(directory)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("which", ["middle", "last"])
def test_a_damaged_byte_costs_only_its_frame(tmp_path, ending, which) -> None:
    """Whatever byte of a frame is changed, all of it or one bit, the log opens and loses that frame alone."""
    index = 3 if which == "middle" else -1
    frame = make_log(tmp_path / "probe", ending)[index]
    length = sum(len(data) for number, data in expected_data(TOTAL).items() if number in frame.numbers)
    used = 32 + length + (4 * frame.count if frame.count > 1 else 0)
    for at in range(0, used, 1 if ending in {"closed", "crashed"} else 5):
        directory = tmp_path / f"flip{at}"
        hit = make_log(directory, ending)[index]
        flip(hit.path, hit.offset + at, 0xFF if at % 2 == (ending == "closed") else 1 << at % 8)
        assert_cost_is(directory, hit)
        shutil.rmtree(directory)


def test_damage_to_padding_costs_nothing(tmp_path) -> None:
    """The bytes that fill a frame up to its alignment mean nothing."""
    frames = make_log(tmp_path, "closed")
    frame = next(f for f in frames if len(expected_data(TOTAL)[f.first]) % 8 and f.count == 1)
    flip(frame.path, frame.end - 1, 0xFF)
    with open_small(tmp_path) as client:
        assert numbers_and_data(list(client.scan(SHARD))) == expected_data(TOTAL)


@pytest.mark.parametrize("ending", ["closed", "crashed"])
def test_a_damaged_frame_of_a_closed_segment_costs_only_itself(tmp_path, ending) -> None:
    """Damage in a segment with successors is found by whoever reads it, and counted."""
    client = open_small(tmp_path, segment_bytes=4096)
    total = fill(client, [3] * 200)
    crash(client) if ending == "crashed" else client.close()
    frames = known_frames(tmp_path)
    hit = frames[len(frames) // 2]
    assert hit.path != frames[-1].path
    flip(hit.path, hit.offset + 4, 1)
    assert_cost_is(tmp_path, hit, total)


@pytest.mark.parametrize("part", ["header", "body"])
@pytest.mark.parametrize("ending", ["closed", "crashed"])
def test_frames_inside_of_a_payload_are_never_served(tmp_path, part, ending) -> None:
    """Copies of real frames inside an entry stay an entry's bytes, also when the frame around them is damaged."""
    for at in range(32) if part == "header" else (32, 40, 1000, -20):
        directory = tmp_path / f"{at}"
        client = open_small(directory)
        fill(client, [1, 2, 1])
        real = [frame.path.read_bytes()[frame.offset : frame.end] for frame in known_frames(directory)]
        forged = b"".join(real) * 8
        client.append(SHARD, [forged])
        fill(client, [2, 1], 5)
        crash(client) if ending == "crashed" else client.close()
        hit = known_frames(directory)[3]
        assert (hit.first, hit.count) == (4, 1)
        flip(hit.path, (hit.offset if at >= 0 else hit.end) + at, 0xFF)
        with open_small(directory) as opened:
            assert numbers_and_data(list(opened.scan(SHARD))) == expected_data(8, without={4})
            fill(opened, [1], 8)
            assert read_all(opened) == expected_data(9, without={4})
            assert opened.accounting(STREAM, GROUP).corrupt == 1


def test_frames_made_for_their_place_are_not_served_from_a_damaged_body(tmp_path) -> None:
    """Even a forger who knows the salt and the offset is skipped over while the header around is whole."""
    client = open_small(tmp_path)
    fill(client, [1, 1])
    last = known_frames(tmp_path)[-1]
    segment = SegmentFile(QUICK, str(last.path))
    salt = segment.header.salt if segment.header is not None else 0
    segment.close()
    forged = encode_frame(3, 1, [b"forged"], salt, last.end + 32)
    client.append(SHARD, [forged + bytes(64)])
    fill(client, [1, 1], 3)
    client.close()
    flip(last.path, last.end + 32 + len(forged) + 8, 0xFF)
    with open_small(tmp_path) as opened:
        assert numbers_and_data(list(opened.scan(SHARD))) == expected_data(5, without={2})


@pytest.mark.parametrize("copies", ["one", "both"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_damaged_segment_header_never_stops_the_shard(tmp_path, copies, ending) -> None:
    """One copy of two is enough; without both the segment is given up, and no number is used again."""
    frames = make_log(tmp_path, ending)
    flip(frames[0].path, 100, 0xFF)
    if copies == "both":
        flip(frames[0].path, 512 + 100, 0xFF)
    with open_small(tmp_path) as client:
        fill(client, [1], TOTAL)
        (last,) = client.append(SHARD, [b"on"])
        assert last.entry_number >= TOTAL + 1
        found = numbers_and_data(list(client.scan(SHARD)))
        assert len(found) == (TOTAL + 2 if copies == "one" else 2)
        read_all(client)
        assert_conserved(client.accounting(STREAM, GROUP))


@pytest.mark.parametrize("bit", range(24))
def test_a_position_that_damage_moved_does_not_let_numbers_be_used_twice(tmp_path, bit) -> None:
    """A bit of the published position is flipped, which may well lead to the boundary of an earlier frame."""
    client = open_small(tmp_path)
    for number in range(64):
        client.append(SHARD, [make_entry(WRITER, number, 32)])
    crash(client)
    flip(tmp_path / "small/v1/shard-0000/state", bit // 8, 1 << bit % 8)
    with open_small(tmp_path) as opened:
        (appended,) = opened.append(SHARD, [make_entry(WRITER, 64, 32)])
        found = numbers_and_data(list(opened.scan(SHARD)))
        assert found == {number: make_entry(WRITER, number, 32) for number in range(65)}
        assert appended.entry_number == 64


@pytest.mark.parametrize("offset", range(0, 64, 4))
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_damaged_word_of_the_state_page_costs_nothing(tmp_path, offset, mask) -> None:
    """Every hot word can be wrong: the shard opens, everything is there, and the next number is new."""
    make_log(tmp_path, "crashed")
    for at in (offset, offset + 3):
        flip(tmp_path / "small/v1/shard-0000/state", at, mask)
    with open_small(tmp_path) as opened:
        (appended,) = opened.append(SHARD, [b"on"])
        found = numbers_and_data(list(opened.scan(SHARD)))
        assert appended.entry_number >= TOTAL
        assert {n: found[n] for n in range(TOTAL)} == expected_data(TOTAL)
        read_all(opened)
        assert_conserved(opened.accounting(STREAM, GROUP))


def test_bytes_behind_the_end_are_never_served(tmp_path) -> None:
    """What a dead writer left half-stored is not mistaken for entries, and does not stop the next one."""
    for garbage in (b"\xff" * 100, b"COMETEND", b"COMETIDX" + bytes(40), bytes(8) + b"x" * 50):
        directory = tmp_path / garbage[:8].hex()
        last = make_log(directory, "crashed")[-1]
        overwrite(last.path, last.end, garbage)
        with open_small(directory) as client:
            fill(client, [2, 1], TOTAL)
            assert numbers_and_data(list(client.scan(SHARD))) == expected_data(TOTAL + 3)


def test_a_header_whose_body_is_torn_hides_nothing_that_a_later_segment_holds(tmp_path) -> None:
    """The volume went away and came back in the same boot: numbers of lost entries are given out to new ones."""
    client = open_small(tmp_path)
    total = fill(client, [1] * 6)
    page = shard_directory(tmp_path) / "state"
    old_page = page.read_bytes()
    fill(client, [5], total)
    crash(client)
    frames = known_frames(tmp_path)
    flip(frames[2].path, frames[2].end - 8, 1)
    flip(frames[-1].path, frames[-1].end - 16, 1)
    overwrite(page, 0, old_page)
    with open_small(tmp_path) as client:
        (new,) = client.append(SHARD, [b"new"])
        assert new.entry_number == total
        assert numbers_and_data(list(client.scan(SHARD)))[total] == b"new"
