"""A read gives each shard its part, and returns the same until something is acknowledged."""

from __future__ import annotations

from collections import Counter

from comet_storage import Consumer
from tests.support.small_log import open_small


def test_no_shard_crowds_out_the_others(tmp_path) -> None:
    """A backlog in one shard does not keep a read from the rest."""
    with open_small(tmp_path / "log") as client, Consumer(client, "group", stream="events:v1") as consumer:
        for shard, count in enumerate((1000, 1000, 1000, 5)):
            client.append(f"events:v1:shard:{shard:04d}", [b"x"] * count)
        for _ in range(8):
            parts = Counter(message.id.shard_id for message in consumer.read(count=100))
            assert 80 <= sum(parts.values()) <= 100
            assert parts[3] == 5
            assert min(parts[shard] for shard in range(3)) >= 25


def test_a_shard_that_is_named_twice_is_read_once(tmp_path) -> None:
    """No message comes twice in one read."""
    with open_small(tmp_path / "log") as client, Consumer(client, "group", stream="events:v1") as consumer:
        client.append("events:v1:shard:0001", [b"a", b"b"])
        assert [message.data for message in consumer.read(shards=[1, 1, 1])] == [b"a", b"b"]


def test_reading_acknowledges_nothing(tmp_path) -> None:
    """The same messages come until they are acknowledged; asking for none gives none."""
    with open_small(tmp_path / "log") as client, Consumer(client, "group", stream="events:v1") as consumer:
        client.append("events:v1:shard:0001", [b"a", b"b"])
        assert consumer.read(count=0) == consumer.read(count=-1) == consumer.read(shards=[]) == []
        assert consumer.read() == consumer.read()
        consumer.ack(consumer.read()[0].id)
        assert [message.data for message in consumer.read()] == [b"b"]
