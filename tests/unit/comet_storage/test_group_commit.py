"""``durability="always"``: nothing is acknowledged or read before a sync has covered it, and threads share syncs."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, ConcurrencyConfig, RetentionConfig, StorageConfig, StorageIOError
from comet_storage._os.door import Door

STREAM = "always:v1:shard:0000"
ALWAYS = StorageConfig(durability="always", sync_interval=300)


class SyncDoor(Door):
    """Syncs of segments wait for the gate, are counted, and fail as often as told."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.syncs = 0
        self.failures = 0

    def sync_data(self, fd: int) -> None:
        """Count, wait, fail or sync."""
        name = str(Path(f"/proc/self/fd/{fd}").readlink())
        if name.endswith((".segment", "/replacement")):
            self.entered.set()
            assert self.gate.wait(30)
            self.syncs += 1
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EIO, "injected")
        super().sync_data(fd)


@pytest.fixture
def door() -> SyncDoor:
    """A door of its own for each test."""
    return SyncDoor()


def datas(client: Client) -> list[bytes]:
    """Return what a reader sees."""
    return [message.data for message in client.scan(STREAM)]


def test_readers_see_an_append_when_it_is_durable_and_not_before(tmp_path, door) -> None:
    """Neither does its caller get an answer."""
    with Client(tmp_path / "log", CometConfig(storage=ALWAYS), _door=door) as client:
        client.append(STREAM, [b"first"])
        door.gate.clear()
        door.entered.clear()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.append, STREAM, [b"second"])
            assert door.entered.wait(30)
            assert (datas(client), client.len(STREAM), answer.done()) == ([b"first"], 1, False)
            door.gate.set()
            assert [str(found) for found in answer.result(30)] == ["0-1"]
        assert datas(client) == [b"first", b"second"]


def test_threads_that_wait_share_one_sync(tmp_path, door) -> None:
    """What is stored while one sync runs is covered by the next."""
    threads = 16
    with (
        Client(tmp_path / "log", CometConfig(storage=ALWAYS), _door=door) as client,
        ThreadPoolExecutor(threads) as pool,
    ):
        client.append(STREAM, [b"first"])
        door.gate.clear()
        before = door.syncs
        answers = [pool.submit(client.append, STREAM, [b"%d" % index]) for index in range(threads)]
        writer = client._writers[STREAM]
        while writer.active.cursor[1] < threads + 1:
            assert door.gate.wait(0.001) is False
        door.gate.set()
        numbers = [answer.result(30)[0].entry_number for answer in answers]
        assert sorted(numbers) == list(range(1, threads + 1))
        assert door.syncs - before <= 3
        found = {message.id.entry_number: message.data for message in client.scan(STREAM, 1)}
        assert [found[number] for number in numbers] == [b"%d" % index for index in range(threads)]


def test_rotation_leaves_nothing_behind_that_waits(tmp_path, door) -> None:
    """Every segment that is left was synced as a whole."""
    storage = StorageConfig(durability="always", sync_interval=300, max_file_size=128 * 1024)
    with Client(tmp_path / "log", CometConfig(storage=storage), _door=door) as client, ThreadPoolExecutor(4) as pool:
        payloads = [b"%05d" % index * 100 for index in range(800)]
        list(pool.map(lambda payload: client.append(STREAM, [payload]), payloads))
        assert len(client._layout.shard(client._writers[STREAM].name).segments()) > 2
        assert sorted(datas(client)) == payloads


@pytest.mark.parametrize("shared", [False, True])
def test_a_sync_that_fails_once_loses_nothing_that_was_acknowledged(tmp_path, door, shared) -> None:
    """The owner stores the segment again in a new file; in shared mode the append that met the failure is refused."""
    config = CometConfig(storage=ALWAYS, concurrency=ConcurrencyConfig(multi_process=shared))
    with Client(tmp_path / "log", config, _door=door) as client:
        acknowledged = []
        for index in range(50):
            door.failures = int(index == 20)
            try:
                client.append(STREAM, [b"%d" % index])
            except StorageIOError:
                assert shared
            else:
                acknowledged.append(b"%d" % index)
        assert len(acknowledged) == (49 if shared else 50)
        assert datas(client) == acknowledged
        assert client._writers[STREAM].sync_state.failures == 1
    with Client(tmp_path / "log") as client:
        assert datas(client) == acknowledged


def test_a_sync_that_fails_twice_takes_the_append_back(tmp_path, door) -> None:
    """Its caller is told, its number is given to the next one, and appends go on."""
    with Client(tmp_path / "log", CometConfig(storage=ALWAYS), _door=door) as client:
        client.append(STREAM, [b"first"])
        door.failures = 2
        with pytest.raises(StorageIOError, match="injected"):
            client.append(STREAM, [b"refused"])
        assert datas(client) == [b"first"]
        assert [str(found) for found in client.append(STREAM, [b"second"])] == ["0-1"]
        assert datas(client) == [b"first", b"second"]
    with Client(tmp_path / "log") as client:
        assert datas(client) == [b"first", b"second"]


def test_a_failed_background_sync_stores_the_segment_again(tmp_path, door) -> None:
    """Readers and the writer go on in the new file, and a reopened log has everything."""
    with Client(tmp_path / "log", _door=door) as client:
        client.append(STREAM, [b"first"])
        client.sync()
        client.append(STREAM, [b"second"])
        path = client._layout.shard(client._writers[STREAM].name).segment(0)
        before = Path(path).stat().st_ino
        door.failures = 1
        client.sync()
        assert Path(path).stat().st_ino != before
        client.append(STREAM, [b"third"])
        assert datas(client) == [b"first", b"second", b"third"]
        assert client._writers[STREAM].page.durable().number == 2
    with Client(tmp_path / "log") as client:
        assert datas(client) == [b"first", b"second", b"third"]


@pytest.mark.parametrize("when_full", ["evict_oldest", "reject_new"])
def test_a_second_failure_follows_when_full_until_the_disk_takes_it(tmp_path, door, when_full) -> None:
    """Nothing is called durable before it is stored again, though the kernel's next sync would succeed."""
    config = CometConfig(retention=RetentionConfig(when_full=when_full))
    with Client(tmp_path / "log", config, _door=door) as client:
        client.append(STREAM, [b"first"])
        door.failures = 2
        with pytest.raises(StorageIOError, match="injected"):
            client.sync()
        if when_full == "reject_new":
            with pytest.raises(StorageIOError, match="injected"):
                client.append(STREAM, [b"refused"])
        else:
            client.append(STREAM, [b"second"])
        assert client._writers[STREAM].page.durable().number == 0
        client.sync()
        client.append(STREAM, [b"last"])
        expected = [b"first", b"last"] if when_full == "reject_new" else [b"first", b"second", b"last"]
        assert datas(client) == expected
        assert client._writers[STREAM].sync_state.unsynced == set()


def test_a_damaged_page_is_written_anew_and_wipes_nothing(tmp_path) -> None:
    """The writer trusts what it knows to be durable, not what the page says."""
    with Client(tmp_path / "log", CometConfig(storage=ALWAYS)) as client:
        client.append(STREAM, [b"first"])
        client.append(STREAM, [b"second"])
        words = client._writers[STREAM].page.words
        words[0] = words[0] - 48
        client.append(STREAM, [b"third"])
        for index in range(8):
            words[index] = 0
        client.append(STREAM, [b"fourth"])
        assert datas(client) == [b"first", b"second", b"third", b"fourth"]


def test_a_handler_that_appends_while_its_thread_waits_for_the_disk_is_answered(tmp_path, door) -> None:
    """Both appends are durable then, and neither waits for itself."""
    with Client(tmp_path / "log", CometConfig(storage=ALWAYS), _door=door) as client:
        client.append(STREAM, [b"first"])
        inner: list[str] = []

        def commit_and_append() -> None:
            writer._commits._commit = writer._commit
            inner.extend(str(found) for found in client.append(STREAM, [b"inner"]))
            writer._commit()

        writer = client._writers[STREAM]
        writer._commits._commit = commit_and_append
        assert [str(found) for found in client.append(STREAM, [b"outer"])] == ["0-1"]
        assert inner == ["0-2"]
        assert datas(client) == [b"first", b"outer", b"inner"]


def test_the_other_processes_of_a_shared_shard_go_on_in_the_new_file(tmp_path, door) -> None:
    """The generation tells them that the file they have open is not the shard's any more."""
    config = CometConfig(concurrency=ConcurrencyConfig(multi_process=True))
    with Client(tmp_path / "log", config, _door=door) as one, Client(tmp_path / "log", config) as other:
        expected = []
        for index in range(30):
            for name, client in (("one", one), ("other", other)):
                client.append(STREAM, [f"{name} {index}".encode()])
                expected.append(f"{name} {index}".encode())
            if index % 10 == 5:
                door.failures = 1
                one.sync()
        assert one._writers[STREAM].sync_state.failures == 3
        assert datas(one) == datas(other) == expected
    with Client(tmp_path / "log") as client:
        assert datas(client) == expected
