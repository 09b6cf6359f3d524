"""What do signal handlers, finalizers and threads that come in between do to appends? Nothing that lasts."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from comet_storage import Client, ReentrantAppendError, StorageConfig
from tests.support.alarms import alarm_actions
from tests.support.entries import key_of, make_entry
from tests.support.small_log import QUICK, SHARD, STREAM, memory_directory, numbers_and_data, small_config

TIMES = 20_000 if os.environ.get("COMET_CRASH_FULL") else 2500
LONGEST_SECONDS = 0.5
"""Half of the lock timeout: whoever waits for it has deadlocked."""

MODES = ["owned", "shared", "pwrite"]


class InterruptError(Exception):
    """What the handler raises."""


@pytest.fixture
def tmp_path(tmp_path) -> Iterator[Path]:
    """In memory: many small segments."""
    yield from memory_directory(tmp_path)


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Sets what a timer's signal does; put back afterwards."""
    with alarm_actions() as install:
        yield install


def open_log(directory: Path, mode: str) -> Client:
    """Small segments, so that rotations are interrupted, too."""
    config = small_config(shared=mode == "shared", segment_bytes=4096)
    storage: StorageConfig = replace(config.storage, write_method="pwrite" if mode == "pwrite" else "mmap")
    return Client(directory, replace(config, storage=storage), _door=QUICK)


# Python reports, and drops, what a handler raises into a finalizer.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_handler_that_raises_into_appends_tears_nothing(tmp_path, on_alarm, mode) -> None:
    """After each exception the next append works; what was interrupted is there once or not at all."""
    armed = False

    def interrupt() -> None:
        if armed:
            raise InterruptError

    on_alarm(interrupt)
    chance = random.Random(mode)
    acknowledged: dict[int, int] = {}
    interrupted = 0
    with open_log(tmp_path, mode) as client:
        client.append(SHARD, [make_entry(1, 0)])
        for sequence in range(1, TIMES):
            entries = [make_entry(1, sequence, chance.choice((12, 40, 400)))]
            started = time.monotonic()
            try:
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 80e-6))
                    if sequence % 25 == 0:
                        client.sync()
                    ids = client.append(SHARD, entries)
                    acknowledged[ids[0].entry_number] = sequence
                finally:
                    armed = False
            except InterruptError:
                interrupted += 1
            armed = False
            assert time.monotonic() - started < LONGEST_SECONDS
        signal.setitimer(signal.ITIMER_REAL, 0)
        client.append(SHARD, [make_entry(1, TIMES)])
        found = numbers_and_data(list(client.scan(SHARD)))
    assert interrupted > TIMES // 50
    assert list(found) == list(range(len(found)))
    keys = [key_of(data) for data in found.values()]
    assert None not in keys
    assert len(set(keys)) == len(keys), "an entry is there twice"
    assert keys == sorted(keys, key=lambda key: key or (0, 0)), "an entry is out of order"
    assert {number: keys[number] for number in acknowledged} == {n: (1, s) for n, s in acknowledged.items()}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_handler_that_appends_to_the_same_shard_is_refused_or_served(tmp_path, on_alarm, mode) -> None:
    """It never waits for the append that it interrupted, and never tears it."""
    chance = random.Random(mode)
    acknowledged: dict[int, tuple[int, int]] = {}
    outcomes = {"served": 0, "refused": 0}
    numbers = itertools.count()
    with open_log(tmp_path, mode) as client:
        client.append(SHARD, [make_entry(1, 0)])
        acknowledged[0] = (1, 0)

        def append_more() -> None:
            # The handler may be interrupted by itself, too.
            number = next(numbers)
            try:
                (found,) = client.append(SHARD, [make_entry(2, number)])
            except ReentrantAppendError:
                outcomes["refused"] += 1
            else:
                acknowledged[found.entry_number] = (2, number)
                outcomes["served"] += 1

        on_alarm(append_more)
        for sequence in range(1, TIMES):
            started = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 80e-6))
            if sequence % 25 == 0:
                client.sync()
            (found,) = client.append(SHARD, [make_entry(1, sequence)])
            acknowledged[found.entry_number] = (1, sequence)
            assert time.monotonic() - started < LONGEST_SECONDS
        signal.setitimer(signal.ITIMER_REAL, 0)
        held = numbers_and_data(list(client.scan(SHARD)))
    assert {number: key_of(data) for number, data in held.items()} == acknowledged
    assert outcomes["served"] > 0
    assert outcomes["refused"] > 0


@pytest.mark.slow
def test_a_handler_that_appends_through_lanes_is_always_served(tmp_path, on_alarm) -> None:
    """While the process's own lane is in the middle of an append, the shared lane takes the handler's."""
    chance = random.Random(3)
    numbers = itertools.count()
    with open_log(tmp_path, "owned") as client:
        lanes = client.lanes(STREAM)
        lanes.append([make_entry(1, 0)])

        def append_more() -> None:
            lanes.append([make_entry(2, next(numbers))])

        on_alarm(append_more)
        for sequence in range(1, TIMES):
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 80e-6))
            lanes.append([make_entry(1, sequence)])
        signal.setitimer(signal.ITIMER_REAL, 0)
        keys = [
            key_of(message.data)
            for shard in client.shards(STREAM)
            for message in client.scan(f"{STREAM}:shard:{shard:04d}")
        ]
        assert len(client.shards(STREAM)) == 2
    handled = next(numbers)
    expected = [(1, sequence) for sequence in range(TIMES)] + [(2, sequence) for sequence in range(handled)]
    assert sorted(key or (0, 0) for key in keys) == expected
    assert handled > TIMES // 20


def test_an_append_from_inside_a_turn_is_refused_at_once(tmp_path) -> None:
    """A handler that interrupts ``sync`` gets an error instead of waiting for what it interrupted."""
    with open_log(tmp_path, "owned") as client:
        client.append(SHARD, [b"first"])
        (writer,) = client._writers.values()
        with writer.turn(), pytest.raises(ReentrantAppendError):
            client.append(SHARD, [b"second"])
        assert client.append(SHARD, [b"third"])[0].entry_number == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_threads_append_to_one_shard_without_losing_or_mixing_anything(tmp_path, mode) -> None:
    """Eight threads, switched as often as possible: numbers are unique and dense, and bytes are right."""
    threads, each = 8, 300
    acknowledged: list[tuple[int, tuple[int, int]]] = []
    errors: list[BaseException] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with open_log(tmp_path, mode) as client:

            def work(writer: int) -> None:
                try:
                    sequence = 0
                    while sequence < each:
                        count = 1 + sequence % 3
                        ids = client.append(SHARD, [make_entry(writer, sequence + index) for index in range(count)])
                        acknowledged.extend((ids[i].entry_number, (writer, sequence + i)) for i in range(count))
                        sequence += count
                except BaseException as error:
                    errors.append(error)

            workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
            for worker in workers:
                worker.start()
            while any(worker.is_alive() for worker in workers):
                client.sync()
            for worker in workers:
                worker.join()
            held = numbers_and_data(list(client.scan(SHARD)))
    finally:
        sys.setswitchinterval(before)
    assert errors == []
    assert list(held) == list(range(len(acknowledged)))
    assert {number: key_of(data) for number, data in held.items()} == dict(acknowledged)
