"""Is what a power cut took still known as lost after rotations, evictions and more power cuts?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage import Accounting, Client, Consumer
from tests.support.power_door import PowerDoor
from tests.support.small_log import (
    GROUP,
    SHARD,
    STREAM,
    BootedDoor,
    assert_conserved,
    copy_log,
    crash,
    fill,
    memory_directory,
    open_small,
    segment_paths,
)

SEGMENT_BYTES = 4096


class RecordingDoor(BootedDoor):
    """Knows which files were synced."""

    def __init__(self) -> None:
        self.synced: set[int] = set()

    def sync_data(self, fd: int) -> None:
        """Note it."""
        self.synced.add(self.descriptor_status(fd).inode)


@pytest.fixture
def tmp_path(tmp_path) -> Iterator[Path]:
    """In memory, where an inode number is not used again soon."""
    yield from memory_directory(tmp_path)


@pytest.fixture
def after_a_cut(tmp_path) -> Path:
    """A log with three entries; what was appended behind them was lost with the power."""
    client = open_small(tmp_path / "before", segment_bytes=SEGMENT_BYTES)
    total = fill(client, [3])
    client.sync()
    synced = copy_log(tmp_path / "before", tmp_path / "after")
    fill(client, [5], total)
    crash(client)
    return synced


def consumed(client: Client) -> Accounting:
    """The accounting of a group that was given everything."""
    with Consumer(client, GROUP, stream=STREAM) as consumer:
        while messages := consumer.read(count=1000):
            consumer.ack(*(message.id for message in messages))
    found = client.accounting(STREAM, GROUP)
    assert_conserved(found)
    return found


def test_a_segment_that_replaces_an_empty_one_tells_of_the_same_loss(after_a_cut) -> None:
    """The first append after the cut is too large for the new segment, which is then begun once more."""
    with open_small(after_a_cut, door=BootedDoor(), segment_bytes=SEGMENT_BYTES) as client:
        (appended,) = client.append(SHARD, [b"x" * 3 * SEGMENT_BYTES])
        found = consumed(client)
    assert (found.corrupt, found.lost, found.delivered) == (0, appended.entry_number - 3, 4)


def test_an_empty_segment_that_is_begun_again_by_a_claim_tells_of_the_same_loss(after_a_cut) -> None:
    """A frame was being stored, and not yet published, when the process died."""
    with open_small(after_a_cut, door=BootedDoor(), segment_bytes=SEGMENT_BYTES) as client:
        list(client.scan(SHARD))
    with segment_paths(after_a_cut)[-1].open("r+b") as file:
        file.seek(1024)
        file.write(b"\xff" * 64)
    with open_small(after_a_cut, door=BootedDoor(), segment_bytes=SEGMENT_BYTES) as client:
        number = client.append(SHARD, [b"new"])[0].entry_number
        found = consumed(client)
    assert (found.corrupt, found.lost, found.delivered) == (0, number - 3, 4)


def test_what_was_lost_before_the_first_segment_counts_as_lost_also_before_it_is_read(after_a_cut) -> None:
    """A number does not change its class when a consumer comes by."""
    with open_small(after_a_cut, door=BootedDoor(), segment_bytes=SEGMENT_BYTES) as client:
        number = client.append(SHARD, [b"new"])[0].entry_number
        with Consumer(client, GROUP, stream=STREAM):
            segment_paths(after_a_cut)[0].unlink()
            before = client.accounting(STREAM, GROUP)
        assert (before.evicted, before.lost, before.pending) == (3, number - 3, 1)
        after = consumed(client)
        assert (after.evicted, after.lost, after.delivered) == (3, number - 3, 1)


def test_a_jump_over_lost_numbers_is_synced_although_no_entry_follows(tmp_path) -> None:
    """In a shard without entries the new segment begins where the old one did: only its number is another."""
    client = open_small(tmp_path / "before", segment_bytes=SEGMENT_BYTES)
    client.append(SHARD, [b"never synced"])
    path = segment_paths(tmp_path / "before")[0]
    crash(client)
    path.write_bytes(bytes(path.stat().st_size))
    (path.parent / "state").unlink()
    door = RecordingDoor()
    with open_small(tmp_path / "before", door=door, segment_bytes=SEGMENT_BYTES) as client:
        list(client.scan(SHARD))
        _, begun = segment_paths(tmp_path / "before")
        assert begun.stat().st_ino in door.synced


def test_no_power_cut_gives_the_record_of_a_deleted_group_to_a_new_one(tmp_path) -> None:
    """What the old group had acknowledged is read by the new one of the same name."""
    for seed in range(12):
        directory = tmp_path / f"before{seed}"
        directory.mkdir(mode=0o700)
        door = PowerDoor(1, directory)
        client = open_small(directory, door=door)
        fill(client, [3])
        assert consumed(client).delivered == 3
        client.sync()
        client.delete_group(STREAM, GROUP)
        consumer = Consumer(client, GROUP, stream=STREAM)
        assert len(consumer.read()) == 3
        door.cut_power(directory, tmp_path / f"after{seed}", random.Random(seed))
        crash(client)
        with open_small(tmp_path / f"after{seed}", door=BootedDoor()) as after:
            assert after.accounting(STREAM, GROUP).delivered == 0
