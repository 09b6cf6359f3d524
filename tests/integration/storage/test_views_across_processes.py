"""Do views survive what other processes do to the log, and does the process that holds them?"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

import pytest

from comet_storage import Client, CometConfig, CompressionConfig, Consumer, RetentionConfig, StorageConfig
from tests.support.children import Child
from tests.support.entries import make_entry

STREAM = "views:v1"
SHARD = "views:v1:shard:0000"
SEGMENT_BYTES = 256 * 1024
ENTRIES = 60
ENTRY_BYTES = 10_000

pytestmark = pytest.mark.integration


def config(codec: str) -> CometConfig:
    """A log that turns over quickly."""
    return CometConfig(
        compression=CompressionConfig(codec=codec),
        storage=StorageConfig(max_file_size=SEGMENT_BYTES),
        retention=RetentionConfig(max_total_size=4 * SEGMENT_BYTES + 256 * 1024),
    )


def entry(number: int) -> bytes:
    """Entry ``number``; half of it compresses."""
    return make_entry(1, number, ENTRY_BYTES // 2) + bytes(ENTRY_BYTES // 2)


def hold(out: Connection, into: Connection, directory: str, codec: str) -> None:
    """Read views, close everything, and look at them when told; exit with some still held."""
    with Client(directory, config(codec)) as client, Consumer(client, "holders", stream=STREAM) as consumer:
        messages = consumer.read(count=ENTRIES, copy=False)
        out.send([message.id.entry_number for message in messages])
        into.recv()
        out.send((client.pinned_bytes(), client.unlinked_pinned_bytes()))
    into.recv()
    out.send([bytes(message.data) == entry(message.id.entry_number) for message in messages])
    into.recv()
    # Held until the interpreter ends.
    globals()["held"] = messages


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_views_hold_while_another_process_evicts_everything(codec, tmp_path) -> None:
    """The holder sees what it read, counts what it keeps on the disk, and ends as any process does."""
    with Client(tmp_path / "log", config(codec)) as client:
        for number in range(ENTRIES):
            client.append(SHARD, [entry(number)])
    with Child(hold, str(tmp_path / "log"), codec) as holder:
        held = holder.hear()
        assert len(held) > ENTRIES // 3
        with Client(tmp_path / "log", config(codec)) as client:
            last = max((tmp_path / "log/views/v1/shard-0000").glob("*.segment"))
            while last.exists():
                client.append(SHARD, [os.urandom(50_000)])
            pinned, unlinked = holder.ask("how much?")
            assert (pinned == unlinked > 0) if codec == "none" else (pinned > 0 == unlinked)
            assert set(holder.ask("closed; what do you see?")) == {True}
        holder.tell("end")
        assert holder.join() == 0
