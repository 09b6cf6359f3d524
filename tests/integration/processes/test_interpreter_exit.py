"""Does a program that appends until its very end, however it ends, end quietly, at once and with all it stored?"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, ConcurrencyConfig, LogBusyError, StorageConfig
from tests.support.children import PATIENCE_SECONDS
from tests.support.small_log import QUICK, numbers_and_data

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]
SHARD = "exit:v1:shard:0000"
STREAM = "exit:v1"

PREFACE = """
import atexit, os, signal, sys, threading, time
from comet_storage import Client
client = Client(sys.argv[1])
lanes = client.lanes("exit:v1")
def append(text):
    return lanes.append([text.encode()])
append("first")
"""

PROGRAMS = {
    "atexit": """
atexit.register(append, "last")
""",
    "atexit_of_a_module_that_starts_late": """
def begin():
    other = Client(sys.argv[1]).lanes("late:v1")
    other.append([b"a new client and flusher at exit"])
    append("last")
atexit.register(begin)
""",
    "finalizer": """
class Thing:
    def __del__(self):
        append("last")
thing = Thing()
cycle = [Thing()]
cycle.append(cycle)
append("last")
""",
    "daemon_threads": """
def work():
    while True:
        append("more")
        time.sleep(0.001)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
append("last")
""",
    "threads_that_outlive_main": """
def work():
    threading.main_thread().join()
    append("last")
threading.Thread(target=work).start()
""",
    "unhandled_signal": """
def stop(number, frame):
    append("last")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
os.kill(os.getpid(), signal.SIGTERM)
while True:
    append("more")
""",
    "close_by_a_handler": """
def stop(number, frame):
    append("last")
    client.close()
    sys.exit(0)
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.05)
while True:
    append("more")
""",
    "exit_without_cleaning": """
append("last")
os._exit(0)
""",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_appends_until_the_end_ends_quietly(tmp_path, program) -> None:
    """No hang, no traceback, the right exit code; the last entry is there, and the lane can be claimed at once."""
    ended = subprocess.run(
        [sys.executable, "-c", PREFACE + PROGRAMS[program], str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    with Client(tmp_path) as client:
        assert client.lanes(STREAM).append([b"next"])[0].shard_id == 0
        shards = [f"{STREAM}:shard:{shard:04d}" for shard in client.shards(STREAM)]
        entries = [message.data for shard in shards for message in client.scan(shard)]
    assert entries[0] == b"first"
    assert b"last" in entries


def test_a_client_closed_by_a_handler_in_the_middle_of_an_append_frees_the_shard(tmp_path) -> None:
    """Not within the handler, because that append goes on behind it, but when it has ended."""
    client = Client(tmp_path, _door=QUICK)
    client.append(SHARD, [b"first"])
    (writer,) = client._writers.values()
    with writer.turn():
        # As in a handler: the turn is further up this thread's stack.
        client.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while writer.file_lock.fd >= 0:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    with Client(tmp_path) as after:
        assert after.append(SHARD, [b"second"])[0].entry_number == 1


@pytest.mark.parametrize("shards", [1, 32])
def test_thirty_two_threads_append_without_an_error(tmp_path, shards) -> None:
    """To one shard, where they take turns, or to one each, which they claim at the same time."""
    each, threads = 40, 32
    errors: list[BaseException] = []
    config = CometConfig(storage=StorageConfig(max_file_size=64 * 1024), concurrency=ConcurrencyConfig(lock_timeout=20))
    with Client(tmp_path, config, _door=QUICK) as client:
        start = threading.Barrier(threads)

        def work(number: int) -> None:
            try:
                start.wait()
                for sequence in range(each):
                    client.append(f"{STREAM}:shard:{number % shards:04d}", [b"%d %d" % (number, sequence)])
            except BaseException as error:
                errors.append(error)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert errors == []
        found: list[bytes] = []
        for shard in range(shards):
            held = numbers_and_data(list(client.scan(f"{STREAM}:shard:{shard:04d}")))
            assert list(held) == list(range(each * threads // shards))
            found += held.values()
    expected = [b"%d %d" % (number, sequence) for number in range(threads) for sequence in range(each)]
    assert sorted(found) == sorted(expected)


def test_a_thread_gives_up_after_the_lock_timeout_and_not_before(tmp_path) -> None:
    """While another thread has its turn, all that wait get LogBusyError at about the same time."""
    timeout = 0.2
    config = CometConfig(concurrency=ConcurrencyConfig(lock_timeout=timeout))
    waits: list[float] = []
    with Client(tmp_path, config, _door=QUICK) as client:
        client.append(SHARD, [b"first"])
        (writer,) = client._writers.values()

        def work() -> None:
            started = time.monotonic()
            try:
                client.append(SHARD, [b"no"])
            except LogBusyError:
                waits.append(time.monotonic() - started)

        with writer.turn():
            workers = [threading.Thread(target=work) for _ in range(8)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        assert len(waits) == 8
        assert min(waits) >= timeout
        assert max(waits) < timeout + 1.0
        assert client.append(SHARD, [b"second"])[0].entry_number == 1


def test_coroutines_append_in_their_loop_and_in_its_threads(tmp_path) -> None:
    """Small appends are made in place; what may wait goes to a thread."""

    async def use(client: Client) -> None:
        async def direct(number: int) -> None:
            for sequence in range(50):
                client.append(SHARD, [b"direct %d %d" % (number, sequence)])
                await asyncio.sleep(0)

        async def in_thread(number: int) -> None:
            for sequence in range(20):
                await asyncio.to_thread(client.append, SHARD, [b"thread %d %d" % (number, sequence)])
            await asyncio.to_thread(client.sync)

        await asyncio.gather(*(direct(number) for number in range(5)), *(in_thread(number) for number in range(5)))

    with Client(tmp_path, _door=QUICK) as client:
        asyncio.run(use(client))
        held = numbers_and_data(list(client.scan(SHARD)))
    assert list(held) == list(range(350))
    assert len(set(held.values())) == 350
