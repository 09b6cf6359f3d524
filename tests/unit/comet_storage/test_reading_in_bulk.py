"""Reading in bulk: the same entries as otherwise, some of them as views of what was read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, CompressionConfig, Consumer, StreamMessage

STREAM = "traces:v1"
SHARD = f"{STREAM}:shard:0000"
SIZES = (10, 3_000, 6_000, 60_000, 200_000, 1_200_000)


def fill(client: Client, chance: random.Random) -> int:
    """Append entries of all sizes, alone and together; return how many."""
    count = 0
    for _ in range(60):
        entries = [
            chance.choice((chance.randbytes, bytes))(chance.choice(SIZES)) for _ in range(chance.choice((1, 1, 1, 3)))
        ]
        client.append(SHARD, entries)
        count += len(entries)
    return count


def read_all(consumer: Consumer, chance: random.Random, *, bulk: bool | None) -> list[StreamMessage]:
    """Read the shard in parts of any size; where ``bulk`` is None now so and now so."""
    found: list[StreamMessage] = []
    while True:
        how = chance.random() < 0.5 if bulk is None else bulk
        at = found[-1].id.entry_number + 1 if found else 0
        part = consumer.read_from(
            0, at, chance.choice((1, 7, 100)), max_bytes=chance.choice((1, 2**18, 2**22)), bulk=how
        )
        if not how:
            assert all(isinstance(message.data, bytes) for message in part)
        if not part:
            return found
        found += part


def plain(messages: list[StreamMessage]) -> list[tuple[int, int, bytes]]:
    """What is to be the same."""
    return [(message.id.entry_number, message.timestamp, bytes(message.data)) for message in messages]


@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_the_same_entries_come_however_they_are_read(tmp_path: Path, codec: str) -> None:
    """Also where one who reads in bulk and one who does not take turns in the middle of what the other has read."""
    chance = random.Random(7)
    with Client(tmp_path / "log", CometConfig(compression=CompressionConfig(codec=codec))) as client:
        count = fill(client, chance)
        with Consumer(client, "group", stream=STREAM) as consumer:
            expected = plain(read_all(consumer, chance, bulk=False))
            assert [number for number, _, _ in expected] == list(range(count))
            for bulk in (True, None, None, None):
                assert plain(read_all(consumer, chance, bulk=bulk)) == expected


def test_large_raw_entries_are_views_that_stay(tmp_path: Path) -> None:
    """They hold what they held, also when more was read, and the consumer was closed."""
    chance = random.Random(7)
    entries = [chance.randbytes(100_000) for _ in range(40)]
    with Client(tmp_path / "log", CometConfig(compression=CompressionConfig(codec="none"))) as client:
        for entry in entries:
            client.append(SHARD, [entry])
        with Consumer(client, "group", stream=STREAM) as consumer:
            found = read_all(consumer, chance, bulk=True)
    assert any(isinstance(message.data, memoryview) for message in found)
    assert [bytes(message.data) for message in found] == entries


@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_a_damaged_entry_costs_itself_alone(tmp_path: Path, codec: str) -> None:
    """What fails its checksum is left out and counted, in bulk as otherwise."""
    chance = random.Random(7)
    entries = [chance.randbytes(50_000) + bytes(50_000) for _ in range(30)]
    with Client(tmp_path / "log", CometConfig(compression=CompressionConfig(codec=codec))) as client:
        for entry in entries:
            client.append(SHARD, [entry])
    (segment,) = (tmp_path / "log" / "traces" / "v1" / "shard-0000").glob("*.segment")
    data = bytearray(segment.read_bytes())
    at = data.index(entries[17][:1000])
    data[at + 500] ^= 1
    segment.write_bytes(data)
    with Client(tmp_path / "log") as client, Consumer(client, "group", stream=STREAM) as consumer:
        found = plain(read_all(consumer, chance, bulk=True))
        assert [number for number, _, _ in found] == [number for number in range(30) if number != 17]
        assert [entry for _, _, entry in found] == entries[:17] + entries[18:]
        consumer.ack_range(0, 0, 29)
        assert client.accounting(STREAM, "group").corrupt == 1
