"""One storage client per directory, whatever happens to the directory or the process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

import comet_storage
from comet_otel import shared_client
from comet_otel.config import load_config
from comet_otel.shared_client import REOPEN_PAUSE_MAX, LogUnavailableError, SharedClient, acquire, release
from comet_otel.streams import TRACES
from comet_storage import Client, CometConfig, LogBusyError, LogMovedError, ShardLostError, StorageIOError
from tests.unit.comet_otel.stored import entries


class ManualClock:
    """Time that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class FailingWriter:
    """A lane that fails as told, and then works."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.appended: list[bytes] = []

    def append(self, stored) -> None:
        """Fail, or take the entries."""
        if self._errors:
            raise self._errors.pop(0)
        self.appended += stored


class FakeClient:
    """A client whose lanes are given by the test."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.closed = False

    def lanes(self, stream: str) -> Any:
        """Return the lane."""
        return self._writer

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def test_exporters_of_one_directory_share_a_client_until_the_last_is_gone(tmp_path) -> None:
    """The first release leaves the others working; after the last one a new client is made."""
    config = load_config(data_dir=tmp_path, environment={})
    first, second = acquire(config), acquire(config)
    assert first is second
    release(first, 5.0)
    second.append(TRACES, [b"one"])
    release(second, 5.0)
    with pytest.raises(LogUnavailableError):
        second.append(TRACES, [b"refused"])
    third = acquire(config)
    assert third is not first
    third.append(TRACES, [b"two"])
    release(third, 5.0)
    assert entries(tmp_path, TRACES) == {0: [b"one", b"two"]}


def test_other_settings_for_an_open_directory_are_reported_and_not_used(tmp_path, caplog) -> None:
    """Two exporters with different bounds cannot both have their way."""
    first = acquire(load_config(data_dir=tmp_path, environment={}))
    second = acquire(load_config(data_dir=tmp_path, max_total_size="8 MiB", environment={}))
    assert second is first
    assert "other settings" in caplog.text
    release(first, 5.0)
    release(second, 5.0)


def test_a_directory_that_cannot_be_opened_is_tried_again_with_growing_pauses(tmp_path, caplog, monkeypatch) -> None:
    """One line says so; between tries appends are refused at once; it recovers by itself."""
    tries = []

    def count_and_open(*arguments: object) -> Client:
        tries.append(clock.now)
        return Client(*arguments)

    monkeypatch.setattr(comet_storage, "Client", count_and_open)
    clock = ManualClock()
    (tmp_path / "file").touch()
    shared = SharedClient(tmp_path / "file" / "log", CometConfig.default(), clock=clock)
    for clock.now in range(200):
        with pytest.raises(LogUnavailableError):
            shared.append(TRACES, [b"refused"])
    assert tries[:5] == [0, 1, 2, 4, 8]
    assert all(second - first <= REOPEN_PAUSE_MAX + 1 for first, second in pairwise(tries))
    assert len([message for message in caplog.messages if "cannot be opened" in message]) <= 4

    (tmp_path / "file").unlink()
    clock.now += REOPEN_PAUSE_MAX
    shared.append(TRACES, [b"stored"])
    assert caplog.messages[-1].endswith("works again")
    shared.close(5.0)
    assert entries(tmp_path / "file" / "log", TRACES) == {0: [b"stored"]}


def test_a_client_that_lost_its_directory_is_replaced_within_the_append(tmp_path, monkeypatch) -> None:
    """The batch that meets the trouble is stored all the same."""
    stale = FakeClient(FailingWriter(LogMovedError("moved")))
    fresh = FakeClient(FailingWriter())
    clients = [stale, fresh]
    monkeypatch.setattr(comet_storage, "Client", lambda *_: clients.pop(0))
    shared = SharedClient(tmp_path, CometConfig.default())
    shared.append(TRACES, [b"one"])
    assert stale.closed
    assert fresh._writer.appended == [b"one"]


def test_a_lost_shard_is_followed_by_another_claim(tmp_path, monkeypatch) -> None:
    """The lane takes another shard; the client stays."""
    client = FakeClient(FailingWriter(ShardLostError("gone")))
    monkeypatch.setattr(comet_storage, "Client", lambda *_: client)
    shared = SharedClient(tmp_path, CometConfig.default())
    shared.append(TRACES, [b"one"])
    assert client._writer.appended == [b"one"]
    assert not client.closed


def test_other_errors_of_the_log_are_the_caller_s_to_count(tmp_path, monkeypatch) -> None:
    """A full disk is not mended by opening the log again."""
    client = FakeClient(FailingWriter(StorageIOError("full")))
    monkeypatch.setattr(comet_storage, "Client", lambda *_: client)
    shared = SharedClient(tmp_path, CometConfig.default())
    with pytest.raises(StorageIOError, match="full"):
        shared.append(TRACES, [b"one"])


def test_an_export_from_a_signal_handler_does_not_wait_for_its_own_thread(tmp_path, monkeypatch) -> None:
    """An append that interrupts the opening is refused, not deadlocked."""
    refused = []

    def open_and_interrupt(*arguments: object) -> Client:
        begin = time.monotonic()
        with pytest.raises(LogUnavailableError):
            shared.append(TRACES, [b"from a handler"])
        refused.append(time.monotonic() - begin)
        return Client(*arguments)

    monkeypatch.setattr(comet_storage, "Client", open_and_interrupt)
    shared = SharedClient(tmp_path, CometConfig.default())
    shared.append(TRACES, [b"one"])
    shared.close(5.0)
    assert refused[0] < 0.5
    assert entries(tmp_path, TRACES) == {0: [b"one"]}


@pytest.mark.parametrize("what", ["sync", "close"])
def test_a_signal_handler_does_not_wait_for_the_append_that_it_interrupted(tmp_path, what) -> None:
    """It may hold locks, which come back only when the handler has returned; other threads wait as long as they say."""
    shared = SharedClient(tmp_path, CometConfig.default())
    log_lock = threading.Lock()

    class Interrupted(FailingWriter):
        def append(self, stored) -> None:
            with log_lock:
                answers.append(shared.sync(60.0) if what == "sync" else shared.close(60.0))
            super().append(stored)

    class Locked(FakeClient):
        def sync(self) -> None:
            with log_lock:
                done.set()

        close = sync

    answers: list[object] = []
    done = threading.Event()
    shared._opened = shared_client._Opened(Locked(Interrupted()))  # type: ignore[arg-type]
    began = time.monotonic()
    shared.append(TRACES, [b"one"])
    assert time.monotonic() - began < 30
    assert answers == [False if what == "sync" else None]
    assert done.wait(30)


def test_waiting_for_another_thread_s_opening_has_an_end(tmp_path, monkeypatch) -> None:
    """A disk that stalls the opening stalls no other thread for longer than a moment."""
    opening, release_opening = threading.Event(), threading.Event()

    def stall(*_: object) -> FakeClient:
        opening.set()
        release_opening.wait(20)
        return FakeClient(FailingWriter())

    monkeypatch.setattr(comet_storage, "Client", stall)
    monkeypatch.setattr(shared_client, "OPEN_WAIT_SECONDS", 0.05)
    shared = SharedClient(tmp_path, CometConfig.default())
    opener = threading.Thread(target=shared.open)
    opener.start()
    assert opening.wait(10)
    with pytest.raises(LogUnavailableError, match="another thread"):
        shared.append(TRACES, [b"refused"])
    release_opening.set()
    opener.join()
    shared.append(TRACES, [b"taken"])


class SlowWriter:
    """A lane whose appends take a second and fail, for as long as the clock says."""

    def __init__(self, clock: ManualClock, until: float) -> None:
        self._clock = clock
        self._until = until
        self.tries = 0

    def append(self, stored) -> None:
        """Take a second, and fail."""
        self.tries += 1
        if self._clock.now < self._until:
            self._clock.now += 1.0
            raise LogBusyError("another process holds the lock")


def test_a_log_that_keeps_its_callers_waiting_takes_a_tenth_of_their_time(tmp_path, monkeypatch) -> None:
    """A lock that a stopped process holds is waited for now and then, refused at once in between, and then taken."""
    clock = ManualClock()
    writer = SlowWriter(clock, until=100.0)
    monkeypatch.setattr(comet_storage, "Client", lambda *_: FakeClient(writer))
    shared = SharedClient(tmp_path, CometConfig.default(), clock=clock)
    with pytest.raises(LogBusyError):
        shared.append(TRACES, [b"waits"])
    began, waited, stored = clock.now, 0.0, False
    while not stored:
        clock.now += 0.01
        before = clock.now
        try:
            shared.append(TRACES, [b"one"])
            stored = True
        except (LogBusyError, LogUnavailableError):
            waited += clock.now - before
    assert waited <= 0.11 * (clock.now - began)
    assert clock.now < 100 + shared_client.PAUSE_MAX + 1  # it recovers by itself


def test_failures_that_take_no_time_are_not_paused_for(tmp_path, monkeypatch) -> None:
    """Room in a full log is used with the next batch."""
    client = FakeClient(FailingWriter(StorageIOError("full")))
    monkeypatch.setattr(comet_storage, "Client", lambda *_: client)
    shared = SharedClient(tmp_path, CometConfig.default(), clock=ManualClock())
    with pytest.raises(StorageIOError):
        shared.append(TRACES, [b"refused"])
    shared.append(TRACES, [b"stored"])
    assert client._writer.appended == [b"stored"]


def test_an_opening_that_takes_long_to_fail_is_paused_for_longer(tmp_path, monkeypatch) -> None:
    """A stalled disk does not get the application's time again and again."""
    clock, tries = ManualClock(), []

    def stall(*_: object) -> None:
        tries.append(clock.now)
        clock.now += 1.0
        raise StorageIOError("timed out")

    monkeypatch.setattr(comet_storage, "Client", stall)
    shared = SharedClient(tmp_path, CometConfig.default(), clock=clock)
    while clock.now < 60:
        with pytest.raises(LogUnavailableError):
            shared.append(TRACES, [b"refused"])
        clock.now += 0.01
    assert len(tries) <= 7


def test_of_threads_that_lose_their_directory_together_one_opens_it_again(tmp_path, monkeypatch) -> None:
    """The others use what that one opened, and do not throw it away."""
    both_failed = threading.Barrier(2, timeout=20)

    class LosingWriter(FailingWriter):
        def append(self, stored) -> None:
            both_failed.wait()
            raise LogMovedError("moved")

    fresh = FakeClient(FailingWriter())
    clients = [FakeClient(LosingWriter()), fresh]
    monkeypatch.setattr(comet_storage, "Client", lambda *_: clients.pop(0))
    shared = SharedClient(tmp_path, CometConfig.default())
    shared.open()
    threads = [threading.Thread(target=shared.append, args=(TRACES, [b"one"])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert fresh._writer.appended == [b"one", b"one"]
    assert not fresh.closed
    shared.close(5.0)


def test_nothing_to_sync_is_synced(tmp_path) -> None:
    """Whoever stored nothing has nothing to wait for."""
    assert SharedClient(tmp_path, CometConfig.default()).sync(1.0) is True


FORK = """
import os, sys, threading
from comet_otel import shared_client
from comet_otel.config import load_config
from comet_otel.streams import TRACES

shared = shared_client.acquire(load_config(data_dir=sys.argv[1], environment={}))
shared.append(TRACES, [b"parent before"])
# Another thread may hold any lock at the instant of a fork.
held, free = threading.Event(), threading.Event()
def hold():
    with shared._lock, shared_client._registry._lock:
        held.set()
        free.wait()
holder = threading.Thread(target=hold)
holder.start()
held.wait()
if sys.argv[2] == "C":  # like uWSGI: the child runs none of Python's hooks
    import ctypes
    fork = ctypes.PyDLL(None).fork
else:
    fork = os.fork
pid = fork()
if pid == 0:
    shared.append(TRACES, [b"child"])
    assert shared.sync(5.0)
    pid = fork()
    if pid == 0:
        shared.append(TRACES, [b"grandchild"])
        assert shared.sync(5.0)
        shared_client.release(shared, 5.0)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    other = shared_client.acquire(load_config(data_dir=sys.argv[1] + "/other", environment={}))
    other.append(TRACES, [b"of the child alone"])
    shared_client.release(other, 5.0)
    shared.append(TRACES, [b"child again"])
    shared_client.release(shared, 5.0)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
free.set()
holder.join()
shared.append(TRACES, [b"parent after"])
shared_client.release(shared, 5.0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Python", "C"])
def test_forked_children_store_in_lanes_of_their_own(tmp_path, kind) -> None:
    """Nothing is doubled, nothing is lost, nobody waits for a lock that the fork left held."""
    if kind == "C" and sys.version_info >= (3, 12):
        pytest.skip("without its hooks, Python 3.12 and later cannot run on in a child")
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path), kind], check=True, timeout=60)
    assert entries(tmp_path, TRACES) == {
        0: [b"parent before", b"parent after"],
        1: [b"child", b"child again"],
        2: [b"grandchild"],
    }
    assert entries(tmp_path / "other", TRACES) == {0: [b"of the child alone"]}
