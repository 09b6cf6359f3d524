"""Retention as users have it: what goes by age, size and need, what stays, and what is told of it."""

from __future__ import annotations

import errno
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from comet_storage import Client, CometConfig, CometError, Consumer, LogFullError, RetentionConfig, StorageConfig
from comet_storage._os.door import Door
from comet_storage.config import SMALL_FILES_BYTES
from tests.support.engine import ManualDoor
from tests.support.small_log import crash

STREAM = "events:v1"
SHARD = f"{STREAM}:shard:0000"
HOUR = 3600.0
SEGMENT = 4096
ENTRY = bytes(3000)
"""One fills a segment."""


def config(**retention: Any) -> CometConfig:
    """Small segments and one rule at a time; a flusher that sleeps through the test."""
    return CometConfig(
        storage=StorageConfig(max_file_size=SEGMENT, sync_interval=300),
        retention=RetentionConfig(**{"max_total_size": 1 << 22, "min_files_to_keep": 1, **retention}),
    )


def open_log(directory: Path, door: Door, **retention: Any) -> Client:
    """Open a log."""
    return Client(directory / "log", config(**retention), _door=door)


def fill(client: Client, door: ManualDoor, count: int, *, shard: str = SHARD, every: float = HOUR) -> None:
    """Append an entry per segment, with so much time behind each."""
    for _ in range(count):
        client.append(shard, [ENTRY])
        door.now += every
        door.wall_ns += int(every * 1e9)


def held(client: Client, shard: str = SHARD) -> list[int]:
    """Numbers of the entries that a shard holds."""
    return [message.id.entry_number for message in client.scan(shard)]


def test_data_older_than_the_limit_goes_and_the_rest_stays(tmp_path) -> None:
    """Ten entries, one an hour, with a limit of four hours and a bit: those closed before go."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=timedelta(hours=4.5)) as client:
        fill(client, door, 10)
        client.force_retention_cleanup()
        # The sixth was closed when the seventh came, four hours before now.
        assert held(client) == [5, 6, 7, 8, 9]
        client.force_retention_cleanup()
        assert held(client) == [5, 6, 7, 8, 9]


def test_without_rules_nothing_goes(tmp_path) -> None:
    """By default there is no limit of age: what nobody fetched for a year is still there."""
    door = ManualDoor()
    with Client(tmp_path / "log", _door=door) as client:
        fill(client, door, 5, every=24 * 365 * HOUR)
        client.force_retention_cleanup()
        assert len(held(client)) == 5


@pytest.mark.parametrize("step_seconds", [3600 * 24 * 365 * 56, -3600 * 24 * 365 * 20])
def test_setting_the_wall_clock_expires_nothing(step_seconds, tmp_path) -> None:
    """Also after closing and opening again in the same boot."""
    door = ManualDoor()
    for _ in range(2):
        with open_log(tmp_path, door, max_age=HOUR, force_delete_after=HOUR) as client:
            fill(client, door, 3, every=1.0)
            door.wall_ns += step_seconds * 10**9
            client.force_retention_cleanup()
    with open_log(tmp_path, door, max_age=HOUR) as client:
        assert held(client) == [0, 1, 2, 3, 4, 5]


class RestartableDoor(ManualDoor):
    """A board whose boots can be told apart."""

    boot = b"the first boot.."

    def boot_id(self) -> bytes:
        """Return this boot's id."""
        return self.boot


def test_a_board_that_boots_in_1970_and_then_meets_its_time_server_expires_nothing(tmp_path) -> None:
    """And what it recorded then ages by the time that the board ran."""
    door = RestartableDoor()
    door.wall_ns = 20 * 10**9
    with open_log(tmp_path, door, max_age=10 * HOUR) as client:
        fill(client, door, 2)
        door.wall_ns = 1_770_000_000 * 10**9
        fill(client, door, 2)
        client.force_retention_cleanup()
        assert held(client) == [0, 1, 2, 3]
    door.boot, door.now, door.wall_ns = b"the second boot.", 3.0, 20 * 10**9
    with open_log(tmp_path, door, max_age=10 * HOUR) as client:
        fill(client, door, 1)
        door.wall_ns = 1_770_100_000 * 10**9
        client.force_retention_cleanup()
        assert held(client) == [0, 1, 2, 3, 4]
        fill(client, door, 8)
        client.force_retention_cleanup()
        # Thirteen hours of running, over both boots; the third entry's segment was closed ten hours ago.
        assert held(client)[0] == 2


def test_the_active_segment_of_a_quiet_shard_is_closed_and_goes_in_time(tmp_path) -> None:
    """Without it the newest data would outlive every limit until somebody appends again."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=4 * HOUR, min_files_to_keep=0) as client:
        client.append(SHARD, [b"one of few"])
        door.now += 0.9 * HOUR
        client.force_retention_cleanup()
        assert len(list((tmp_path / "log").rglob("*.segment"))) == 1
        door.now += 0.2 * HOUR
        client.force_retention_cleanup()
        assert len(list((tmp_path / "log").rglob("*.segment"))) == 2
        assert held(client) == [0]
        door.now += 4.1 * HOUR
        client.force_retention_cleanup()
        assert held(client) == []
        client.append(SHARD, [b"goes on"])
        assert held(client) == [1]


def test_the_active_segment_of_a_shard_without_a_writer_is_closed_by_whoever_looks_after_the_log(tmp_path) -> None:
    """A writer that died leaves its last data to the others' care."""
    door = ManualDoor()
    dead = open_log(tmp_path, door, max_age=4 * HOUR, min_files_to_keep=0)
    dead.append(SHARD, [b"left behind"])
    crash(dead)
    with open_log(tmp_path, door, max_age=4 * HOUR, min_files_to_keep=0) as client:
        door.now += 2 * HOUR
        client.force_retention_cleanup()
        assert held(client) == [0]
        door.now += 4.1 * HOUR
        client.force_retention_cleanup()
        assert held(client) == []
        before = sorted(path.name for path in (tmp_path / "log").rglob("*.segment"))
        door.now += 100 * HOUR
        client.force_retention_cleanup()
        assert sorted(path.name for path in (tmp_path / "log").rglob("*.segment")) == before


def test_the_fewest_files_stay_however_old(tmp_path) -> None:
    """The one that is written counts."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=HOUR, min_files_to_keep=3) as client:
        fill(client, door, 8, every=60.0)
        door.now += 100 * HOUR
        client.force_retention_cleanup()
        # A new file was begun because the active one was old, too.
        assert held(client) == [6, 7]


def test_a_shard_over_its_size_gives_its_oldest(tmp_path) -> None:
    """And others stay as they are."""
    door = ManualDoor()
    other = f"{STREAM}:shard:0001"
    with open_log(tmp_path, door, max_shard_size=8 * SEGMENT) as client:
        fill(client, door, 20)
        fill(client, door, 5, shard=other)
        client.force_retention_cleanup()
        stats = client.retention_stats().shard_stats
        # Page, lock file and history are the shard's, but no segments.
        assert 5 * SEGMENT <= stats[SHARD].size_bytes <= 8 * SEGMENT + 5 * SEGMENT
        assert held(client)[-1] == 19
        assert len(held(client)) < 9
        assert held(client, other) == [0, 1, 2, 3, 4]


def test_an_entry_that_a_group_has_still_to_acknowledge_protects_its_segment_from_every_limit_but_the_forced(
    tmp_path,
) -> None:
    """Also from the shard's size, and whether or not the group's consumer lives."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=HOUR, max_shard_size=8 * SEGMENT, force_delete_after=50 * HOUR) as client:
        with Consumer(client, "slow", stream=STREAM) as consumer:
            fill(client, door, 20)
            consumer.ack(*(message.id for message in consumer.read(count=6)))
        client.force_retention_cleanup()
        assert held(client)[0] == 6
        door.now += 40 * HOUR
        client.force_retention_cleanup()
        assert held(client)[0] == 9
        assert client.accounting(STREAM, "slow").evicted == 3


def test_background_rounds_do_what_a_forced_cleanup_does_and_no_more_often_than_asked(tmp_path) -> None:
    """The first after ten seconds, then every interval."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=8 * HOUR, cleanup_interval=900) as client:
        fill(client, door, 6)
        writers = client._writers.values()
        client._keeper.tend(writers)
        assert held(client) == [0, 1, 2, 3, 4, 5]
        door.now += 4 * HOUR
        client._keeper.tend(writers)
        assert held(client)[0] == 1
        door.now += 850
        client._keeper.tend(writers)
        assert held(client)[0] == 1
        door.now += 3600
        client._keeper.tend(writers)
        assert held(client)[0] == 3


def test_an_interval_of_zero_leaves_ages_to_whoever_asks(tmp_path) -> None:
    """Background rounds delete nothing by age then."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=8 * HOUR, cleanup_interval=0) as client:
        fill(client, door, 20)
        client._keeper.tend(client._writers.values())
        assert held(client)[0] == 0
        client.force_retention_cleanup()
        assert held(client)[0] > 0


def test_a_long_pass_is_done_in_short_rounds(tmp_path) -> None:
    """What makes data durable is not kept waiting for thousands of deletions."""

    class SlowDoor(ManualDoor):
        def unlink(self, path: str) -> None:
            self.now += 0.01
            super().unlink(path)

    door = SlowDoor()
    with open_log(tmp_path, door, max_age=HOUR, cleanup_interval=900) as client:
        fill(client, door, 100, every=60)
        door.now += 100 * HOUR
        rounds = 0
        while len(held(client)) > 1 and rounds < 50:
            client._keeper.tend(client._writers.values())
            rounds += 1
        assert 3 < rounds < 20
        assert held(client) in ([], [99])


@pytest.mark.slow
def test_streams_of_lower_priority_make_room_first(tmp_path) -> None:
    """At the bound the cheap stream goes, though the precious one is older."""
    door = ManualDoor()
    bound = SMALL_FILES_BYTES + 80 * SEGMENT
    rules = {"max_total_size": bound, "priorities": {"cheap:v1": -1, STREAM: 5}}
    with open_log(tmp_path, door, **rules) as client:
        fill(client, door, 20)
        fill(client, door, 100, shard="cheap:v1:shard:0000")
        assert len(held(client)) == 20
        assert len(held(client, "cheap:v1:shard:0000")) < 90
        fill(client, door, 100)
        assert len(held(client, "cheap:v1:shard:0000")) == 1
        assert held(client)[0] > 0
        assert client.allocated_bytes() <= bound


@pytest.mark.slow
def test_the_bound_takes_first_what_everybody_acknowledged(tmp_path) -> None:
    """Then what somebody wants, the oldest first: the bound is hard."""
    door = ManualDoor()
    bound = SMALL_FILES_BYTES + 40 * SEGMENT
    done = "done:v1:shard:0000"
    with open_log(tmp_path, door, max_total_size=bound) as client:
        with Consumer(client, "slow", stream=STREAM):
            fill(client, door, 10)
        with Consumer(client, "quick", stream="done:v1") as quick:
            fill(client, door, 30, shard=done)
            quick.ack(*(message.id for message in quick.read(count=25)))
        fill(client, door, 20)
        assert held(client)[0] == 0
        assert held(client, done)[0] > 5
        fill(client, door, 60)
        assert held(client)[0] > 0
        assert client.accounting(STREAM, "slow").evicted == held(client)[0]
        assert client.allocated_bytes() <= bound


def test_with_reject_new_what_every_group_acknowledged_makes_room_and_nothing_else(tmp_path) -> None:
    """Refused until the last group acknowledges; then appends go on, and no group lost anything."""
    door = ManualDoor()
    bound = SMALL_FILES_BYTES + 20 * SEGMENT
    with open_log(tmp_path, door, max_total_size=bound, when_full="reject_new") as client:
        one, other = Consumer(client, "one", stream=STREAM), Consumer(client, "other", stream=STREAM)
        with pytest.raises(LogFullError, match="reject_new"):
            fill(client, door, 200)
        stored = len(held(client))
        one.ack(*(message.id for message in one.read(count=1000)))
        with pytest.raises(LogFullError, match="reject_new"):
            fill(client, door, 1)
        other.ack(*(message.id for message in other.read(count=10)))
        fill(client, door, 5)
        assert held(client)[-1] == stored + 4
        assert [client.accounting(STREAM, group).evicted for group in ("one", "other")] == [0, 0]


def test_the_policy_of_the_writers_is_that_of_whoever_brings_none(tmp_path) -> None:
    """A shipper that looks after a log follows its owner's rules, also when they change."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=HOUR) as writer:
        fill(writer, door, 3)
    with Client(tmp_path / "log", _door=door) as keeper:
        assert keeper.retention_stats().retention_age == HOUR
        with open_log(tmp_path, door, max_age=2.5 * HOUR) as writer:
            fill(writer, door, 1)
        keeper.force_retention_cleanup()
        assert keeper.retention_stats().retention_age == 2.5 * HOUR
        assert held(keeper)[0] == 1
    with open_log(tmp_path, door, max_age=9 * HOUR) as reader:
        # Who appends nothing records nothing.
        assert len(held(reader)) == 3
    with Client(tmp_path / "log", read_only=True, _door=door) as keeper:
        assert keeper.retention_stats().retention_age == 2.5 * HOUR


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff" * 50, b'{"checksum": "00000000"}'])
def test_a_damaged_record_of_the_policy_is_no_policy(damage, tmp_path) -> None:
    """Nothing is deleted by rules that do not prove themselves."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=HOUR) as writer:
        fill(writer, door, 9)
    (tmp_path / "log/retention.json").write_bytes(damage)
    with Client(tmp_path / "log", _door=door) as keeper:
        keeper.force_retention_cleanup()
        assert held(keeper) == list(range(9))


class VolumeDoor(ManualDoor):
    """A volume that others fill as the test says."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self.free = free
        self.shows = True

    def free_bytes(self, path: str) -> int:
        """Return what the test says is free."""
        return self.free

    def unlink(self, path: str) -> None:
        """Give the blocks back to the volume, or keep them for later."""
        if self.shows:
            self.free += self.status(path).allocated
        super().unlink(path)


def test_the_floor_is_kept_also_when_others_fill_the_volume(tmp_path) -> None:
    """Nobody appends: the next round gives back what nobody wants any more."""
    door = VolumeDoor(1 << 30)
    with open_log(tmp_path, door, min_free_bytes=1 << 20) as client:
        fill(client, door, 30)
        door.free = (1 << 20) - 10 * SEGMENT
        client._keeper.tend(client._writers.values())
        assert held(client) == list(range(10, 30))
        assert door.free >= 1 << 20
        assert [each.reasons for each in client.evictions(STREAM)] == [("volume",)]


def test_the_floor_takes_nothing_that_a_group_has_still_to_acknowledge(tmp_path) -> None:
    """Then appends are refused, in words that name the setting, and go on when there is room."""
    door = VolumeDoor(1 << 30)
    with open_log(tmp_path, door, min_free_bytes=1 << 20) as client, Consumer(client, "slow", stream=STREAM) as slow:
        fill(client, door, 10)
        door.free = (1 << 20) - SEGMENT
        client._keeper.tend(client._writers.values())
        with pytest.raises(LogFullError, match="min_free_bytes"):
            fill(client, door, 1)
        assert len(slow.read(count=100)) == len(held(client)) == 10
        slow.ack(*(message.id for message in slow.read(count=5)))
        fill(client, door, 1)
        assert held(client)[-1] == 10
        assert client.accounting(STREAM, "slow").evicted == 0


def test_a_volume_that_shows_late_what_was_deleted_is_not_deleted_for_twice(tmp_path) -> None:
    """Some filesystems free blocks in the background."""
    door = VolumeDoor(1 << 30)
    with open_log(tmp_path, door, min_free_bytes=1 << 20) as client:
        fill(client, door, 30)
        door.shows = False
        door.free = (1 << 20) - 4 * SEGMENT
        for _ in range(5):
            client._keeper.tend(client._writers.values())
        assert 24 <= len(held(client)) <= 26
        with pytest.raises(LogFullError):
            client._ledger.reserve(SEGMENT, lambda: None)
        door.free += 10 * SEGMENT
        client._ledger.reserve(SEGMENT, lambda: None)
        assert 24 <= len(held(client)) <= 26


def test_a_full_volume_is_told_before_anything_is_tried_and_evicts_what_nobody_wants(tmp_path) -> None:
    """Without a floor the last byte may be taken."""
    door = VolumeDoor(1 << 30)
    with open_log(tmp_path, door) as client:
        fill(client, door, 10)
        door.free = 0
        fill(client, door, 5)
        assert held(client)[-1] == 14
        assert 0 < held(client)[0] < 13


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")
def test_an_evicted_segment_that_somebody_reads_counts_until_it_is_closed(tmp_path) -> None:
    """Its numbers are evicted at once; its blocks are shown, and go when the reader goes on or ends."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=HOUR) as client:
        fill(client, door, 10)
        client.sync()
        with Consumer(client, "reader", stream=STREAM) as reader:
            (first,) = reader.read(count=1)
            reader.ack(first.id)
            door.now += HOUR
            client.force_retention_cleanup()
            assert held(client)[0] == 1
            stats = client.retention_stats()
            assert SEGMENT <= stats.pinned_bytes == stats.shard_stats[SHARD].pinned_bytes
            assert client.allocated_bytes() == stats.total_size_bytes
            (second,) = reader.read(count=1)
            assert second.id.entry_number == 1
            client.force_retention_cleanup()
            assert client.retention_stats().pinned_bytes == 0


def test_what_a_dead_process_had_set_aside_goes_with_the_next_pass(tmp_path) -> None:
    """A crash between renaming and unlinking leaves a file that counts, and that nobody has open."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=1000 * HOUR) as client:
        fill(client, door, 2)
        left = tmp_path / "log/events/v1/shard-0000/pinned-00000000000000000000"
        left.write_bytes(bytes(SEGMENT))
        client.force_retention_cleanup()
        assert not left.exists()
        assert held(client) == [0, 1]


def test_who_lost_what_and_when_is_told_for_the_stream_and_for_each_group(tmp_path) -> None:
    """Numbers, times and reasons; the quick group lost nothing, the slow one what it had not acknowledged."""
    door = ManualDoor()
    with open_log(tmp_path, door, force_delete_after=4.5 * HOUR) as client:
        with Consumer(client, "slow", stream=STREAM) as slow, Consumer(client, "quick", stream=STREAM) as quick:
            fill(client, door, 10)
            slow.ack(*(message.id for message in slow.read(count=3)))
            quick.ack(*(message.id for message in quick.read(count=9)))
            client.force_retention_cleanup()
            at = datetime.fromtimestamp(door.wall_ns / 1e9, timezone.utc)
            (evicted,) = client.evictions(STREAM)
            assert (evicted.stream, evicted.first, evicted.last, evicted.count) == (SHARD, 0, 4, 5)
            assert (evicted.since, evicted.until, evicted.reasons) == (at, at, ("forced",))
            (lost,) = client.evictions(STREAM, "slow")
            assert (lost.first, lost.last, lost.count, lost.since) == (3, 4, 2, at)
            assert client.evictions(SHARD, "quick") == []
            assert client.accounting(STREAM, "slow").evicted == 2
            fill(client, door, 2)
            client.force_retention_cleanup()
            assert [(each.first, each.last) for each in client.evictions(STREAM, "slow")] == [(3, 4), (5, 6)]
        client.delete_group(STREAM, "slow")
        assert client.evictions(STREAM, "slow") == []
        stats = client.retention_stats()
        assert stats.evicted_entries == stats.shard_stats[SHARD].evicted_entries == 7
    with Client(tmp_path / "log", read_only=True, _door=door) as client:
        assert [(each.first, each.last) for each in client.evictions(STREAM)] == [(0, 4), (5, 6)]


def test_a_death_between_recording_and_deleting_tells_of_nothing_that_is_still_there(tmp_path) -> None:
    """The record is made first; its readers look at what is held, and the next eviction adds nothing twice."""

    class DyingDoor(ManualDoor):
        dying = False

        def failpoint(self, name: str) -> None:
            if self.dying and name == "evict.before_rename":
                raise KeyboardInterrupt

    door = DyingDoor()
    with open_log(tmp_path, door, max_age=1.5 * HOUR) as client:
        fill(client, door, 4)
        door.dying = True
        with pytest.raises(KeyboardInterrupt):
            client.force_retention_cleanup()
        assert client.evictions(STREAM) == []
        assert held(client) == [0, 1, 2, 3]
        door.dying = False
        client.force_retention_cleanup()
        assert [(each.first, each.last, each.count) for each in client.evictions(STREAM)] == [(0, 1, 2)]


def test_statistics_have_the_units_that_their_names_say(tmp_path) -> None:
    """Bytes of blocks, 10^9 bytes, seconds, times with a zone, entries."""
    door = ManualDoor()
    start = door.wall_ns
    with open_log(tmp_path, door, max_age=timedelta(hours=100)) as client, Consumer(client, "group", stream=STREAM):
        fill(client, door, 4)
        stats = client.retention_stats()
        assert stats.total_size_bytes == client.allocated_bytes()
        assert stats.total_size_gb == stats.total_size_bytes / 1e9
        assert stats.max_total_size_gb == (1 << 22) / 1e9
        assert (stats.retention_age, stats.total_files) == (360_000.0, 4)
        shard = stats.shard_stats[SHARD]
        on_disk = sum(path.stat().st_blocks * 512 for path in (tmp_path / "log/events/v1/shard-0000").iterdir())
        assert (shard.size_bytes, shard.files, shard.consumer_lag) == (on_disk, 4, {"group": 4})
        assert shard.oldest_entry == stats.oldest_data == datetime.fromtimestamp(start / 1e9, timezone.utc)
        assert shard.newest_entry == stats.newest_data == stats.oldest_data + timedelta(hours=3)
        assert stats.free_bytes > 0
    with Client(tmp_path / "empty", _door=door) as client:
        empty = client.retention_stats()
        assert (empty.total_files, empty.oldest_data, empty.newest_data, empty.shard_stats) == (0, None, None, {})
        assert empty.retention_age is None


def test_every_shard_of_the_log_is_looked_after_whoever_opened_it(tmp_path) -> None:
    """Flaw of the original: only the shards that a client had opened itself were ever cleaned."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=4.5 * HOUR) as writer:
        fill(writer, door, 10)
        with open_log(tmp_path, door, max_age=4.5 * HOUR) as other:
            other.force_retention_cleanup()
            assert held(other) == [5, 6, 7, 8, 9]
            assert other.retention_stats().shard_stats[SHARD].files == 5


def test_size_limits_count_the_file_that_is_written_and_respect_protection(tmp_path) -> None:
    """Flaw 18 of the original: totals cancelled out, limits never fired, and when they did, protection was ignored."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_shard_size=8 * SEGMENT) as client, Consumer(client, "g", stream=STREAM) as group:
        fill(client, door, 20)
        assert client.retention_stats().shard_stats[SHARD].size_bytes >= 20 * SEGMENT
        client.force_retention_cleanup()
        assert len(held(client)) == 20
        group.ack(*(message.id for message in group.read(count=100)))
        client.force_retention_cleanup()
        assert 3 <= len(held(client)) <= 8


def test_what_was_deleted_unread_is_counted_and_is_no_lag(tmp_path) -> None:
    """Flaw 21 of the original: reads jumped ahead without a word, and the lag went on counting what was gone."""
    door = ManualDoor()
    with (
        open_log(tmp_path, door, force_delete_after=4.5 * HOUR) as client,
        Consumer(client, "slow", stream=STREAM) as slow,
    ):
        fill(client, door, 10)
        client.force_retention_cleanup()
        assert slow.lag(0) == 5
        assert [message.id.entry_number for message in slow.read(count=100)] == [5, 6, 7, 8, 9]
        found = client.accounting(STREAM, "slow")
        assert (found.evicted, found.pending, found.total) == (5, 5, 10)
        assert [(each.first, each.last) for each in client.evictions(STREAM, "slow")] == [(0, 4)]


@pytest.mark.slow
def test_consumers_bounds_and_fewest_files_are_heeded_by_default(tmp_path) -> None:
    """Flaw 25 of the original: retention asked neither consumers, nor the size limit, nor the fewest files."""
    door = ManualDoor()
    with Client(
        tmp_path / "log",
        CometConfig(
            storage=StorageConfig(max_file_size=SEGMENT, sync_interval=300),
            retention=RetentionConfig(max_age=HOUR, max_total_size=SMALL_FILES_BYTES + 60 * SEGMENT),
        ),
        _door=door,
    ) as client:
        with Consumer(client, "group", stream=STREAM) as group:
            fill(client, door, 40)
            group.ack(*(message.id for message in group.read(count=5)))
            client.force_retention_cleanup()
            assert held(client)[0] == 5
            group.ack(*(message.id for message in group.read(count=100)))
        door.now += 1000 * HOUR
        client.force_retention_cleanup()
        assert len(list((tmp_path / "log").rglob("*.segment"))) == 2
        fill(client, door, 300)
        assert client.allocated_bytes() <= SMALL_FILES_BYTES + 60 * SEGMENT


@pytest.mark.slow
@pytest.mark.parametrize("segment", [SEGMENT, 64 * 1024, 1 << 20])
def test_the_least_that_a_configuration_demands_is_enough_to_write_for_ever(segment, tmp_path) -> None:
    """One shard, many times the bound, in small entries and in entries of a segment's size."""
    needed = CometConfig(storage=StorageConfig(max_file_size=segment, sync_interval=300)).least_total_size()
    settings = CometConfig(
        storage=StorageConfig(max_file_size=segment, sync_interval=300),
        retention=RetentionConfig(max_total_size=needed),
    )
    with Client(tmp_path / "log", settings) as client, Consumer(client, "slow", stream=STREAM):
        stored = 0
        while stored < 6 * needed:
            for size in (segment // 2, 100, segment - 2000):
                client.append(SHARD, [bytes(size)])
                stored += size
        assert client.allocated_bytes() <= needed
        found = client.accounting(STREAM, "slow")
        assert (found.evicted + found.pending, found.corrupt) == (found.total, 0)
        assert found.pending == len(held(client)) > 0


class SickDoor(ManualDoor):
    """A disk on which one directory cannot be listed and some names cannot be removed."""

    unreadable = ""
    sticky = ""

    def list_directory(self, path: str) -> list[str]:
        """List, or refuse."""
        if self.unreadable and path.endswith(self.unreadable):
            raise OSError(errno.EIO, "sick", path)
        return super().list_directory(path)

    def unlink(self, path: str) -> None:
        """Unlink, or refuse."""
        if self.sticky and self.sticky in path:
            raise OSError(errno.EIO, "sick", path)
        super().unlink(path)


def test_a_shard_that_cannot_be_read_does_not_keep_the_others_from_making_room(tmp_path) -> None:
    """Nor does a file that cannot be removed: the next one goes instead."""
    door = SickDoor()
    bound = SMALL_FILES_BYTES + 40 * SEGMENT
    with open_log(tmp_path, door, max_total_size=bound) as client:
        fill(client, door, 5, shard=f"{STREAM}:shard:0007")
        fill(client, door, 5)
        door.unreadable, door.sticky = "shard-0007", "pinned-00000000000000000003"
        fill(client, door, 100)
        assert held(client)[-1] == 104
        assert client.allocated_bytes() <= bound
        door.unreadable = door.sticky = ""
        assert held(client, f"{STREAM}:shard:0007") == [0, 1, 2, 3, 4]
        fill(client, door, 2)
        assert list((tmp_path / "log").rglob("pinned-*")) == []


def test_a_log_that_is_gone_is_told_in_the_words_of_this_package(tmp_path) -> None:
    """The background round raises a CometError, which the flusher notes."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=HOUR, min_free_bytes=1) as client:
        fill(client, door, 1)
        (tmp_path / "log").rename(tmp_path / "elsewhere")
        door.now += HOUR
        with pytest.raises(CometError):
            client._keeper.tend([])
