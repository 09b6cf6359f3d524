"""Streams, shards and groups of whatever name are kept apart, and none is made by being asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_storage import Client, Consumer, InvalidStreamName, shard_stream_name
from tests.support.small_log import QUICK, open_small

SHARDS = [0, 5, 31, 32, 255, 9999, 10_000, 123_456, 2**32 - 1]


def names_below(directory: Path) -> set[str]:
    """Everything below a directory."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*")}


@pytest.mark.parametrize(
    "streams",
    [("one:v1", "two:v1"), ("one:v1", "one:v2"), ("a.b:v1", "a:v1"), ("One:v1", "one:v1")],
    ids=lambda streams: f"{streams[0]},{streams[1]}",
)
def test_streams_that_share_shard_numbers_share_nothing_else(streams, tmp_path) -> None:
    """Entries, numbers, lengths, offsets and messages are each stream's own, and say whose they are."""
    with open_small(tmp_path / "log") as client:
        for count, stream in enumerate(streams, 2):
            ids = client.append(f"{stream}:shard:0005", [stream.encode()] * count)
            assert [message_id.entry_number for message_id in ids] == list(range(count))
        for count, stream in enumerate(streams, 2):
            assert client.len(stream) == client.len(f"{stream}:shard:0005") == count
            with Consumer(client, "group", stream=stream) as consumer:
                messages = consumer.read()
                assert [(message.stream, message.data) for message in messages] == [
                    (f"{stream}:shard:0005", stream.encode())
                ] * count
                consumer.ack(*(message.id for message in messages))
                assert consumer.lag(5) == 0
            assert client.accounting(stream, "group").delivered == count
        assert sorted(client.streams()) == sorted(streams)


def test_every_shard_of_a_stream_is_found_whatever_its_number(tmp_path) -> None:
    """By the pattern of its shards: above 31, above 9999, and made after the consumer."""
    with open_small(tmp_path / "log") as client, Consumer(client, "group", stream="events:v1:shard:*") as consumer:
        for shard in SHARDS:
            name = shard_stream_name("events", "v1", shard)
            client.append(name, [name.encode()])
        client.append("other:v1:shard:0007", [b"of another stream"])
        messages = consumer.read()
        assert sorted((message.id.shard_id, message.data.decode()) for message in messages) == [
            (shard, shard_stream_name("events", "v1", shard)) for shard in SHARDS
        ]
        assert all(message.stream == message.data.decode() for message in messages)
        assert client.shards("events:v1:shard:*") == client.shards("events:v1") == SHARDS
        assert client.len("events:v1:shard:*") == len(SHARDS)


def test_looking_for_shards_makes_none(tmp_path) -> None:
    """Not by a pattern, not by a number, not by asking how long something is."""
    with open_small(tmp_path / "log") as client, Consumer(client, "group", stream="events:v1") as consumer:
        before = names_below(tmp_path / "log")
        assert consumer.read() == consumer.read(shards=[0, 7, 40_000]) == []
        assert client.len("events:v1:shard:0003") == client.len("nothing:v1") == 0
        assert list(client.scan("events:v1:shard:0003")) == []
        assert client.shards("events:v1") == []
        assert names_below(tmp_path / "log") == before


def test_a_pattern_is_not_a_place_to_append_to(tmp_path) -> None:
    """Which shard would it be?"""
    with open_small(tmp_path / "log") as client, pytest.raises(InvalidStreamName, match="shard:NNNN"):
        client.append("events:v1:shard:*", [b"x"])


@pytest.mark.parametrize("length", [48, 64, 128])
def test_groups_with_long_names_are_as_good_as_any(length, tmp_path) -> None:
    """Two that differ only in their last letter have offsets of their own, also after a restart."""
    groups = ["g" * (length - 1) + last for last in "ab"]
    with open_small(tmp_path / "log") as client:
        client.append("events:v1:shard:0000", [b"x"] * 10)
        for count, group in enumerate(groups, 3):
            with Consumer(client, group, stream="events:v1") as consumer:
                consumer.ack(*(message.id for message in consumer.read(count=count)))
    with open_small(tmp_path / "log") as client:
        for count, group in enumerate(groups, 3):
            with Consumer(client, group, stream="events:v1") as consumer:
                assert consumer.lag(0) == 10 - count


def test_a_name_that_is_too_long_harms_nothing(tmp_path) -> None:
    """It is refused before anything is touched, and the shard is as before."""
    with open_small(tmp_path / "log") as client:
        client.append("events:v1:shard:0000", [b"x"])
        before = names_below(tmp_path / "log")
        for group in ("g" * 129, "g" * 256, "g" * 100_000):
            with pytest.raises(InvalidStreamName, match="invalid group name"):
                Consumer(client, group, stream="events:v1")
        assert names_below(tmp_path / "log") == before
        assert client.len("events:v1") == 1


@pytest.mark.slow
def test_more_groups_than_the_original_had_places_for_keep_their_offsets(tmp_path) -> None:
    """513 groups acknowledge, and none forgets or overwrites another."""
    with Client(tmp_path / "log", _door=QUICK) as client:
        client.append("events:v1:shard:0000", [b"x"] * 3)
        for index in range(513):
            with Consumer(client, f"group-{index}", stream="events:v1") as consumer:
                consumer.ack(*(message.id for message in consumer.read(count=index % 4)))
        for index in range(513):
            assert client.accounting("events:v1", f"group-{index}").delivered == index % 4
