"""Looks at a log that take no part: the last entries, the oldest pending one, and what a shard holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comet_storage import Client, CometConfig, Consumer, StorageConfig
from tests.support.engine import ManualDoor

STREAM = "events:v1"
SHARD = "events:v1:shard:0000"
OTHER = "events:v1:shard:0005"


@pytest.fixture
def door() -> ManualDoor:
    """Return clocks that only the test turns."""
    return ManualDoor()


@pytest.fixture
def client(tmp_path, door) -> Iterator[Client]:
    """Return a log with small segments."""
    with Client(tmp_path / "log", CometConfig(storage=StorageConfig(max_file_size=4096)), _door=door) as made:
        yield made


def append(client: Client, door: ManualDoor, shard: str, *entries: bytes) -> None:
    """Append entries, each a second after the one before."""
    for entry in entries:
        door.wall_ns += 1_000_000_000
        client.append(shard, [entry])


def test_the_last_entries_come_oldest_first(client, door) -> None:
    """Of a shard, and of all shards of a stream by their time; fewer where there are no more."""
    append(client, door, SHARD, *(b"%d" % number for number in range(10)))
    append(client, door, OTHER, b"x")
    append(client, door, SHARD, b"10")
    assert [message.data for message in client.list_recent(SHARD, 3)] == [b"8", b"9", b"10"]
    assert [message.data for message in client.list_recent(STREAM, 3)] == [b"9", b"x", b"10"]
    assert len(client.list_recent(SHARD, 1000)) == 11
    assert client.list_recent("events:v1:shard:0099", 5) == client.list_recent("none:v1", 5) == []
    assert client.shards(STREAM) == [0, 5]


def test_a_scan_of_a_stream_goes_through_one_shard_after_the_other(client, door) -> None:
    """Each from the number asked for, and each entry with its shard's full name; nothing is made."""
    append(client, door, OTHER, b"x", b"y")
    append(client, door, SHARD, b"a", b"b")
    assert [(each.stream, each.data) for each in client.scan(STREAM)] == [
        (SHARD, b"a"),
        (SHARD, b"b"),
        (OTHER, b"x"),
        (OTHER, b"y"),
    ]
    assert [each.data for each in client.scan(STREAM, start=1)] == [b"b", b"y"]
    assert list(client.scan("none:v1")) == []
    assert client.streams() == [STREAM]


def test_the_last_entries_are_found_behind_a_damage(client, door, tmp_path) -> None:
    """Where numbers are missing at the end, the look goes further back."""
    append(client, door, SHARD, *(b"entry %02d" % number for number in range(20)))
    segment = min((tmp_path / "log").rglob("*.segment"))
    data = bytearray(segment.read_bytes())
    for number in range(10, 19):
        data[data.index(b"entry %02d" % number)] ^= 1
    segment.write_bytes(data)
    assert [message.data for message in client.list_recent(SHARD, 3)] == [b"entry 08", b"entry 09", b"entry 19"]


def test_looking_moves_no_group(client, door) -> None:
    """Offsets stay where they are."""
    append(client, door, SHARD, b"a", b"b")
    with Consumer(client, "readers", stream=STREAM) as consumer:
        client.list_recent(STREAM, 2)
        list(client.scan(SHARD))
        assert len(consumer.read()) == 2


def test_the_oldest_pending_entry_tells_since_when_a_group_waits(client, door) -> None:
    """Over all shards; None when nothing is pending; out-of-order acknowledgements do not count as pending."""
    append(client, door, OTHER, b"first")
    oldest = door.wall_ns
    append(client, door, SHARD, b"second", b"third")
    with Consumer(client, "readers", stream=STREAM) as consumer:
        assert client.oldest_pending(STREAM, "readers") == oldest
        ids = {message.data: message.id for message in consumer.read()}
        consumer.ack(ids[b"first"])
        assert client.oldest_pending(STREAM, "readers") == oldest + 1_000_000_000
        assert client.oldest_pending(OTHER, "readers") is None
        consumer.ack(ids[b"third"])
        assert client.oldest_pending(STREAM, "readers") == oldest + 1_000_000_000
        consumer.ack(ids[b"second"])
        assert client.oldest_pending(STREAM, "readers") is None
    assert client.oldest_pending("none:v1", "readers") is None


def test_the_statistics_of_a_shard_tell_what_it_holds(client, door) -> None:
    """Entries, bytes, times, segments, and every group's offset."""
    with Consumer(client, "readers", stream=STREAM) as consumer, Consumer(client, "idle", stream=STREAM):
        empty = consumer.shard_stats(0)
        assert (empty.total_entries, empty.total_bytes, empty.oldest_entry_ns, empty.file_count) == (0, 0, None, 0)
        append(client, door, SHARD, bytes(2000), bytes(2000), b"x")
        consumer.ack(consumer.read()[0].id)
        found = consumer.shard_stats(0)
        assert (found.shard_id, found.total_entries, found.file_count) == (0, 3, 2)
        assert found.total_bytes == 2 * (32 + 2000) + 40
        assert found.newest_entry_ns == door.wall_ns
        assert found.oldest_entry_ns == door.wall_ns - 2_000_000_000
        assert found.consumer_offsets == {"readers": 1, "idle": 0}
