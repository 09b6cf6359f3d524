"""The clock by which data ages: it runs with the machine, and no setting of the wall clock moves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, RetentionConfig, StorageConfig
from comet_storage._format.log_clock import CLOCK_OFFSETS, ClockReading, decode_clock, encode_clock_slot
from comet_storage._log.clock import PLAUSIBLE_OFF_NS, LogClock
from comet_storage._log.layout import LogLayout
from comet_storage._log.space import SpaceLedger
from tests.support.engine import ManualDoor

SECOND = 10**9
DAY = 86400 * SECOND
YEAR_2026 = 1_770_000_000 * SECOND
SHARD = "events:v1:shard:0000"


class MachineDoor(ManualDoor):
    """A machine that can be restarted, with a wall clock that can be set."""

    def __init__(self, wall_ns: int = YEAR_2026) -> None:
        super().__init__()
        self.wall_ns = wall_ns
        self.boot = b"the first boot.."

    def boot_id(self) -> bytes:
        """Return this boot's id."""
        return self.boot

    def run(self, seconds: float) -> None:
        """Let time pass on all clocks."""
        self.now += seconds
        self.wall_ns += int(seconds * SECOND)

    def restart(self, wall_ns: int, boot: bytes = b"the second boot.") -> None:
        """Begin another boot, with what the wall clock says then."""
        self.boot, self.now, self.wall_ns = boot, 7.0, wall_ns


def clock(directory: Path, door: MachineDoor, newest: int = 0) -> LogClock:
    """A process's view of the clock."""
    layout = LogLayout(door, str(directory))
    ledger = SpaceLedger(door, layout, bound=1 << 20, when_full="evict_oldest", min_free_bytes=0, lock_timeout=1.0)
    return LogClock(door, ledger, lambda: newest)


def test_it_runs_as_fast_as_the_machine_and_alike_for_all(tmp_path) -> None:
    """Two processes of one boot have the same time, whenever they asked first."""
    door = MachineDoor()
    one = clock(tmp_path, door)
    start = one.now_ns()
    door.run(10)
    other = clock(tmp_path, door)
    assert one.now_ns() == other.now_ns() == start + 10 * SECOND
    one.save()
    door.run(1)
    assert one.now_ns() == other.now_ns() == clock(tmp_path, door).now_ns() == start + 11 * SECOND


@pytest.mark.parametrize("step", [365 * 20 * DAY, 3600 * SECOND, -3600 * SECOND, -YEAR_2026 + 5])
def test_setting_the_wall_clock_moves_nothing(step, tmp_path) -> None:
    """Neither forwards nor backwards, also for a process that starts after it."""
    door = MachineDoor()
    one = clock(tmp_path, door)
    start = one.now_ns()
    door.wall_ns += step
    one.save()
    assert one.now_ns() == start
    assert clock(tmp_path, door).now_ns() == start


def test_the_time_that_a_machine_was_off_counts(tmp_path) -> None:
    """As far as the wall clock is to be believed."""
    door = MachineDoor()
    one = clock(tmp_path, door)
    start = one.now_ns()
    door.run(100)
    one.save()
    door.restart(door.wall_ns + 3 * DAY)
    assert clock(tmp_path, door).now_ns() == start + 100 * SECOND + 3 * DAY


@pytest.mark.parametrize("step", [-1, -YEAR_2026 + DAY, PLAUSIBLE_OFF_NS + 1, 365 * DAY])
def test_a_step_over_a_restart_that_is_not_plausible_counts_as_nothing(step, tmp_path) -> None:
    """A clock that went back, or far ahead, says nothing about how long the machine was off."""
    door = MachineDoor()
    one = clock(tmp_path, door)
    one.save()
    kept = one.now_ns()
    door.restart(door.wall_ns + step)
    assert clock(tmp_path, door).now_ns() == kept


def test_a_board_that_boots_in_1970_and_then_meets_its_time_server_loses_no_time_and_gains_none(tmp_path) -> None:
    """Over several restarts the clock goes on by what the machine ran."""
    door = MachineDoor(wall_ns=5 * SECOND)
    ran = 0
    start = clock(tmp_path, door).now_ns()
    for boot in range(4):
        view = clock(tmp_path, door)
        view.now_ns()
        door.run(600)
        ran += 600
        door.wall_ns = YEAR_2026 + boot * DAY
        door.run(60)
        ran += 60
        view.save()
        assert view.now_ns() == start + ran * SECOND
        door.restart(5 * SECOND, b"boot number %04d" % boot)


def test_a_system_without_boot_ids_goes_by_the_wall_clock(tmp_path) -> None:
    """Zeros prove no boot, so each process starts as after a restart; time never runs backwards for it."""
    door = MachineDoor()
    door.boot = bytes(16)
    one = clock(tmp_path, door)
    start = one.now_ns()
    door.run(50)
    assert clock(tmp_path, door).now_ns() == start + 50 * SECOND
    door.wall_ns -= 10 * DAY
    assert clock(tmp_path, door).now_ns() >= start + 50 * SECOND


@pytest.mark.parametrize("damage", ["newer", "both"])
def test_a_torn_slot_costs_what_was_kept_last(damage, tmp_path) -> None:
    """Then the one before counts; without any, the newest time that a segment knows of."""
    door = MachineDoor()
    one = clock(tmp_path, door)
    start = one.now_ns()
    door.run(30)
    one.save()
    found = decode_clock((tmp_path / "log.lock").read_bytes())
    assert found is not None
    with (tmp_path / "log.lock").open("r+b") as file:
        for sequence in (found[0],) if damage == "newer" else (0, 1):
            file.seek(CLOCK_OFFSETS[sequence % 2] + 20)
            file.write(b"torn")
    assert clock(tmp_path, door, newest=77).now_ns() == (start + 30 * SECOND if damage == "newer" else 77)


def test_the_slots_are_where_the_format_says() -> None:
    """Bytes as in docs/disk-format.md, section 4."""
    reading = ClockReading(b"0123456789abcdef", 1, 2, 3)
    slot = encode_clock_slot(4, reading)
    assert len(slot) == 512
    assert (
        slot[:56].hex()
        == (
            "434c434b" + "28000000" + "0400000000000000" + b"0123456789abcdef".hex() + "01" + "00" * 7 + "02" + "00" * 7
        )
        + "03"
        + "00" * 7
    )
    data = bytes(1536) + slot + encode_clock_slot(5, reading._replace(log_ns=9))
    assert decode_clock(data) == (5, reading._replace(log_ns=9))
    assert decode_clock(b"") is None


def test_a_segment_notes_when_it_was_begun(tmp_path) -> None:
    """By the log clock, whatever the wall clock says."""
    door = MachineDoor()
    config = CometConfig(
        storage=StorageConfig(max_file_size=4096, sync_interval=300), retention=RetentionConfig(max_total_size=1 << 22)
    )
    with Client(tmp_path / "log", config, _door=door) as client:
        client.append(SHARD, [bytes(3000)])
        start = client._writers[SHARD].active.header.created_log_ns
        door.run(60)
        door.wall_ns += 1000 * DAY
        client.append(SHARD, [bytes(3000)])
        assert client._writers[SHARD].active.header.created_log_ns == start + 60 * SECOND
