"""What a crash leaves at the end of a shard, or in the middle of it, costs itself and nothing that comes after."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_storage import MessageID
from tests.support.small_log import (
    GROUP,
    SHARD,
    STREAM,
    assert_conserved,
    crash,
    expected_data,
    fill,
    flip,
    known_frames,
    numbers_and_data,
    open_small,
    overwrite,
    read_all,
)


def killed_log(directory: Path, batches: list[int]) -> int:
    """A log whose writer was killed; returns the number of its entries."""
    client = open_small(directory)
    total = fill(client, batches)
    crash(client)
    return total


@pytest.mark.parametrize("length", [3, 12, 20, 100])
def test_garbage_behind_the_last_entry_stays_behind(length, tmp_path) -> None:
    """Appends after the restart are read like all others, and the garbage never is."""
    total = killed_log(tmp_path / "log", [1] * 20)
    last = known_frames(tmp_path / "log")[-1]
    overwrite(last.path, last.end, b"\xa5" * length)
    with open_small(tmp_path / "log") as client:
        assert fill(client, [1, 4], total) == total + 5
        assert read_all(client) == expected_data(total + 5)
        assert client.len(SHARD) == total + 5


@pytest.mark.parametrize("kept", [1, 8, 31, 33])
def test_a_torn_last_entry_is_counted_and_does_not_block_what_follows(kept, tmp_path) -> None:
    """It is corrupt, is told as such to every group, and the next entries get other numbers."""
    total = killed_log(tmp_path / "log", [1] * 20)
    last = known_frames(tmp_path / "log")[-1]
    overwrite(last.path, last.offset + kept, bytes(last.end - last.offset - kept))
    with open_small(tmp_path / "log") as client:
        (again,) = client.append(SHARD, [b"after"])
        assert again.entry_number >= total
        found = read_all(client)
        assert found.pop(again.entry_number) == b"after"
        assert found == expected_data(total, {total - 1})
        accounting = client.accounting(STREAM, GROUP)
        assert (accounting.corrupt + accounting.lost, accounting.pending) == (1, 0)
        assert_conserved(accounting)


@pytest.mark.parametrize("inside", [0, 4, 33], ids=["length", "number", "payload"])
def test_a_flipped_byte_is_never_served_and_blocks_nothing(inside, tmp_path) -> None:
    """Whether in a length, a number or the payload: its frame is left out, and the group goes on behind it."""
    total = killed_log(tmp_path / "log", [1] * 20)
    frame = known_frames(tmp_path / "log")[7]
    flip(frame.path, frame.offset + inside, 0x10)
    with open_small(tmp_path / "log") as client:
        assert read_all(client) == expected_data(total, frame.numbers)
        assert client.accounting(STREAM, GROUP).corrupt == 1


def test_entries_without_bytes_stop_nothing(tmp_path) -> None:
    """A kill behind empty entries leaves them and all that follows."""
    entries = [b"", b"a", b"", b"", b"b", b""]
    client = open_small(tmp_path / "log")
    for data in entries:
        client.append(SHARD, [data])
    client.append(SHARD, entries)
    crash(client)
    with open_small(tmp_path / "log") as client:
        (after,) = client.append(SHARD, [b"after"])
        assert after == MessageID(0, 2 * len(entries))
        found = numbers_and_data(list(client.scan(SHARD)))
        assert list(found.values()) == [*entries, *entries, b"after"]
        assert client.len(SHARD) == 2 * len(entries) + 1
