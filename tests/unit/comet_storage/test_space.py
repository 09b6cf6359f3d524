"""The ledger: what is reserved before it is allocated, and what has to go when there is no room."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import pytest

from comet_storage import LogFullError
from comet_storage._log.space import SpaceLedger
from comet_storage._os.door import Door
from comet_storage.config import SMALL_FILES_BYTES
from tests.support.engine import PAGE, ManualDoor, keeper, ledger, write_header

ASIDE = SMALL_FILES_BYTES // 2


def used(directory: Path) -> int:
    """Return what the ledger says."""
    data = (directory / "log.lock").read_bytes()
    assert struct.unpack_from("<I", data, 1036)[0] == zlib.crc32(data[1024:1036])
    return int(struct.unpack_from("<Q", data, 1024)[0])


def take(space: SpaceLedger, path: Path, size: int) -> None:
    """Make a file with that many blocks through the ledger."""

    def allocate() -> None:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    path.parent.mkdir(parents=True, exist_ok=True)
    space.reserve(size, allocate)


def take_segment(space: SpaceLedger, path: Path, size: int, created: int) -> None:
    """Make a segment with that many blocks, begun at that time of the log clock."""
    take(space, path, size)
    write_header(path, created)


def segment(directory: Path, shard: int, number: int) -> Path:
    """Return a segment's path."""
    return directory / f"events/v1/shard-{shard:04d}/{number:020d}.segment"


def names(directory: Path) -> list[tuple[int, int]]:
    """Return shard and first entry of every segment."""
    return sorted((int(path.parent.name[6:]), int(path.name[:20])) for path in directory.rglob("*.segment"))


def test_the_ledger_starts_with_what_is_there_and_goes_up_before_blocks_are_taken(tmp_path) -> None:
    """A process that dies in the middle of an allocation leaves a ledger that is too high, never too low."""
    space = ledger(tmp_path, 1 << 20)
    take(space, segment(tmp_path, 0, 0), 8 * PAGE)
    assert used(tmp_path) == pytest.approx(space.measure(), abs=2 * PAGE)
    seen = []
    space.reserve(PAGE, lambda: seen.append(used(tmp_path)))
    assert used(tmp_path) == seen[0] >= 9 * PAGE
    space.release(lambda: PAGE)
    assert used(tmp_path) == seen[0] - PAGE
    space.close()


def test_a_refused_allocation_leaves_the_ledger_as_it_is_on_the_disk(tmp_path) -> None:
    """What a full volume gave before it refused is measured."""
    space = ledger(tmp_path, 1 << 20)
    take(space, segment(tmp_path, 0, 0), PAGE)

    def refuse() -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(LogFullError):
        space.reserve(100 * PAGE, refuse)
    assert used(tmp_path) == space.measure()
    space.close()


@pytest.mark.parametrize("damage", [b"", b"\xff" * 12, b"\0" * 12])
def test_a_damaged_ledger_is_measured_anew(damage, tmp_path) -> None:
    """Nothing is believed that does not prove itself."""
    space = ledger(tmp_path, 1 << 20)
    take(space, segment(tmp_path, 0, 0), 4 * PAGE)
    with (tmp_path / "log.lock").open("r+b") as file:
        file.seek(1024)
        file.write(damage)
        file.truncate()
    space.reserve(PAGE, lambda: None)
    assert used(tmp_path) == space.measure() + PAGE
    space.close()


def test_the_oldest_closed_segments_of_the_whole_log_go_first(tmp_path) -> None:
    """Age decides between shards; the last segment of a shard stays."""
    bound = ASIDE + 64 * PAGE
    space = ledger(tmp_path, bound)
    for age, (shard, number) in enumerate([(0, 0), (1, 0), (0, 10), (1, 10)]):
        take_segment(space, segment(tmp_path, shard, number), 10 * PAGE, 1000 + age)
    take(space, segment(tmp_path, 2, 0), 22 * PAGE)
    assert names(tmp_path) == [(0, 10), (1, 0), (1, 10), (2, 0)]
    take(space, segment(tmp_path, 3, 0), 15 * PAGE)
    assert names(tmp_path) == [(0, 10), (1, 10), (2, 0), (3, 0)]
    assert space.measure() <= bound
    space.close()


def test_within_a_shard_numbers_decide_and_not_the_clock(tmp_path) -> None:
    """A later segment with an older time waits for its predecessors."""
    space = ledger(tmp_path, ASIDE + 40 * PAGE)
    for age, number in enumerate([0, 10, 20]):
        take_segment(space, segment(tmp_path, 0, number), 8 * PAGE, 1000 - age)
    take(space, segment(tmp_path, 1, 0), 16 * PAGE)
    assert names(tmp_path) == [(0, 10), (0, 20), (1, 0)]
    space.close()


def test_when_all_is_being_written_shards_without_a_writer_are_asked_to_close(tmp_path) -> None:
    """Only then; and if that gives no room either, the error says so."""
    asked = []
    keeping, space = keeper(tmp_path, ASIDE + 32 * PAGE)
    keeping.evictor.close_orphan = lambda name: asked.append(name.shard_id) is None
    take(space, segment(tmp_path, 0, 0), 10 * PAGE)
    take(space, segment(tmp_path, 1, 0), 10 * PAGE)
    assert asked == []
    with pytest.raises(LogFullError, match="everything in it is being written"):
        take(space, segment(tmp_path, 2, 0), 30 * PAGE)
    assert asked == [0, 1, 2]
    space.close()


def test_with_reject_new_nothing_is_evicted(tmp_path) -> None:
    """The error names the setting."""
    space = ledger(tmp_path, ASIDE + 32 * PAGE, when_full="reject_new")
    for number in (0, 10):
        take(space, segment(tmp_path, 0, number), 10 * PAGE)
    with pytest.raises(LogFullError, match="reject_new"):
        take(space, segment(tmp_path, 1, 0), 30 * PAGE)
    assert (0, 0) in names(tmp_path)
    space.close()


def test_the_free_space_floor_is_checked_before_blocks_are_taken(tmp_path) -> None:
    """Below the floor no allocation is even tried."""

    class FullDoor(Door):
        def free_bytes(self, path: str) -> int:
            return 10 * PAGE

    space = ledger(tmp_path, 1 << 20, door=FullDoor(), min_free_bytes=8 * PAGE)
    space.reserve(2 * PAGE, lambda: None)
    with pytest.raises(LogFullError, match="min_free_bytes"):
        space.reserve(3 * PAGE, lambda: pytest.fail("allocated"))
    space.close()


def test_two_processes_share_one_ledger(tmp_path) -> None:
    """What one reserved, the other one sees."""
    one, other = ledger(tmp_path, ASIDE + 40 * PAGE), ledger(tmp_path, ASIDE + 40 * PAGE, when_full="reject_new")
    take(one, segment(tmp_path, 0, 0), 20 * PAGE)
    with pytest.raises(LogFullError):
        take(other, segment(tmp_path, 1, 0), 20 * PAGE)
    one.close()
    other.close()


def test_at_the_bound_the_log_is_measured_only_now_and_then(tmp_path) -> None:
    """Every allocation at the bound evicts, but walks over all files only after some seconds."""

    class WatchingDoor(ManualDoor):
        walks = 0

        def list_blocks(self, path: str) -> tuple[int, list[str]]:
            self.walks += path == str(tmp_path)
            return super().list_blocks(path)

    door = WatchingDoor()
    space = ledger(tmp_path, ASIDE + 64 * PAGE, door=door)
    for number in range(40):
        take(space, segment(tmp_path, 0, number), 8 * PAGE)
    assert door.walks <= 2
    assert space.measure() <= ASIDE + 64 * PAGE
    door.now += 60
    before = door.walks
    take(space, segment(tmp_path, 0, 99), 8 * PAGE)
    assert door.walks == before + 1
    space.close()
