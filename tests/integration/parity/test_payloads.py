"""What an entry holds is nobody's business, however it looks and however large it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, Consumer, EntryTooLarge, StorageConfig
from tests.support.small_log import QUICK

SHARD = "events:v1:shard:0000"
MIB = 1 << 20
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_FRAME_OF_HELLO = bytes.fromhex("28b52ffd2005290000") + b"hello"


@pytest.mark.parametrize(
    "data",
    [ZSTD_MAGIC, ZSTD_MAGIC + b"unknown", ZSTD_FRAME_OF_HELLO, ZSTD_FRAME_OF_HELLO * 2000, b"COMETEND", b"COMETIDX"],
    ids=["magic", "garbage", "frame", "many", "end mark", "index mark"],
)
def test_an_entry_that_looks_compressed_comes_back_as_it_went_in(data, tmp_path) -> None:
    """Alone, in a batch, and with more behind it."""
    with Client(tmp_path / "log", _door=QUICK) as client:
        client.append(SHARD, [data])
        client.append(SHARD, [b"before", data, b"after"])
        client.append(SHARD, [b"last"])
    with Client(tmp_path / "log", _door=QUICK) as client, Consumer(client, "group", stream="events:v1") as consumer:
        assert [message.data for message in consumer.read()] == [data, b"before", data, b"after", b"last"]


def test_what_follows_a_large_entry_is_read(tmp_path) -> None:
    """Up to the largest that is allowed; one byte more is refused, and harms nothing."""
    config = CometConfig(storage=StorageConfig(max_entry_bytes=12 * MIB))
    entries = [b"first", os.urandom(10 * MIB + 1), b"between", bytes(12 * MIB), b"last"]
    with Client(tmp_path / "log", config, _door=QUICK) as client:
        for entry in entries:
            client.append(SHARD, [entry])
        with pytest.raises(EntryTooLarge, match="max_entry_bytes"):
            client.append(SHARD, [bytes(12 * MIB + 1)])
        client.append(SHARD, [b"behind"])
    with Client(tmp_path / "log", config, _door=QUICK) as client:
        assert [message.data for message in client.scan(SHARD)] == [*entries, b"behind"]


def test_messages_stay_what_they_are_when_their_segment_goes(tmp_path: Path) -> None:
    """Held through growth, rotation, the removal of the files and the end of the client."""
    config = CometConfig(storage=StorageConfig(max_file_size=4096))
    with Client(tmp_path / "log", config, _door=QUICK) as client:
        client.append(SHARD, [b"%d" % index * 100 for index in range(10)])
        with Consumer(client, "group", stream="events:v1") as consumer:
            held = consumer.read()
        for _ in range(200):
            client.append(SHARD, [bytes(1000)])
        for path in sorted((tmp_path / "log").rglob("*.segment"))[:-1]:
            path.unlink()
    assert [message.data for message in held] == [b"%d" % index * 100 for index in range(10)]
