"""Whom does a process delay that is stopped (SIGSTOP) while it holds a lock? Others, by ``lock_timeout``."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytest

from comet_storage import Client, CometConfig, CometError, ConcurrencyConfig, Consumer, LogBusyError, StorageConfig
from comet_storage._os.door import Door
from tests.support.children import PATIENCE_SECONDS, Child
from tests.support.entries import judge, make_entry

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHARD = "stopped:v1:shard:0000"
STREAM = "stopped:v1"
LOCK_TIMEOUT = 0.3
SLACK = 1.0
"""For a machine that does other things as well."""


def config_for(*, shared: bool = False) -> CometConfig:
    """A short lock timeout, and a flusher that takes no lock by itself."""
    return CometConfig(
        storage=StorageConfig(sync_interval=300),
        concurrency=ConcurrencyConfig(multi_process=shared, lock_timeout=LOCK_TIMEOUT),
    )


class StoppingDoor(Door):
    """Stops its own process at a chosen call."""

    def __init__(self) -> None:
        self.point = ""

    def failpoint(self, name: str) -> None:
        """Stop here, once."""
        if name == self.point:
            self.point = ""
            os.kill(os.getpid(), signal.SIGSTOP)

    def wall_clock_ns(self) -> int:  # type: ignore[override]  # the door has it as an attribute, for speed
        """In the middle of an append."""
        self.failpoint("append")
        return time.time_ns()

    def link(self, source: str, target: str) -> None:
        """In the middle of making a group."""
        self.failpoint("register")
        super().link(source, target)


def stop_at(out: Connection, into: Connection, directory: str, point: str) -> None:
    """Append, then stop where told to; append again after that."""
    door = StoppingDoor()
    client = Client(directory, config_for(shared=point == "append"), _door=door)
    client.append(SHARD, [make_entry(1, 0)])
    out.send("ready")
    into.recv()
    door.point = point
    if point == "register":
        Consumer(client, "made-by-the-stopped-one", stream=STREAM).close()
    elif point == "space.before_allocate":
        client.append("stopped:v1:shard:0001", [make_entry(1, 0)])
    else:
        client.append(SHARD, [make_entry(1, 1)])
    out.send("went on")
    into.recv()
    client.close()
    out.send("closed")


class Stopped:
    """A child that stopped itself at a point, for the time of a ``with`` block."""

    def __init__(self, directory: Any, point: str) -> None:
        self.child = Child(stop_at, str(directory), point)
        assert self.child.hear() == "ready"
        self.child.tell("stop")
        assert self.child.process.pid is not None
        self.pid = self.child.process.pid
        deadline = time.monotonic() + PATIENCE_SECONDS
        while state_of(self.pid) != "T":
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def go_on(self) -> None:
        """Let it finish what it was at."""
        os.kill(self.pid, signal.SIGCONT)
        assert self.child.hear() == "went on"

    def __enter__(self) -> Stopped:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self.child.__exit__()


def state_of(pid: int) -> str:
    """One letter, as in ``ps``."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - a file of the kernel
        return file.read().rpartition(")")[2].split()[0]


def busy_after(action: Callable[[], object]) -> float:
    """How long an action takes to end in LogBusyError."""
    started = time.monotonic()
    with pytest.raises(LogBusyError):
        action()
    return time.monotonic() - started


def test_a_stopped_process_in_a_shared_append_delays_its_peers_by_the_lock_timeout(tmp_path) -> None:
    """Then they get LogBusyError; everything else goes on, and the shard does when the process goes on."""
    with Stopped(tmp_path, "append") as stopped, Client(tmp_path, config_for(shared=True)) as peer:
        assert LOCK_TIMEOUT <= busy_after(lambda: peer.append(SHARD, [b"no"])) < LOCK_TIMEOUT + SLACK
        started = time.monotonic()
        peer.append("stopped:v1:shard:0001", [make_entry(2, 0)])
        with Client(tmp_path, config_for()) as reader:
            assert len(list(reader.scan(SHARD))) == 1
            with Consumer(reader, "readers", stream=STREAM) as consumer:
                consumer.ack(*(message.id for message in consumer.read()))
        assert time.monotonic() - started < SLACK
        stopped.go_on()
        (found,) = peer.append(SHARD, [make_entry(2, 1)])
        assert found.entry_number == 2
        verdict = judge(peer.scan(SHARD), {0: (1, 0), 1: (1, 1), 2: (2, 1)})
        assert verdict.clean, verdict


def test_a_stopped_holder_of_the_ledger_delays_all_threads_together_by_the_lock_timeout(tmp_path) -> None:
    """Who needs blocks waits that long, however many threads need some; who has blocks does not wait at all."""
    with Client(tmp_path, config_for()) as owner:
        owner.append("stopped:v1:shard:0002", [make_entry(3, 0)])
        with Stopped(tmp_path, "space.before_allocate") as stopped:
            started = time.monotonic()
            for sequence in range(1, 100):
                owner.append("stopped:v1:shard:0002", [make_entry(3, sequence)])
            assert time.monotonic() - started < SLACK
            waits: dict[int, float] = {}
            lanes = owner.lanes("lanes:v1")

            def first_append(shard: int) -> None:
                action = (
                    (lambda: lanes.append([b"no"]))
                    if shard % 2
                    else (lambda: owner.append(f"stopped:v1:shard:{shard:04d}", [b"no"]))
                )
                waits[shard] = busy_after(action)

            threads = [threading.Thread(target=first_append, args=(shard,)) for shard in range(10, 18)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(waits) == 8
            assert max(waits.values()) < LOCK_TIMEOUT + SLACK
            stopped.go_on()
            assert owner.append("stopped:v1:shard:0010", [make_entry(3, 100)])[0].entry_number == 0
            assert lanes.append([make_entry(3, 101)])[0].entry_number == 0


def test_a_stopped_process_that_makes_a_group_delays_others_that_make_one(tmp_path) -> None:
    """By the lock timeout; groups that exist are used as before."""
    with Client(tmp_path, config_for()) as client:
        Consumer(client, "before", stream=STREAM).close()
        with Stopped(tmp_path, "register") as stopped:
            wait = busy_after(lambda: Consumer(client, "another", stream=STREAM))
            assert LOCK_TIMEOUT <= wait < LOCK_TIMEOUT + SLACK
            started = time.monotonic()
            with Consumer(client, "before", stream=STREAM) as consumer:
                consumer.ack(*(message.id for message in consumer.read()))
            client.append("stopped:v1:shard:0001", [make_entry(2, 0)])
            assert time.monotonic() - started < SLACK
            stopped.go_on()
            Consumer(client, "another", stream=STREAM).close()
            assert set(client.groups(STREAM)) == {"before", "another", "made-by-the-stopped-one"}


def test_a_stopped_owner_delays_nobody_else(tmp_path) -> None:
    """Others read what it stored, own other lanes and clean up; its shard is refused with its name."""
    with Child(stop_at, str(tmp_path), "none") as owner:
        assert owner.hear() == "ready"
        pid = owner.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with Client(tmp_path, config_for()) as other:
                assert other.lanes(STREAM).append([make_entry(2, 0)])[0].shard_id == 1
                assert len(list(other.scan(SHARD))) == 1
                other.sync()
                with pytest.raises(CometError) as refused:
                    other.append(SHARD, [b"no"])
                assert str(pid) in str(refused.value)
            assert time.monotonic() - started < 2 * SLACK
        finally:
            os.kill(pid, signal.SIGCONT)
        owner.tell("go on")
        assert owner.hear() == "went on"
        owner.tell("close")
        assert owner.hear() == "closed"
