"""Does a group's record survive a power cut that leaves any sectors of what was not synced?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from comet_storage._format.group_record import GroupRecord, decode_group_file
from comet_storage._format.limits import GROUP_FILE_BYTES, SECTOR_BYTES
from comet_storage._groups.lease import Lease, take_lease
from tests.support.engine import free_reserve
from tests.support.small_log import QuickDoor

SECTORS = GROUP_FILE_BYTES // SECTOR_BYTES
RANGES = tuple((1000 * index, 1000 * index + 500, 0) for index in range(1, 65))
"""As many as fit, so that each record spans two sectors."""
steps = st.lists(st.sampled_from(["commit", "commit", "sync", "failed sync", "kill"]), max_size=30)
choices = st.lists(st.integers(0, 1 << 30), min_size=SECTORS, max_size=SECTORS)


class _SectorDoor(QuickDoor):
    """Remembers every version of each sector that may be what the disk has."""

    def __init__(self) -> None:
        self.versions: list[list[bytes]] = [[bytes(SECTOR_BYTES)] for _ in range(SECTORS)]
        self.failing = False

    def write(self, fd: int, data: bytes, offset: int) -> None:
        super().write(fd, data, offset)
        for index, sector in enumerate(self._sectors(fd)):
            if sector != self.versions[index][-1]:
                self.versions[index].append(sector)

    def sync_data(self, fd: int) -> None:
        if self.failing:
            raise OSError(5, "bad disk")
        self.versions = [[sector] for sector in self._sectors(fd)]

    @staticmethod
    def _sectors(fd: int) -> list[bytes]:
        data = os.pread(fd, GROUP_FILE_BYTES, 0).ljust(GROUP_FILE_BYTES, b"\0")
        return [data[at : at + SECTOR_BYTES] for at in range(0, GROUP_FILE_BYTES, SECTOR_BYTES)]

    def survivor(self, chosen: list[int]) -> bytes:
        """What the disk has after a power cut: of each sector any version since the last sync."""
        return b"".join(v[pick % len(v)] for v, pick in zip(self.versions, chosen, strict=True))


@given(steps, choices)
def test_a_power_cut_never_loses_the_record_that_was_synced_last(actions, chosen) -> None:
    """Whoever wrote, synced, failed to sync or died before: what is left proves itself and is not older."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        path = f"{directory}/group-readers"
        door = _SectorDoor()

        def lease_again() -> tuple[Lease, GroupRecord]:
            found = take_lease(door, path, free_reserve, GroupRecord())
            assert found is not None
            return found

        lease, record = lease_again()
        committed = record.offset
        synced = -1
        for action in actions:
            if action == "commit":
                committed += 1
                lease.commit(GroupRecord(offset=committed, ranges=RANGES))
            elif action == "kill":
                lease.close()
                lease, record = lease_again()
                assert record.offset == committed
                # A record that was there was synced by the new holder before it wrote.
                synced = committed
            else:
                door.failing = action == "failed sync"
                try:
                    lease.sync()
                    synced = committed
                except OSError:
                    pass
                door.failing = False
            found = decode_group_file(door.survivor(chosen))
            assert (found.record.offset if found else -1) >= synced
        lease.close()
