"""What the log says it takes is what it takes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from comet_storage import Client, CometConfig, CompressionConfig, Consumer, RetentionConfig, StorageConfig
from tests.support.small_log import QUICK


def blocks(directory: Path) -> int:
    """Bytes of the blocks of a directory and everything below it, as du counts."""
    total = 0
    for path in (directory, *directory.rglob("*")):
        # The background thread may just have renamed it.
        with contextlib.suppress(FileNotFoundError):
            total += os.lstat(path).st_blocks * 512
    return total


def assert_size_is_told(client: Client, directory: Path) -> None:
    """Compare at a moment at which the background thread prepared no blocks."""
    before = -1
    while before != blocks(directory):
        before = blocks(directory)
        told = client.allocated_bytes()
    assert told == before


def test_the_size_of_the_log_is_that_of_its_blocks(tmp_path) -> None:
    """After any append, rotation and removal, without waiting for anything; also of shards that nobody has open."""
    directory = tmp_path / "log"
    config = CometConfig(storage=StorageConfig(max_file_size=8192, sync_interval=300))
    with Client(directory, config, _door=QUICK) as client:
        for shard in range(4):
            client.append(f"events:v1:shard:{shard:04d}", [bytes(1000)] * 50)
    with Client(directory, config, _door=QUICK) as client, Consumer(client, "group", stream="events:v1") as consumer:
        for _ in range(30):
            client.append("events:v1:shard:0000", [bytes(1000)])
            assert_size_is_told(client, directory)
        consumer.ack(*(message.id for message in consumer.read()))
        min(directory.rglob("*.segment")).unlink()
        assert_size_is_told(client, directory)


def test_a_limit_on_the_size_acts_on_shards_that_nobody_has_open(tmp_path) -> None:
    """Old data of an abandoned shard goes when the bound needs it, before new data of another is refused."""
    directory = tmp_path / "log"
    bound = 1 << 20
    config = CometConfig(
        compression=CompressionConfig(codec="none"),
        storage=StorageConfig(max_file_size=32 * 1024, sync_interval=300),
        retention=RetentionConfig(max_total_size=bound),
    )
    with Client(directory, config, _door=QUICK) as client:
        for _ in range(30):
            client.append("old:v1:shard:0000", [bytes(1000)] * 20)
    with Client(directory, config, _door=QUICK) as client:
        assert client.len("old:v1") == 600
        for _ in range(60):
            client.append("new:v1:shard:0000", [bytes(1000)] * 20)
            assert blocks(directory) <= bound
        assert client.len("old:v1") < 100
        assert client.len("new:v1") > 400
