"""What a child process of the crash campaigns does: append numbered entries and report each acknowledgement."""

from __future__ import annotations

import os
import random
from multiprocessing.connection import Connection

from comet_storage import Client, CometConfig, Consumer, RetentionConfig, StorageConfig
from comet_storage._os.door import Door
from tests.support.entries import REPORT, make_entry
from tests.support.killing_door import KillingDoor

STREAM = "crash:v1:shard:0000"
GROUP_STREAM = "crash:v1"
GROUP = "campaign"


def crash_config(*, shared: bool, segment_bytes: int = 16 * 1024, total_bytes: int | None = None) -> CometConfig:
    """Small segments, a busy flusher."""
    base = CometConfig.multi_process() if shared else CometConfig.default()
    retention = base.retention if total_bytes is None else RetentionConfig(max_total_size=total_bytes)
    return CometConfig(
        storage=StorageConfig(max_file_size=segment_bytes, sync_interval=0.02),
        concurrency=base.concurrency,
        retention=retention,
    )


def append_until_killed(
    out: Connection,
    into: Connection,
    directory: str,
    writer: int,
    config: CometConfig,
    point: str | None,
    countdown: int,
    appends_max: int,
) -> None:
    """Append entries of one writer in batches of changing size, and report each batch when it is acknowledged."""
    door: Door = Door() if point is None else KillingDoor(point, countdown)
    chance = random.Random(writer)
    sequence = 0
    client = Client(directory, config, _door=door)
    consumer = Consumer(client, GROUP, stream=GROUP_STREAM) if point is not None and point.startswith("group") else None
    for turn in range(appends_max):
        entries = _batch(chance, writer, sequence, turn)
        ids = client.append(STREAM, entries)
        os.write(out.fileno(), REPORT.pack(ids[0].entry_number, len(entries), writer, sequence))
        sequence += len(entries)
        if consumer is not None:
            consumer.ack(*(message.id for message in consumer.read(count=10)))
    if point is not None and point.startswith(("seal", "sync", "truncate", "write")):
        client.close()


def _batch(chance: random.Random, writer: int, sequence: int, turn: int) -> list[bytes]:
    """Mostly one entry or a few; now and then a frame of more than a segment's size, stored in one pass."""
    if turn % 60 == 30:
        return [make_entry(writer, sequence, 70_000)]
    count = 1 if chance.random() < 0.5 else chance.randrange(2, 9)
    return [make_entry(writer, sequence + index) for index in range(count)]
