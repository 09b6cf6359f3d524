"""All blocks of the log stay within `max_total_size`, whoever writes and however much; what had to go is counted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from comet_storage import (
    Client,
    CometConfig,
    CompressionConfig,
    ConcurrencyConfig,
    Consumer,
    LogFullError,
    RetentionConfig,
    StorageConfig,
)

STREAM = "events:v1"
BOUND = 6 << 20
ROOT = Path(__file__).parents[3]

_WRITER = """
import sys
from tests.integration.storage.test_disk_bound import write_too_much
write_too_much(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "shared")
"""


def config(*, multi_process: bool = False, when_full: str = "evict_oldest") -> CometConfig:
    """Small segments within a small bound."""
    return CometConfig(
        compression=CompressionConfig(codec="none"),
        storage=StorageConfig(max_file_size=256 * 1024, sync_interval=0.05),
        concurrency=ConcurrencyConfig(multi_process=multi_process, lock_timeout=20.0),
        retention=RetentionConfig(max_total_size=BOUND, when_full=when_full),
    )


def write_too_much(directory: str, writer: int, shared: bool) -> None:
    """Append several times the bound, in batches of different sizes; print how many entries were stored."""
    stored = 0
    with Client(directory, config(multi_process=shared)) as client:
        name = f"{STREAM}:shard:{0 if shared else writer:04d}"
        for turn in range(120):
            count = (1, 40, 400)[turn % 3]
            client.append(name, [bytes([writer]) * 1000] * count)
            stored += count
    print(stored)


def allocated(directory: Path) -> int:
    """Return the blocks of everything below a directory, as du does."""
    total = os.lstat(directory).st_blocks
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            try:
                total += os.lstat(f"{parent}/{name}").st_blocks
            except FileNotFoundError:
                continue
    return total * 512


class Sampler:
    """Measures a directory all the time, and keeps the most it ever saw.

    Under the ledger's lock: otherwise a walk counts a file that goes and the one that takes its place.
    """

    def __init__(self, directory: Path) -> None:
        self.most = 0
        self.samples = 0
        self._directory = directory
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with (self._directory / "log.lock").open("rb") as lock:
            while not self._stop.is_set():
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.most = max(self.most, allocated(self._directory))
                self.samples += 1
                fcntl.flock(lock, fcntl.LOCK_UN)
                self._stop.wait(0.002)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["owned", "shared"])
def test_several_processes_stay_within_the_bound_and_evictions_are_counted(mode, tmp_path) -> None:
    """Three writers store many times the bound: it is never exceeded, and every number is in exactly one class."""
    directory = tmp_path / "log"
    with Client(directory, config()) as client, Consumer(client, "group", stream=STREAM):
        with Sampler(directory) as sampler:
            writers = [
                subprocess.Popen(
                    [sys.executable, "-c", _WRITER, str(directory), str(writer), mode], cwd=ROOT, stdout=subprocess.PIPE
                )
                for writer in range(3)
            ]
            stored = sum(int(writer.communicate(timeout=120)[0]) for writer in writers)
        assert [writer.returncode for writer in writers] == [0, 0, 0]
        assert sampler.samples > 20
        assert BOUND // 2 < sampler.most <= BOUND
        assert stored * 1000 > 4 * BOUND

        found = client.accounting(STREAM, "group")
        held = client.len(STREAM)
        assert found.total == stored
        assert (found.pending, found.evicted) == (held, stored - held)
        assert found.evicted > 0
        assert (found.delivered, found.rejected, found.skipped, found.corrupt, found.lost) == (0, 0, 0, 0, 0)


@pytest.mark.integration
@pytest.mark.slow
def test_a_group_that_reads_on_gets_what_is_held_and_counts_the_rest(tmp_path) -> None:
    """A consumer that was overtaken by eviction goes on with the oldest entry held; its classes add up."""
    with Client(tmp_path / "log", config()) as client, Consumer(client, "group", stream=STREAM) as consumer:
        for _ in range(30):
            client.append(f"{STREAM}:shard:0000", [bytes(1000)] * 100)
        first = consumer.read(count=50)
        consumer.ack(*(message.id for message in first))
        for _ in range(200):
            client.append(f"{STREAM}:shard:0000", [bytes(1000)] * 100)
        delivered = len(first)
        while messages := consumer.read(count=500):
            consumer.ack(*(message.id for message in messages))
            delivered += len(messages)
        found = client.accounting(STREAM, "group")
        assert (found.total, found.delivered, found.pending) == (23_000, delivered, 0)
        assert found.evicted == 23_000 - delivered > 10_000


def test_evictions_go_in_the_order_of_numbers_whatever_the_clock_says(tmp_path) -> None:
    """Times of change that run backwards, as after a clock was set, do not tear a hole into a shard."""
    name = f"{STREAM}:shard:0000"
    with Client(tmp_path / "log", config()) as client, Consumer(client, "group", stream=STREAM):
        for _ in range(30):
            client.append(name, [bytes(1000)] * 100)
        segments = sorted((tmp_path / "log/events/v1/shard-0000").glob("*.segment"))
        for age, path in enumerate(segments):
            os.utime(path, (10**9 - age * 1000, 10**9 - age * 1000))
        for _ in range(40):
            client.append(name, [bytes(1000)] * 100)
        held = client.len(name)
        found = client.accounting(STREAM, "group")
        assert found.evicted > 0
        # The flusher, which prepares room, may evict in between.
        assert held >= found.pending
        assert (found.corrupt, found.evicted + found.pending) == (0, 7000)
        numbers = [message.id.entry_number for message in client.scan(name)]
        assert numbers == list(range(found.evicted, 7000))


def test_when_full_rejects_nothing_is_evicted_and_appends_go_on_after_a_group_of_files_is_gone(tmp_path) -> None:
    """With `reject_new` an append at the bound is LogFullError, and everything stored before stays."""
    directory = tmp_path / "log"
    name = f"{STREAM}:shard:0000"
    with Client(directory, config(when_full="reject_new")) as client:
        stored = 0
        with contextlib.suppress(LogFullError):
            while stored < 100:
                client.append(name, [bytes(100_000)])
                stored += 1
        assert 20 < stored < 100
        for _ in range(3):
            with pytest.raises(LogFullError, match="reject_new"):
                client.append(name, [bytes(100_000)])
        assert client.len(name) == stored
        assert allocated(directory) <= BOUND
        oldest = min((directory / "events/v1/shard-0000").glob("*.segment"))
        oldest.unlink()
        # The log looks at its files again as often as that is cheap.
        deadline = time.monotonic() + 20
        while client.len(name) < stored and time.monotonic() < deadline:
            with contextlib.suppress(LogFullError):
                client.append(name, [bytes(100_000)])
        assert client.len(name) == stored


def test_shards_that_nobody_writes_give_way_to_those_that_somebody_does(tmp_path) -> None:
    """Many short-lived writers leave an active segment each; the next one closes and evicts the oldest of them."""
    with Client(tmp_path / "log", config()) as watcher, Consumer(watcher, "group", stream=STREAM):
        total = 0
        for shard in range(40):
            with Client(tmp_path / "log", config()) as client:
                client.append(f"{STREAM}:shard:{shard:04d}", [bytes(1000)] * 200)
                total += 200
            assert allocated(tmp_path / "log") <= BOUND
        found = watcher.accounting(STREAM, "group")
        assert found.total == total
        assert (found.pending + found.evicted, found.corrupt) == (total, 0)
        assert found.evicted > 0
