"""KeyboardInterrupt at any line of the loop, of a read or of an acknowledgement: nothing is lost, nothing made up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from comet_storage import Client, Consumer, StreamMessage
from tests.support.engine import ManualDoor
from tests.support.small_log import QuickDoor, memory_directory, small_config

STREAM = "events:v1"
GROUPS_FOLDERS = ("comet_storage/_groups/", "comet_storage/_shard/reader", "comet_storage/_segment/file")
EVERY = 61
"""Each so many lines one interruption; with more rounds than lines, the whole loop is covered."""


class _InterruptAt:
    """Raises at the n-th line that runs in the consumer's part of the engine."""

    def __init__(self, line: int) -> None:
        self.left = line
        self.where = ""

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        """Count the lines of the functions that matter."""
        name = frame.f_code.co_filename
        if not name.endswith("comet_storage/consumer.py") and not any(folder in name for folder in GROUPS_FOLDERS):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.where = f"{name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.trace


class _Door(ManualDoor, QuickDoor):
    """Clocks that the loop's own pauses turn, and a disk that nobody waits for."""


class _Stop:
    """Set when the loop had nothing to do for a while."""

    def __init__(self, door: _Door) -> None:
        self._door = door
        self.deadline = door.now + 3

    def is_set(self) -> bool:
        """Tell whether it was."""
        return self._door.now >= self.deadline


@pytest.fixture
def directory(tmp_path) -> Iterator[Path]:
    """In memory: many small logs."""
    yield from memory_directory(tmp_path)


def _interrupted(directory: Path, line: int) -> bool:
    """One log, interrupted once; returns whether the loop was still running then."""
    handled: set[tuple[int, int]] = set()
    door = _Door()

    def handler(messages: list[StreamMessage]) -> None:
        handled.update(message.id for message in messages)

    def process(consumer: Consumer) -> None:
        stop: Any = _Stop(door)
        consumer.process(handler, batch_size=3, stop=stop)

    with Client(directory, small_config(segment_bytes=4096), _door=door) as client:
        for shard in range(2):
            name = f"events:v1:shard:{shard:04d}"
            for index in range(3):
                client.append(name, [b"%d" % index])
            client.append(name, [bytes(3000), b"x", b"y"])
            client.append(name, [bytes(100)] * 3)
        damaged = min((directory / "events/v1/shard-0001").glob("*.segment"))
        data = bytearray(damaged.read_bytes())
        data[1024 + 32] ^= 1
        damaged.write_bytes(data)
        with Consumer(client, "workers", stream=STREAM) as consumer:
            before = sys.gettrace()
            interruption = _InterruptAt(line)
            sys.settrace(interruption.trace)
            try:
                process(consumer)
                interrupted = False
            except KeyboardInterrupt:
                interrupted = True
            finally:
                sys.settrace(before)
            found = client.accounting(STREAM, "workers")
            assert found.delivered <= len(handled), f"{interruption.where}: acknowledged and never handled"
            process(consumer)
        found = client.accounting(STREAM, "workers")
        assert (found.total, found.delivered, found.corrupt) == (18, 17, 1), f"{interruption.where}: {found}"
        assert handled == {(shard, n) for shard in range(2) for n in range(9)} - {(1, 0)}, interruption.where
    return interrupted


@pytest.mark.slow
def test_an_interruption_at_any_line_leaves_the_group_consistent(directory) -> None:
    """What was acknowledged was handled; whoever goes on gets all the rest, and the damage is counted once."""
    line, interruptions = 1, 0
    while _interrupted(directory / f"log-{line}", line):
        interruptions += 1
        line += EVERY
    assert interruptions > 15
