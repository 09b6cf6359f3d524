"""What happens on a full volume, in a process of its own: a store into nothing would end it with SIGBUS.

Usage: python -m tests.integration.storage.full_disk_child SCENARIO DIRECTORY WRITE_METHOD
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import struct
import subprocess
import sys
from pathlib import Path

from comet_storage import (
    Client,
    ClosedError,
    CometConfig,
    CompressionConfig,
    Consumer,
    LogFullError,
    RetentionConfig,
    StorageConfig,
)
from comet_storage._format.state_page import ALLOCATED
from tests.support.filesystems import fill, free_bytes, remove_ballast

SHARD = "events:v1:shard:0000"
SIZES = (115, 10, 4000, 0, 70_000, 300_000, 1)


def config(write_method: str) -> CometConfig:
    """Settings under which the volume, and not the log's bound, is the limit."""
    return CometConfig(
        compression=CompressionConfig(codec="none"),
        storage=StorageConfig(max_file_size=1 << 20, write_method=write_method, sync_interval=0.02),
        retention=RetentionConfig(max_total_size=1 << 30, when_full="reject_new"),
    )


class Stored:
    """What was acknowledged, to compare with what is read."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.entries: list[bytes] = []
        self.refused = 0

    def append(self, batch: list[bytes]) -> bool:
        """Append a batch; False if the volume was full."""
        try:
            ids = self.client.append(SHARD, batch)
        except LogFullError:
            self.refused += 1
            return False
        assert ids[0].entry_number == len(self.entries)
        self.entries += batch
        return True

    def check(self) -> None:
        """Everything acknowledged is there, in order, with its bytes, and nothing else."""
        found = list(self.client.scan(SHARD))
        assert [message.id.entry_number for message in found] == list(range(len(self.entries)))
        assert [message.data for message in found] == self.entries


def batches() -> itertools.cycle[list[bytes]]:
    """Batches of every way to store: single and small, batches, pieces."""
    return itertools.cycle(
        [
            [bytes([index]) * size] * count
            for index, size in enumerate(SIZES)
            for count in (1, 3, 40)
            if size * count < 1e6
        ]
    )


def filled_up(directory: Path, write_method: str) -> None:
    """Appends fill the volume; readers and acknowledgements go on; what is freed is used again."""
    with (
        Client(directory / "log", config(write_method)) as client,
        Consumer(client, "group", stream="events:v1") as consumer,
    ):
        stored = Stored(client)
        stored.append([b"first"])
        assert len(consumer.read()) == 1
        fill(directory, leave=6 << 20)
        source = batches()
        while stored.refused < 100:
            if not stored.append(next(source)) and stored.refused % 20 == 0:
                with contextlib.suppress(LogFullError):
                    consumer.ack(*(message.id for message in consumer.read(count=10)))
        stored.check()
        with contextlib.suppress(LogFullError):
            client.sync()
        remove_ballast(directory)
        assert stored.append([b"goes on"])
        while free_bytes(directory) > 8 << 20 and len(stored.entries) < 20_000:
            assert stored.append(next(source))
        stored.check()
        client.sync()
    with Client(directory / "log", config(write_method)) as client:
        stored.client = client
        stored.check()
        assert stored.append([b"last"])
        assert client.accounting("events:v1", "group").total == len(stored.entries)


def no_byte_left(directory: Path, write_method: str) -> None:
    """The last block goes to somebody else while the log is open; closing and opening survive that as well."""
    client = Client(directory / "log", config(write_method))
    stored = Stored(client)
    source = batches()
    for _ in range(30):
        stored.append(next(source))
    fill(directory, leave=0)
    for _ in range(60):
        stored.append(next(source))
    stored.check()
    client.close()
    with Client(directory / "log", read_only=True) as stored.client:
        stored.check()
    for _ in range(3):
        with contextlib.suppress(LogFullError), Client(directory / "log", config(write_method)) as stored.client:
            stored.check()
            stored.append([b"perhaps"])
    remove_ballast(directory)
    with Client(directory / "log", config(write_method)) as stored.client:
        stored.check()
        assert stored.append([b"goes on"])
        stored.check()


def holes(directory: Path, write_method: str) -> None:
    """Files without blocks (a sparse copy, a shared copy, a page made by truncation) are never stored to unprepared."""
    with Client(directory / "log", config(write_method)) as client:
        stored = Stored(client)
        source = batches()
        for _ in range(30):
            stored.append(next(source))
        stored.check()
        client._writers.popitem()[1].release(ClosedError("dropped as by a crash"))
    for name, how in (("sparse", "--sparse=always"), ("shared", "--reflink=auto")):
        subprocess.run(["cp", "-a", how, str(directory / "log"), str(directory / name)], check=True)
    for name in ("page", "words"):
        subprocess.run(["cp", "-a", str(directory / "log"), str(directory / name)], check=True)
    os.truncate(directory / "page/events/v1/shard-0000/state", 0)
    os.truncate(directory / "page/events/v1/shard-0000/state", 4096)
    # A page of this boot that promises blocks which the segment does not have.
    with (directory / "log/events/v1/shard-0000/state").open("r+b") as page:
        page.seek(8 * ALLOCATED)
        page.write(struct.pack("<Q", 1 << 20))
    fill(directory, leave=0)
    for name in ("log", "sparse", "shared", "page", "words"):
        with contextlib.suppress(LogFullError), Client(directory / name, config(write_method)) as client:
            for size in (*SIZES, *SIZES):
                with contextlib.suppress(LogFullError):
                    client.append(SHARD, [bytes(size)])
            for _ in range(30):
                with contextlib.suppress(LogFullError):
                    client.append(SHARD, [bytes(115)])
    remove_ballast(directory)
    for name in ("log", "sparse", "shared", "page", "words"):
        with Client(directory / name, config(write_method)) as client:
            assert [message.data for message in client.scan(SHARD)][: len(stored.entries)] == stored.entries
            client.append(SHARD, [b"goes on"])


if __name__ == "__main__":
    logging.disable()
    {"filled_up": filled_up, "no_byte_left": no_byte_left, "holes": holes}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
