"""What has a forked process of the log that its parent has open? Nothing but what it opens itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from comet_storage import Client, CometConfig, CometError, Consumer, StorageConfig
from comet_storage._os.door import Door
from comet_storage._shard.page import WriterPage
from tests.support.children import PATIENCE_SECONDS, Child
from tests.support.engine import free_reserve
from tests.support.entries import key_of, make_entry
from tests.support.forking import FORKS, LANES, OWNED, busy_config, descriptors_into

pytestmark = [pytest.mark.integration, pytest.mark.slow]

GROUP = "forked"
STREAM = "owned:v1"


def outcome(action: Callable[[], Any]) -> Any:
    """What an action gives, or the name of its error."""
    try:
        return action()
    except Exception as error:
        return type(error).__name__


def fork_child(out: Connection, kind: str, live: Callable[[], Any]) -> int:
    """Fork in one of the ways; the child sends what ``live`` gives and ends."""
    pid = FORKS[kind]()
    if pid == 0:
        out.send(outcome(live))
        os._exit(0)
    return pid


def fork_with_everything_open(out: Connection, into: Connection, directory: str, kind: str) -> None:
    """A client with an owned shard, a lane, a consumer and a flusher; then a fork that uses all of it."""
    client = Client(directory, busy_config())
    lanes = client.lanes(LANES)
    client.append(OWNED, [make_entry(1, 0)])
    lanes.append([make_entry(1, 0)])
    consumer = Consumer(client, GROUP, stream=STREAM)
    consumer.read()

    def live() -> dict[str, Any]:
        result: dict[str, Any] = {"owned": outcome(lambda: client.append(OWNED, [b"child"]))}
        result["inherited"] = list(descriptors_into(directory).values())
        result["lane"] = lanes.append([make_entry(2, 0)])[0].shard_id
        result["consumer"] = outcome(consumer.read)
        with Consumer(client, GROUP, stream=STREAM) as own:
            result["leased"] = len(own.read())
        flusher = client._flusher
        result["flusher"] = flusher is not None and flusher._thread.is_alive()
        deadline = time.monotonic() + PATIENCE_SECONDS
        (writer,) = client._writers.values()
        while writer.page.durable().number < 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        result["durable"] = writer.page.durable().number
        return result

    pid = fork_child(out, kind, live)
    os.waitpid(pid, 0)
    consumer.ack(*(message.id for message in consumer.read()))
    out.send((client.append(OWNED, [make_entry(1, 1)])[0].entry_number, lanes.append([b"parent"])[0].shard_id))
    client.close()
    out.send("closed")


@pytest.mark.parametrize("kind", FORKS)
def test_a_child_lets_go_of_what_it_inherited_and_opens_its_own(tmp_path, kind) -> None:
    """Shard and lease stay the parent's; the child's lane is its own, and its own flusher makes it durable."""
    with Child(fork_with_everything_open, str(tmp_path), kind) as parent:
        result = parent.hear()
        assert result == {
            # Its first call notices the fork, so that it claims the shard itself, and the parent has it.
            "owned": "ShardOwnedError",
            # Also what its flusher had open for a moment.
            "inherited": [],
            "lane": 1,
            "consumer": "ClosedError",
            "leased": 0,
            "flusher": True,
            "durable": 1,
        }
        assert parent.hear() == (1, 0)
        assert parent.hear() == "closed"
    with Client(tmp_path, busy_config()) as client:
        assert [key_of(message.data) for message in client.scan(OWNED)] == [(1, 0), (1, 1)]
        assert client.accounting(STREAM, GROUP).delivered == 1


def fork_and_be_killed(out: Connection, into: Connection, directory: str, kind: str) -> None:
    """Fork a child that uses the log once and lives on; then wait to be killed."""
    client = Client(directory, busy_config())
    client.append(OWNED, [b"parent"])

    def live() -> None:
        client.streams()
        client.sync()
        out.send(os.getpid())
        time.sleep(PATIENCE_SECONDS)

    fork_child(out, kind, live)
    into.recv()


@pytest.mark.parametrize("kind", FORKS)
def test_a_child_that_lives_on_keeps_no_lock_of_its_dead_parent(tmp_path, kind) -> None:
    """At once after the parent's death another process owns the shard."""
    with Child(fork_and_be_killed, str(tmp_path), kind) as parent:
        pid = parent.hear()
        parent.kill()
        try:
            with Client(tmp_path, busy_config()) as client:
                assert client.append(OWNED, [b"next"])[0].entry_number == 1
        finally:
            os.kill(pid, signal.SIGKILL)


class ForkingDoor(Door):
    """Forks at a failpoint, or when an append asks for the time: where a signal handler may do so."""

    def __init__(self) -> None:
        self.point = ""
        self.child = -1

    def failpoint(self, name: str) -> None:
        """Fork here, once."""
        if name == self.point:
            self.point = ""
            self.child = os.fork()

    def wall_clock_ns(self) -> int:  # type: ignore[override]  # the door has it as an attribute, for speed
        """The time, and perhaps another process."""
        self.failpoint("append")
        return time.time_ns()


def fork_in_the_middle(out: Connection, into: Connection, directory: str, point: str, write_method: str) -> None:
    """Be forked in the middle of an append; parent and child both go on from there."""
    door = ForkingDoor()
    config = CometConfig(storage=StorageConfig(max_file_size=4096, sync_interval=300, write_method=write_method))  # type: ignore[arg-type]
    client = Client(directory, config, _door=door)
    if not point.startswith("claim"):
        client.append(OWNED, [make_entry(1, 0, 100)])
    sequence = 1
    door.point = point
    result: list[Any] = []
    while door.child < 0 and sequence < 500:
        entry = make_entry(1, sequence, 100)
        found = outcome(lambda entry=entry: client.append(OWNED, [entry])[0].entry_number)  # type: ignore[misc]
        if door.child >= 0:
            result.append(found)
        sequence += 1
    result.append(outcome(lambda: client.append(OWNED, [make_entry(1, sequence, 100)])[0].entry_number))
    if door.child == 0:
        out.send(("child", result))
        os._exit(0)
    os.waitpid(door.child, 0)
    client.append(OWNED, [make_entry(1, sequence + 1, 100)])
    out.send(("parent", result))
    client.close()
    out.send("closed")


@pytest.mark.parametrize(
    ("point", "write_method"),
    [
        ("append", "mmap"),
        ("append", "pwrite"),
        ("claim.before_segment", "mmap"),
        ("claim.before_page", "pwrite"),
        ("rotate.before_rename", "pwrite"),
        ("rotate.after_rename", "mmap"),
        ("space.before_allocate", "mmap"),
    ],
)
def test_a_fork_in_the_middle_of_an_append_leaves_the_append_to_the_parent(tmp_path, point, write_method) -> None:
    """The child's half of the append fails and changes nothing; the shard is never the child's."""
    with Child(fork_in_the_middle, str(tmp_path), point, write_method) as child:
        reports = dict(child.hear() for _ in range(2))
        assert child.hear() == "closed"
    interrupted, following = reports["child"]
    assert interrupted in {"ShardLostError", "StorageIOError"}
    assert following == "ShardOwnedError"
    first, second = reports["parent"]
    assert second == first + 1
    with Client(tmp_path, busy_config()) as client:
        keys = [key_of(message.data) for message in client.scan(OWNED)]
    start = 1 if point.startswith("claim") else 0
    assert keys == [(1, sequence) for sequence in range(start, start + second + 2)]


def append_in_a_lane(directory: str, writer: int, count: int) -> None:
    """What a worker of a pool does; spawned ones import this module."""
    with Client(directory, busy_config()) as client:
        lanes = client.lanes(LANES)
        for sequence in range(count):
            lanes.append([make_entry(writer, sequence)])


def append_with_the_parents_client(client: Client, writer: int, count: int) -> None:
    """What a forked worker does with what it inherited."""
    lanes = client.lanes(LANES)
    for sequence in range(count):
        lanes.append([make_entry(writer, sequence)])
    client.close()


def run_workers(directory: str, kind: str) -> None:
    """A program that starts workers while it appends itself."""
    client = Client(directory, busy_config())
    lanes = client.lanes(LANES)
    lanes.append([make_entry(0, 0)])
    context: Any = multiprocessing.get_context(kind)
    workers = [
        context.Process(
            target=append_with_the_parents_client if kind == "fork" else append_in_a_lane,
            args=(client if kind == "fork" else directory, writer, 50),
        )
        for writer in range(1, 4)
    ]
    for worker in workers:
        worker.start()
    for sequence in range(1, 50):
        lanes.append([make_entry(0, sequence)])
    for worker in workers:
        worker.join()
    client.close()
    sys.exit(max(worker.exitcode for worker in workers))


ROOT = Path(__file__).resolve().parents[3]


def run_program(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_append_beside_their_parent(tmp_path, kind) -> None:
    """However they are started, each has a lane, and all that was appended is there once."""
    code = (
        "import sys; sys.path.insert(0, 'tests/integration/processes'); import test_forks; "
        "test_forks.run_workers(*sys.argv[1:])"
    )
    ended = run_program(code, str(tmp_path), kind)
    assert (ended.returncode, ended.stderr) == (0, "")
    with Client(tmp_path, busy_config()) as client:
        keys = [
            key_of(message.data)
            for shard in client.shards(LANES)
            for message in client.scan(f"{LANES}:shard:{shard:04d}")
        ]
    assert sorted(key or (0, 0) for key in keys) == [(writer, n) for writer in range(4) for n in range(50)]


def serve(out: Connection, into: Connection, directory: str, workers: int) -> None:
    """A pre-fork server as gunicorn is one: loaded in the master, whose workers accept from the socket it opened."""
    client = Client(directory, busy_config())
    lanes = client.lanes(LANES)
    # The application logs something while it is loaded, so that the master has a lane and a flusher.
    lanes.append([make_entry(0, 0)])
    listening = socket.create_server(("127.0.0.1", 0))

    def start_worker() -> int:
        pid = os.fork()
        if pid == 0:
            _work(listening, lanes)
        return pid

    pids = {start_worker() for _ in range(workers)}
    out.send(listening.getsockname()[1])
    # Workers that die are replaced, as a master does.
    while not into.poll():
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid in pids:
            pids.remove(pid)
            pids.add(start_worker())
        time.sleep(0.001)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
    client.close()
    out.send("closed")


def _work(listening: socket.socket, lanes: Any) -> None:
    try:
        while True:
            connection, _ = listening.accept()
            with connection:
                writer, sequence = map(int, connection.recv(100).split())
                if sequence < 0:
                    os._exit(3)
                try:
                    found = lanes.append([make_entry(writer, sequence)])[0]
                    connection.sendall(f"{found.shard_id} {found.entry_number}".encode())
                except CometError as error:
                    connection.sendall(type(error).__name__.encode())
    finally:
        os._exit(1)


def test_a_pre_fork_server_stores_every_request_although_workers_die(tmp_path) -> None:
    """Each worker claims a lane of its own with its first request; a replacement claims the dead one's."""
    requests, workers = 120, 3
    acknowledged: dict[tuple[int, int], int] = {}
    with Child(serve, str(tmp_path), workers) as server:
        port = server.hear()

        def request(sequence: int) -> str:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
                connection.sendall(f"1 {sequence}".encode())
                return connection.recv(100).decode()

        for sequence in range(requests):
            if sequence % 30 == 29:
                assert request(-1) == ""
            shard, _, number = request(sequence).partition(" ")
            acknowledged[int(shard), int(number)] = sequence
        assert server.ask("stop") == "closed"
    assert len(acknowledged) == requests
    with Client(tmp_path, busy_config()) as client:
        held = {
            (message.id.shard_id, message.id.entry_number): key_of(message.data)
            for shard in client.shards(LANES)
            for message in client.scan(f"{LANES}:shard:{shard:04d}")
        }
        # Lanes of the dead were claimed again: no more than master and workers ever needed at once.
        assert len(client.shards(LANES)) <= workers + 1
    assert held.pop((0, 0)) == (0, 0)
    assert held == {place: (1, sequence) for place, sequence in acknowledged.items()}


def test_a_page_that_is_open_is_closed_in_a_child(tmp_path) -> None:
    """Also one that no writer has adopted yet, as in the middle of a claim."""
    page = WriterPage(Door(), str(tmp_path / "state"), mapped=True, reserve=free_reserve)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if page.fd < 0 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    page.close()
