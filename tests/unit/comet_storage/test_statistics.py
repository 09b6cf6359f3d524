"""Statistics and health say what is, in the units of their names."""

from __future__ import annotations

import contextlib
import errno
import shutil
import time
from pathlib import Path

import pytest

from comet_storage import (
    Client,
    ClosedError,
    CometConfig,
    CometError,
    CometStats,
    Consumer,
    LogFullError,
    RetentionConfig,
    StorageConfig,
    StorageIOError,
)
from comet_storage._os.door import Door

SHARD = "stats:v1:shard:0000"
OTHER = "stats:v1:shard:0003"
SLOW = CometConfig(storage=StorageConfig(sync_interval=300))


class FailingDoor(Door):
    """Syncs of segments fail while told to."""

    failing = False

    def sync_data(self, fd: int) -> None:
        """Fail or sync."""
        if self.failing and str(Path(f"/proc/self/fd/{fd}").readlink()).endswith((".segment", "/replacement")):
            raise OSError(errno.EIO, "injected")
        super().sync_data(fd)


def test_a_new_log_has_empty_statistics_and_is_healthy(tmp_path) -> None:
    """Nothing is made by asking."""
    with Client(tmp_path / "log", SLOW) as client:
        assert client.stats() == CometStats()
        health = client.health()
        assert (health.healthy, health.writable, health.disk, health.last_error) == (True, True, "ok", None)
        assert client.streams() == []


def test_statistics_count_what_was_appended(tmp_path) -> None:
    """Entries and files are the log's, bytes the client's."""
    with Client(tmp_path / "log", SLOW) as client:
        client.append(SHARD, [b"x" * 100])
        client.append(SHARD, [b"y" * 10] * 5)
        client.append(OTHER, [b"z"])
        consumer = Consumer(client, "readers", stream="stats:v1")
        consumer.ack(*[message.id for message in consumer.read(count=100)][:2])
        client.sync()
        found = client.stats()
        assert (found.total_entries, found.total_files, found.error_count) == (7, 2, 0)
        # Frames of 32 bytes and their bodies, in whole words.
        assert found.total_compressed == found.total_bytes == 136 + (32 + 70 + 2) + 40
        assert found.compression_ratio == 1.0
        assert 0 < found.min_write_latency_ns <= found.write_latency_ns <= found.max_write_latency_ns
        assert found.checkpoint_count == 2
        assert abs(time.time_ns() - found.last_checkpoint_ns) < 60e9
        assert found.active_readers == 2
        assert found.consumer_lag in {4, 5}
        consumer.close()


def test_entries_of_the_log_survive_a_restart_and_the_clients_counters_begin_anew(tmp_path) -> None:
    """Also those that another process appended."""
    with Client(tmp_path / "log", SLOW) as client:
        client.append(SHARD, [b"one", b"two"])
        with Client(tmp_path / "log", SLOW) as other:
            assert (other.stats().total_entries, other.stats().total_bytes) == (2, 0)
    with Client(tmp_path / "log", SLOW) as client:
        assert (client.stats().total_entries, client.stats().total_bytes) == (2, 0)


def test_rotations_are_counted(tmp_path) -> None:
    """One for each segment that was begun because the one before was full."""
    config = CometConfig(storage=StorageConfig(sync_interval=300, max_file_size=128 * 1024))
    with Client(tmp_path / "log", config) as client:
        for _ in range(300):
            client.append(SHARD, [b"x" * 1000])
        found = client.stats()
        assert found.file_rotations == found.total_files - 1 > 0


def test_failed_appends_are_counted_and_told(tmp_path) -> None:
    """Whatever the reason."""
    with Client(tmp_path / "log", SLOW) as client:
        client.append(SHARD, [b"fine"])
        for _ in range(2):
            with pytest.raises(CometError):
                client.append(SHARD, ["text"])
        found, health = client.stats(), client.health()
        assert found.error_count == 2
        assert abs(time.time_ns() - found.last_error_ns) < 60e9
        assert health.last_error is not None
        assert health.last_error.startswith("InvalidEntryError")
        assert health.last_error_age is not None
        assert health.healthy


def test_health_tells_how_long_entries_have_waited_for_the_disk(tmp_path) -> None:
    """And nothing waits after a sync."""
    with Client(tmp_path / "log", SLOW) as client:
        client.append(SHARD, [b"first"])
        assert client.health().oldest_unflushed_age > 0
        client.sync()
        assert client.health().oldest_unflushed_age == 0


def test_health_tells_of_a_disk_that_refuses_syncs_until_it_takes_them(tmp_path) -> None:
    """The counter stays."""
    door = FailingDoor()
    with Client(tmp_path / "log", SLOW, _door=door) as client:
        client.append(SHARD, [b"first"])
        door.failing = True
        with pytest.raises(StorageIOError):
            client.sync()
        health = client.health()
        assert (health.healthy, health.disk, health.writable, health.sync_failures) == (False, "failing", True, 2)
        door.failing = False
        client.sync()
        health = client.health()
        assert (health.healthy, health.disk, health.sync_failures) == (True, "ok", 2)


def test_health_tells_of_a_full_log_until_an_append_succeeds(tmp_path) -> None:
    """With ``reject_new``, where nothing may be evicted."""
    config = CometConfig(
        storage=StorageConfig(sync_interval=0.01, max_file_size=128 * 1024),
        retention=RetentionConfig(max_total_size=2 << 20, when_full="reject_new"),
    )
    with Client(tmp_path / "log", config) as client:
        client.register_group("stats:v1", "readers")
        appended = 0
        with contextlib.suppress(CometError):
            while appended < 3000:
                client.append(SHARD, [b"x" * 1000])
                appended += 1
        assert appended < 3000
        health = client.health()
        assert (health.healthy, health.disk, health.writable) == (False, "full", False)


def test_health_of_a_closed_client_or_a_missing_directory_is_an_answer(tmp_path) -> None:
    """Never an exception."""
    client = Client(tmp_path / "log", SLOW)
    client.append(SHARD, [b"first"])
    shutil.rmtree(tmp_path / "log")
    health = client.health()
    assert (health.healthy, health.writable, health.disk) == (False, False, "failing")
    client.close()
    assert not client.health().writable
    with pytest.raises(ClosedError):
        client.stats()


def test_health_tells_that_the_flusher_died(tmp_path) -> None:
    """Without it nothing becomes durable by itself."""
    with Client(tmp_path / "log", SLOW) as client:
        client.append(SHARD, [b"first"])
        assert client.health().flusher_alive
        client._flusher.stop()
        health = client.health()
        assert (health.flusher_alive, health.healthy) == (False, False)


def test_appends_by_lane_are_measured_and_tell_that_there_is_room_again(tmp_path) -> None:
    """Exporters append by lanes only: a log that was full once must not be called full for ever."""
    with Client(tmp_path / "log", SLOW) as client:
        lane = client.lanes("stats:v1")
        lane.append([b"first"])
        assert client.stats().write_latency_ns > 0
        client.note_problem(LogFullError(errno.ENOSPC, "no room"))
        assert client.health().disk == "full"
        client._flush()
        lane.append([b"second"])
        assert (client.health().disk, client.health().writable) == ("ok", True)


def test_a_group_that_nobody_has_consumed_for_yet_lags_behind_by_everything(tmp_path) -> None:
    """It has no record in the shard, and all of the shard is pending."""
    with Client(tmp_path / "log", SLOW) as client:
        client.register_group("stats:v1", "readers")
        client.append(SHARD, [b"one", b"two"])
        assert client.stats().consumer_lag == client.accounting("stats:v1", "readers").pending == 2
