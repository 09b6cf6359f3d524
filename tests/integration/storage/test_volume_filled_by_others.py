"""Somebody else fills the volume while two processes append: errors in words, no harm, and then it goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, Consumer, LogFullError, RetentionConfig, StorageConfig
from tests.support.children import PATIENCE_SECONDS, Child
from tests.support.entries import REPORT, add_reports, judge, make_entry
from tests.support.filesystems import fill, free_bytes, mounted_image, remove_ballast

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.slow]

STREAM = "shared:v1"
GROUP = "readers"
VOLUME_BYTES = 64 << 20
ENTRY_BYTES = 4000
BATCH = 8
REFUSED = 0xFFFFFFFF
"""Instead of a writer's number, in the report of an append that was refused."""
FLOOR = 6 << 20


def config(*, min_free_bytes: int = 0) -> CometConfig:
    """The volume is the limit, and what a group has not acknowledged is protected."""
    return CometConfig(
        storage=StorageConfig(max_file_size=1 << 20, sync_interval=0.05),
        retention=RetentionConfig(max_total_size=1 << 30, min_free_bytes=min_free_bytes),
    )


def append_on_and_on(out: Connection, into: Connection, directory: str, writer: int, settings: CometConfig) -> None:
    """Append until told to stop; report what was stored, and each refusal."""
    sequence = 0
    with Client(directory, settings) as client:
        while not into.poll():
            batch = [make_entry(writer, sequence + index, ENTRY_BYTES) for index in range(BATCH)]
            try:
                ids = client.append(f"{STREAM}:shard:{writer:04d}", batch)
            except LogFullError:
                os.write(out.fileno(), REPORT.pack(0, 0, REFUSED, sequence))
                time.sleep(0.005)
                continue
            os.write(out.fileno(), REPORT.pack(ids[0].entry_number, BATCH, writer, sequence))
            sequence += BATCH
            # The volume is to be filled by others.
            time.sleep(0.02)


class Writer:
    """A child that appends, and what it said."""

    def __init__(self, directory: Path, number: int, settings: CometConfig) -> None:
        self.number = number
        self.child = Child(append_on_and_on, str(directory), number, settings)
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self.refused = 0

    def listen(self, seconds: float = 0.05) -> None:
        """Note what it reports meanwhile."""
        self._note(self.child.read_raw(time.monotonic() + seconds))

    def stop(self) -> None:
        """End it in order."""
        self.child.tell("stop")
        self._note(self.child.read_rest())
        assert self.child.join() == 0

    def _note(self, data: bytes) -> None:
        stored = []
        for at in range(0, len(data), REPORT.size):
            record = data[at : at + REPORT.size]
            if REPORT.unpack(record)[2] == REFUSED:
                self.refused += 1
            else:
                stored.append(record)
        add_reports(self.acknowledged, b"".join(stored))


def listen_until(writers: list[Writer], happened: Callable[[Writer], bool], meanwhile: Callable[[], None]) -> None:
    """Note reports until all writers are where they should be, and do something in between."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(happened(writer) for writer in writers):
        assert time.monotonic() < deadline
        for writer in writers:
            writer.listen()
        meanwhile()


@pytest.mark.parametrize("floor", [0, FLOOR])
def test_two_writers_on_a_volume_that_somebody_else_fills_lose_nothing_and_go_on(floor, tmp_path) -> None:
    """Refusals while it is full; readers work throughout; freed, everything acknowledged is there and more comes."""
    with mounted_image(tmp_path, "ext4", VOLUME_BYTES) as volume:
        directory = volume / "log"
        settings = config(min_free_bytes=floor)
        with Client(directory, settings) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
            writers = [Writer(directory, number, settings) for number in range(2)]
            acknowledged = 0

            def read_something() -> None:
                nonlocal acknowledged
                messages = consumer.read(count=20)
                consumer.ack(*(message.id for message in messages))
                acknowledged += len(messages)

            with writers[0].child, writers[1].child:
                listen_until(writers, lambda writer: len(writer.acknowledged) > 50, read_something)
                fill(volume, leave=floor // 2)
                listen_until(writers, lambda writer: writer.refused > 20, read_something)
                assert free_bytes(volume) <= max(floor, BATCH * ENTRY_BYTES)
                # Also readers that only come now: they map nothing writable and need no block.
                with Client(directory, read_only=True) as late:
                    for writer in writers:
                        assert sum(1 for _ in late.scan(f"{STREAM}:shard:{writer.number:04d}")) > 0
                before = [len(writer.acknowledged) for writer in writers]
                remove_ballast(volume)
                listen_until(
                    writers, lambda writer: len(writer.acknowledged) > before[writer.number] + 50, read_something
                )
                for writer in writers:
                    writer.stop()
            check(client, consumer, writers, acknowledged)


def check(client: Client, consumer: Consumer, writers: list[Writer], acknowledged: int) -> None:
    """What is left to read, with what was read, is all that was acknowledged to the writers."""
    for writer in writers:
        name = f"{STREAM}:shard:{writer.number:04d}"
        messages = list(client.scan(name))
        verdict = judge(messages, writer.acknowledged, first=messages[0].id.entry_number)
        assert verdict.clean, verdict
        assert messages[-1].id.entry_number + 1 == len(writer.acknowledged)
    while messages := consumer.read(count=1000):
        consumer.ack(*(message.id for message in messages))
        acknowledged += len(messages)
    found = client.accounting(STREAM, GROUP)
    assert found.delivered == found.total == acknowledged == sum(len(writer.acknowledged) for writer in writers)
