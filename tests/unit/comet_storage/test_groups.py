"""A group's record of a shard, the lease on it, and the group's registration."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from comet_storage import AckError
from comet_storage._format.group_record import GroupRecord, decode_group_file
from comet_storage._format.limits import GROUP_SLOT_BYTES
from comet_storage._groups.lease import take_lease
from comet_storage._groups.registry import register_group
from comet_storage._os.door import Door
from comet_storage._shard.group_file import read_group_record
from tests.support.engine import free_reserve


@pytest.fixture
def path(tmp_path) -> str:
    """Where the record is."""
    return str(tmp_path / "group-readers")


def test_one_consumer_has_the_lease_and_the_next_gets_what_it_left(path) -> None:
    """While it is held nobody else gets it; afterwards the record is there, with a higher generation."""
    lease, record = take_lease(Door(), path, free_reserve, GroupRecord(start=5, offset=5)) or pytest.fail("no lease")
    assert (record.start, record.generation) == (5, 1)
    assert take_lease(Door(), path, free_reserve, GroupRecord()) is None
    lease.commit(GroupRecord(start=5, offset=9, generation=1))
    lease.sync()
    lease.close()
    lease.close()
    again, record = take_lease(Door(), path, free_reserve, GroupRecord()) or pytest.fail("no lease")
    assert (record.offset, record.generation) == (9, 2)
    again.close()


def test_commits_leave_the_newest_and_the_synced_record_alone(path) -> None:
    """A commit goes to a slot with neither, so that a torn write and a power cut each leave the one that counts."""
    lease, _ = take_lease(Door(), path, free_reserve, GroupRecord()) or pytest.fail("no lease")
    lease.commit(GroupRecord(offset=1))
    lease.sync()
    synced = decode_group_file(Path(path).read_bytes())
    assert synced is not None
    newest = synced
    for offset in range(2, 12):
        before = Path(path).read_bytes()
        lease.commit(GroupRecord(offset=offset))
        after = Path(path).read_bytes()
        for kept in (newest, synced):
            at = kept.place * GROUP_SLOT_BYTES
            assert after[at : at + GROUP_SLOT_BYTES] == before[at : at + GROUP_SLOT_BYTES]
        found = decode_group_file(after)
        assert found is not None
        assert (found.sequence, found.record.offset) == (newest.sequence + 1, offset)
        newest = found
    lease.close()


def test_commits_during_a_sync_leave_alone_what_is_being_synced(path) -> None:
    """Otherwise the sync would make half of one record and half of another durable, and take it for the synced one."""

    class CommittingDoor(Door):
        lease = None

        def sync_data(self, fd: int) -> None:
            if self.lease is not None:
                before = Path(path).read_bytes()
                syncing = decode_group_file(before)
                assert syncing is not None
                for offset in range(10, 15):
                    self.lease.commit(GroupRecord(offset=offset))
                at = syncing.place * GROUP_SLOT_BYTES
                assert Path(path).read_bytes()[at : at + GROUP_SLOT_BYTES] == before[at : at + GROUP_SLOT_BYTES]
            super().sync_data(fd)

    door = CommittingDoor()
    lease, _ = take_lease(door, path, free_reserve, GroupRecord()) or pytest.fail("no lease")
    lease.commit(GroupRecord(offset=1))
    lease.sync()
    lease.commit(GroupRecord(offset=2))
    door.lease = lease
    lease.sync()
    assert lease.dirty
    lease.close()


def test_a_commit_that_failed_does_not_cost_the_other_slot(path) -> None:
    """A write that tore its slot is repeated into the same one."""

    class TearingDoor(Door):
        tearing = False

        def write(self, fd: int, data: bytes, offset: int) -> None:
            if self.tearing:
                super().write(fd, data[:30], offset)
                raise OSError(errno.ENOSPC, "full")
            super().write(fd, data, offset)

    door = TearingDoor()
    lease, _ = take_lease(door, path, free_reserve, GroupRecord()) or pytest.fail("no lease")
    lease.commit(GroupRecord(offset=1))
    door.tearing = True
    for _ in range(3):
        with pytest.raises(OSError, match="full"):
            lease.commit(GroupRecord(offset=2))
        assert read_group_record(door, path) == GroupRecord(offset=1)
    door.tearing = False
    lease.commit(GroupRecord(offset=3))
    assert read_group_record(door, path) == GroupRecord(offset=3)
    lease.close()


def test_a_sync_that_failed_is_done_again(path) -> None:
    """What could not be made durable is not taken for durable."""

    class FailingDoor(Door):
        failing = True
        synced = 0

        def sync_data(self, fd: int) -> None:
            if self.failing:
                raise OSError(errno.EIO, "bad disk")
            self.synced += 1

    door = FailingDoor()
    lease, _ = take_lease(door, path, free_reserve, GroupRecord()) or pytest.fail("no lease")
    with pytest.raises(OSError, match="bad disk"):
        lease.sync()
    door.failing = False
    lease.sync()
    lease.sync()
    assert door.synced == 1
    lease.close()


def test_a_deleted_record_ends_the_lease(path) -> None:
    """An acknowledgement after the group was deleted is an error, not a write into nothing."""
    lease, _ = take_lease(Door(), path, free_reserve, GroupRecord()) or pytest.fail("no lease")
    Path(path).unlink()
    with pytest.raises(AckError, match="lost"):
        lease.commit(GroupRecord(offset=1))
    lease.close()
    with pytest.raises(AckError):
        lease.check()


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 4096, b"\0" * 4096])
def test_a_record_that_does_not_prove_itself_starts_anew(data, path) -> None:
    """The group is read from its start again, at least once each."""
    Path(path).write_bytes(data)
    assert read_group_record(Door(), path) is None
    lease, record = take_lease(Door(), path, free_reserve, GroupRecord(start=3, offset=3)) or pytest.fail("no lease")
    assert record.offset == 3
    lease.close()


def test_a_damaged_slot_costs_only_the_acknowledgements_since_the_one_before(path) -> None:
    """The record is never believed when it does not prove itself, and the one before it is still there."""
    lease, _ = take_lease(Door(), path, free_reserve, GroupRecord()) or pytest.fail("no lease")
    for offset in (5, 7):
        lease.commit(GroupRecord(offset=offset))
    lease.close()
    found = decode_group_file(Path(path).read_bytes())
    assert found is not None
    data = bytearray(Path(path).read_bytes())
    data[found.place * GROUP_SLOT_BYTES + 20] ^= 1
    Path(path).write_bytes(data)
    lease, record = take_lease(Door(), path, free_reserve, GroupRecord()) or pytest.fail("no lease")
    assert record.offset == 5
    lease.close()


def test_a_group_is_registered_once_and_leaves_no_temporary_file(tmp_path) -> None:
    """The second registration finds the first; a failed one leaves nothing."""
    path = str(tmp_path / "group-readers.json")
    assert register_group(Door(), path, "readers", "oldest")
    before = (tmp_path / "group-readers.json").read_bytes()
    assert json.loads(before)["start"] == "oldest"
    assert not register_group(Door(), path, "readers", "newest")
    assert (tmp_path / "group-readers.json").read_bytes() == before

    class FullDoor(Door):
        def write(self, fd: int, data: bytes, offset: int) -> None:
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        register_group(FullDoor(), str(tmp_path / "group-other.json"), "other", "oldest")
    assert [entry.name for entry in tmp_path.iterdir()] == ["group-readers.json"]


def test_what_a_failed_sync_left_is_stored_again_before_the_next_one(path) -> None:
    """The kernel takes pages that the disk refused for written; a sync alone would not write them any more."""

    class RefusingDoor(Door):
        refused = True
        written: list[bytes]

        def sync_data(self, fd: int) -> None:
            if self.refused:
                raise OSError(errno.EIO, "refused")
            super().sync_data(fd)

        def write(self, fd: int, data: bytes, offset: int) -> None:
            self.written = [*getattr(self, "written", []), data]
            super().write(fd, data, offset)

    door = RefusingDoor()
    lease, _ = take_lease(door, path, free_reserve, GroupRecord()) or pytest.fail("no lease")
    lease.commit(GroupRecord(offset=7))
    with pytest.raises(OSError, match="refused"):
        lease.sync()
    door.refused = False
    before = len(door.written)
    lease.sync()
    assert len(door.written) == before + 1
    assert read_group_record(Door(), path) == GroupRecord(offset=7)
    lease.sync()
    assert len(door.written) == before + 1
    lease.close()
