"""What if other code of the process closes the log's descriptors, and its own files get their numbers?

A daemonizer does: it closes every descriptor from 3 on. Nothing may ever be stored in, locked, cut or closed by number
that is not the log's any more, and the shard is given up with a typed error before another process can have it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from comet_storage import AckError, Client, CometConfig, CometError, Consumer, StorageConfig
from tests.support.children import Child
from tests.support.entries import judge, make_entry
from tests.support.forking import descriptors_into
from tests.support.small_log import QUICK, memory_directory

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHARD = "closed:v1:shard:0000"
STREAM = "closed:v1"
MODES = ["owned", "shared", "pwrite"]
PATTERN = b"the application's own bytes " * 200


@pytest.fixture
def tmp_path(tmp_path) -> Iterator[Path]:
    """In memory: nothing here depends on the disk."""
    yield from memory_directory(tmp_path)


def config_for(mode: str, sync_interval: float = 300) -> CometConfig:
    """Small segments; by default a flusher that sleeps through the test."""
    base = CometConfig.multi_process() if mode == "shared" else CometConfig.default()
    method: Any = "pwrite" if mode == "pwrite" else "mmap"
    return CometConfig(
        storage=StorageConfig(max_file_size=16 * 1024, sync_interval=sync_interval, write_method=method),
        concurrency=base.concurrency,
    )


class Application:
    """The rest of the process: closes descriptors that are not its own, and opens files that get their numbers."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.files: dict[int, Path] = {}

    def take(self, number: int) -> None:
        """Close a descriptor and have a file of one's own under its number."""
        path = self._directory / f"file-{len(self.files)}-{number}"
        path.write_bytes(PATTERN)
        fd = os.open(path, os.O_RDWR)
        if fd != number:
            os.dup2(fd, number)
            os.close(fd)
        self.files[number] = path

    def problems(self) -> list[str]:
        """What was done to its files."""
        found = []
        for number, path in self.files.items():
            try:
                same = os.fstat(number).st_ino == path.stat().st_ino
            except OSError:
                same = False
            if not same:
                found.append(f"descriptor {number} was closed")
            if path.read_bytes() != PATTERN:
                found.append(f"the file at descriptor {number} was changed")
            with path.open("rb") as other:
                try:
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.append(f"the file at descriptor {number} is locked")
        return found

    def leave(self) -> None:
        """Close its files."""
        for number in self.files:
            with contextlib.suppress(OSError):
                os.close(number)


def lose_descriptors(out: Connection, into: Connection, directory: str, mode: str, seeds: range) -> None:
    """For each seed: use a log, lose some or all of its descriptors, go on using it; send what was found."""
    for seed in seeds:
        out.send((seed, *_lose_once(Path(directory) / str(seed), mode, random.Random(f"{mode} {seed}"))))
    out.send(None)


def _lose_once(directory: Path, mode: str, chance: random.Random) -> tuple[list[str], int]:
    directory.mkdir()
    log = directory / "log"
    application = Application(directory / "application")
    problems: list[str] = []
    acknowledged: dict[int, tuple[int, int]] = {}
    sequence = 0
    errors = 0
    client = Client(log, config_for(mode), _door=QUICK)
    # No flusher: what it has open for a moment could not be told from what is open for long here.
    client._start_flusher = lambda: None
    consumer = Consumer(client, "group", stream=STREAM)
    for turn in range(60):
        if turn in {15, 40}:
            numbers = sorted(descriptors_into(str(log)))
            chance.shuffle(numbers)
            for number in numbers[: chance.choice((len(numbers), 1, 2, 3))]:
                if chance.random() < 0.2:
                    os.close(number)
                else:
                    application.take(number)
        action = chance.choice(("append", "append", "append", "large", "sync", "read", "scan"))
        try:
            if action in {"append", "large"}:
                entry = make_entry(1, sequence, 90_000 if action == "large" else 400)
                (found,) = client.append(SHARD, [entry])
                acknowledged[found.entry_number] = (1, sequence)
            elif action == "sync":
                client.sync()
            elif action == "scan":
                verdict = judge(client.scan(SHARD), acknowledged)
                if not verdict.clean:
                    problems.append(f"turn {turn}: {verdict}")
            else:
                consumer.ack(*(message.id for message in consumer.read(count=5)))
        except (CometError, AckError):
            errors += 1
        except Exception as error:
            problems.append(f"turn {turn}, {action}: {type(error).__name__}: {error}")
        sequence += 1
    consumer.close()
    client.close()
    problems += application.problems()
    application.leave()
    with Client(log, config_for(mode), _door=QUICK) as after:
        (found,) = after.append(SHARD, [make_entry(1, sequence)])
        acknowledged[found.entry_number] = (1, sequence)
        verdict = judge(after.scan(SHARD), acknowledged)
        # Without a clean end the numbers up to the ceiling may be given up.
        verdict.gaps.clear()
        if not verdict.clean:
            problems.append(f"after: {verdict}")
        if after.accounting(STREAM, "group").corrupt:
            problems.append("what another file held was taken for damage")
    left = descriptors_into(str(log))
    if left:
        problems.append(f"left open: {left}")
    return problems, errors


@pytest.mark.parametrize("mode", MODES)
def test_files_that_got_the_numbers_of_closed_descriptors_are_never_touched(tmp_path, mode) -> None:
    """Some or all descriptors are taken, at any time: errors are typed, and nothing acknowledged is lost."""
    errors = 0
    with Child(lose_descriptors, str(tmp_path), mode, range(25)) as child:
        while (heard := child.hear()) is not None:
            seed, problems, met = heard
            assert problems == [], f"seed {seed}"
            errors += met
    assert errors > 0


def daemonize_late(out: Connection, into: Connection, directory: str, mode: str) -> None:
    """Append, lose every descriptor of the log, and append on when told to."""
    client = Client(directory, config_for(mode, 0.02 if mode == "flushed" else 300))
    client.append(SHARD, [make_entry(1, 0)])
    for number in descriptors_into(directory):
        os.close(number)
    out.send("closed")
    for sequence in iter(into.recv, None):
        try:
            out.send(client.append(SHARD, [make_entry(1, sequence)])[0].entry_number)
        except Exception as error:
            out.send(type(error).__name__)


@pytest.mark.parametrize("mode", ["owned", "shared", "pwrite"])
def test_an_owner_that_lost_its_descriptors_is_not_one_of_two_writers(tmp_path, mode) -> None:
    """The lock was freed with the descriptor; the next owner is safe from the old one, whose next append is refused."""
    with Child(daemonize_late, str(tmp_path), mode) as first:
        assert first.hear() == "closed"
        with Client(tmp_path, config_for(mode)) as second:
            assert second.append(SHARD, [make_entry(2, 0)])[0].entry_number == 1
            assert first.ask(1) == "ShardLostError"
            assert first.ask(2) == (2 if mode == "shared" else "ShardOwnedError")
            number = second.append(SHARD, [make_entry(2, 1)])[0].entry_number
            verdict = judge(second.scan(SHARD), {0: (1, 0), 1: (2, 0), number: (2, 1)})
            assert verdict.clean, verdict
        first.tell(None)


def test_a_flusher_notices_lost_descriptors_before_anybody_else_comes(tmp_path) -> None:
    """Within a sync interval; then an append is refused once, and the next one claims the shard anew."""
    with Child(daemonize_late, str(tmp_path), "flushed") as child:
        assert child.hear() == "closed"
        for sequence in range(1, 100_000):
            answer = child.ask(sequence)
            if answer == "ShardLostError":
                break
            assert answer == sequence
        assert child.ask(100_000) == sequence
        child.tell(None)
        child.join()
    with Client(tmp_path, config_for("owned")) as client:
        numbers = [message.id.entry_number for message in client.scan(SHARD)]
        assert numbers == list(range(sequence + 1))
