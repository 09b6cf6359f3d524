"""Consumers and the client's questions where things go wrong: gaps, limits, many clients at once, no descriptors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import mmap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, Consumer, EntryTooLarge, LogBusyError, LogFullError, StorageIOError
from comet_storage._groups.registry import changing_groups
from comet_storage._os.door import Door
from comet_storage.config import ConcurrencyConfig, RetentionConfig, StorageConfig
from tests.support.engine import ManualDoor

STREAM = "events:v1"
SHARD = "events:v1:shard:0000"


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    """Return a log that is closed after the test."""
    with Client(tmp_path / "log") as made:
        yield made


def test_a_range_of_acknowledgements_does_not_deliver_what_was_damaged(client, tmp_path) -> None:
    """An entry that could not be read counts as corrupt although its neighbours on both sides are acknowledged."""
    client.append(SHARD, [b"first"])
    client.append(SHARD, [b"second entry"])
    client.append(SHARD, [b"third"])
    segment = next((tmp_path / "log").rglob("*.segment"))
    at = segment.read_bytes().index(b"second entry")
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(b"X")
    with Consumer(client, "readers", stream=STREAM) as consumer:
        assert [message.data for message in consumer.read()] == [b"first", b"third"]
        consumer.ack_range(0, 0, 2)
    found = client.accounting(STREAM, "readers")
    assert (found.total, found.delivered, found.corrupt, found.pending) == (3, 2, 1, 0)


def test_an_id_that_is_named_twice_acknowledges_no_other(client) -> None:
    """Three ids between the first and the third number are not the three numbers."""
    ids = client.append(SHARD, [b"first", b"second", b"third"])
    with Consumer(client, "readers", stream=STREAM) as consumer:
        consumer.read()
        consumer.ack(ids[0], ids[2], ids[2])
        assert [message.data for message in consumer.read()] == [b"second"]


def test_max_bytes_bounds_the_messages_of_all_shards_together(client) -> None:
    """Only the first message of a read may be larger; every shard gets to be the first one."""
    for shard in range(3):
        client.append(f"events:v1:shard:{shard:04d}", [b"x" * 1000])
    with Consumer(client, "readers", stream=STREAM) as consumer:
        read = [consumer.read(max_bytes=1500) for _ in range(3)]
        assert [len(messages) for messages in read] == [1, 1, 1]
        assert {messages[0].id.shard_id for messages in read} == {0, 1, 2}
        assert len(consumer.read(max_bytes=3000)) == 3


def test_what_retention_removed_unread_is_counted_and_not_lag(tmp_path) -> None:
    """A read goes on at what is held; the jump is in the group's accounting, and lag tells what can still come."""
    with Client(tmp_path / "log", CometConfig(storage=StorageConfig(max_file_size=4096))) as client:
        for _ in range(10):
            client.append(SHARD, [bytes(1500)])
        with Consumer(client, "readers", stream=STREAM) as consumer:
            consumer.ack(consumer.read(count=1)[0].id)
            first, second, third, *_ = sorted((tmp_path / "log").rglob("*.segment"))
            first.unlink()
            second.unlink()
            held = int(third.name[:20])
            assert consumer.lag(0) == 10 - held
            assert consumer.read(count=1)[0].id.entry_number == held
            found = client.accounting(STREAM, "readers")
            assert (found.delivered, found.evicted, found.pending) == (1, held - 1, 10 - held)
            assert found.total == 10


def test_entries_of_more_than_4_gib_are_too_large(client) -> None:
    """The typed error comes before their lengths are packed into 32 bits."""
    with mmap.mmap(-1, (1 << 32) + 1) as huge, pytest.raises(EntryTooLarge):
        client.append(SHARD, [b"small", huge])


def test_a_consumer_that_is_dropped_frees_its_shards(client) -> None:
    """The next consumer of the group gets them although nobody called close."""
    client.append(SHARD, [b"entry"])
    consumer = Consumer(client, "readers", stream=STREAM)
    assert len(consumer.read()) == 1
    del consumer
    gc.collect()
    with Consumer(client, "readers", stream=STREAM) as following:
        assert len(following.read()) == 1


class _NoListing(Door):
    """A door that cannot open directories when told so."""

    failing = False

    def list_directory(self, path: str) -> list[str]:
        """Fail as a process without free descriptors does."""
        if self.failing:
            raise OSError(errno.EMFILE, "Too many open files", path)
        return super().list_directory(path)


def test_questions_without_free_descriptors_raise_typed_errors(tmp_path) -> None:
    """No bare OSError reaches the caller."""
    door = _NoListing()
    with Client(tmp_path / "log", _door=door) as client:
        client.append(SHARD, [b"entry"])
        consumer = Consumer(client, "readers", stream=STREAM)
        door.failing = True
        for question in (
            client.streams,
            consumer.read,
            lambda: client.shards(STREAM),
            lambda: client.groups(STREAM),
            lambda: client.len(STREAM),
            lambda: list(client.scan(SHARD)),
            lambda: client.accounting(STREAM, "readers"),
            lambda: client.pending_bytes(STREAM, "readers"),
        ):
            with pytest.raises(StorageIOError):
                question()
        door.failing = False
        consumer.close()


class _SyncRecorder(Door):
    """A door that counts syncs."""

    syncs = 0

    def sync_data(self, fd: int) -> None:
        """Count and do it."""
        self.syncs += 1
        super().sync_data(fd)


def test_closing_a_consumer_makes_its_acknowledgements_durable(tmp_path) -> None:
    """After that no sync of the client would find them."""
    door = _SyncRecorder()
    with Client(tmp_path / "log", _door=door) as client:
        client.append(SHARD, [b"entry"])
        client.sync()
        consumer = Consumer(client, "readers", stream=STREAM)
        consumer.ack(consumer.read()[0].id)
        lease = consumer._cursors[0].lease
        assert lease.dirty
        before = door.syncs
        consumer.close()
        assert door.syncs > before
        assert not lease.dirty


def test_two_clients_that_make_a_group_at_once_keep_each_others_records(tmp_path) -> None:
    """The second one waits, finds the group made, and removes nothing of it."""
    with Client(tmp_path / "log") as first, Client(tmp_path / "log") as second:
        first.append(SHARD, [b"entry"])
        with changing_groups(Door(), str(tmp_path / "log/events/v1"), 1.0):
            thread = threading.Thread(target=second.register_group, args=(STREAM, "readers"))
            thread.start()
            thread.join(0.05)
            assert thread.is_alive()
            Path(tmp_path / "log/events/v1/group-readers.json").touch()
            record = Path(tmp_path / "log/events/v1/shard-0000/group-readers")
            record.touch()
        thread.join()
        assert record.exists()


def test_the_lock_on_groups_is_not_waited_for_without_a_limit(tmp_path) -> None:
    """A stopped process that holds it costs the lock timeout."""
    door = ManualDoor()
    with (
        changing_groups(door, str(tmp_path), 1.0),
        pytest.raises(LogBusyError),
        changing_groups(door, str(tmp_path), 1.0),
    ):
        pass


def test_a_client_can_sync_while_consumers_come_and_go(client) -> None:
    """The set of open cursors is not walked while another thread adds to it."""
    adding = threading.Event()
    with client._lock:
        thread = threading.Thread(target=lambda: (client._open_cursors(), adding.set()))
        thread.start()
        assert not adding.wait(0.05)
    thread.join()


def test_a_log_that_rejects_new_entries_can_still_be_read(tmp_path) -> None:
    """A group can be made and leased in a log that is full: otherwise nobody could ever drain it."""
    config = CometConfig(
        storage=StorageConfig(max_file_size=16384),
        retention=RetentionConfig(max_total_size=2 * 16384 + 256 * 1024, when_full="reject_new"),
    )
    with Client(tmp_path / "log", config) as client:
        appended = 0
        with contextlib.suppress(LogFullError):
            while appended < 1000:
                client.append(SHARD, [b"x" * 1000])
                appended += 1
        assert appended < 1000
        with Consumer(client, "readers", stream=STREAM) as consumer:
            assert len(consumer.read(count=appended + 1)) == appended
        assert client.allocated_bytes() <= config.retention.max_total_size


def test_threads_that_wait_for_the_ledger_share_one_lock_timeout(tmp_path) -> None:
    """A process stopped in the middle of a reservation delays the last of four threads no longer than the first."""
    config = CometConfig(concurrency=ConcurrencyConfig(lock_timeout=0.3))
    with Client(tmp_path / "log", config) as client, (tmp_path / "log/log.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        busy: list[float] = []

        def reserve() -> None:
            started = time.monotonic()
            with pytest.raises(LogBusyError):
                client._ledger.reserve(4096, lambda: None)
            busy.append(time.monotonic() - started)

        threads = [threading.Thread(target=reserve) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(busy) == 4
        assert max(busy) < 0.9
