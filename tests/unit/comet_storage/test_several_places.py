"""Consumers that keep several places in a shard, and streams that get a share of the log of their own."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from comet_storage import (
    Client,
    ClosedError,
    CometConfig,
    Consumer,
    InvalidArgumentError,
    MessageID,
    RetentionConfig,
    ShardPosition,
    StorageConfig,
)

STREAM = "events:v1"
SHARD = "events:v1:shard:0000"
KIB = 1024


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    """Return a log with ten entries."""
    with Client(tmp_path / "log") as opened:
        for number in range(10):
            opened.append(SHARD, [b"%d" % number])
        yield opened


def test_reading_may_begin_anywhere_and_moves_nothing(client) -> None:
    """What is acknowledged is left out, and below the offset it begins at the offset."""
    with Consumer(client, "group", stream=STREAM) as consumer:
        assert [message.data for message in consumer.read_from(0, 7)] == [b"7", b"8", b"9"]
        assert [message.data for message in consumer.read_from(0, 2, 3)] == [b"2", b"3", b"4"]
        consumer.ack_range(0, 3, 5)
        consumer.ack_range(0, 0, 0)
        assert [message.data for message in consumer.read_from(0, 0)] == [b"1", b"2", b"6", b"7", b"8", b"9"]
        assert [message.data for message in consumer.read_from(0, 4, 2)] == [b"6", b"7"]
        assert consumer.read_from(0, 10) == []
        assert consumer.read_from(0, 0, 0) == []
        assert consumer.read_from(7, 0) == []
        assert [message.data for message in consumer.read(count=2)] == [b"1", b"2"]


def test_a_position_says_where_the_group_is(client, tmp_path) -> None:
    """Offset, end, and how many stretches above the offset are done; nothing while somebody else has the shard."""
    with Consumer(client, "group", stream=STREAM) as consumer:
        assert consumer.position(0) == ShardPosition(0, 10, 0)
        consumer.read_from(0, 8)
        consumer.ack_range(0, 8, 9)
        assert consumer.position(0) == ShardPosition(0, 10, 1)
        assert consumer.position(5) is None
        with Client(tmp_path / "log") as other, Consumer(other, "group", stream=STREAM) as second:
            assert second.position(0) is None
            assert second.read_from(0, 0) == []
    with pytest.raises(ClosedError):
        consumer.position(0)


def test_places_add_up_to_everything_once(client) -> None:
    """A cursor at the end and one at the beginning, in any order, leave nothing out and nothing twice."""
    chance = random.Random(7)
    with Consumer(client, "group", stream=STREAM) as consumer:
        ends = consumer.position(0)
        assert ends is not None
        got: list[int] = []
        fresh = ends.following
        for number in range(10, 200):
            client.append(SHARD, [b"%d" % number])
            if chance.random() < 0.5:
                messages = consumer.read_from(0, fresh, chance.randint(1, 9))
            else:
                messages = [m for m in consumer.read_from(0, 0, 3) if m.id.entry_number < ends.following]
            for message in messages:
                fresh = max(fresh, message.id.entry_number + 1)
            consumer.ack(*(message.id for message in messages))
            got += [message.id.entry_number for message in messages]
        got += [message.id.entry_number for message in consumer.read(count=1000)]
        assert sorted(got) == list(range(200))


@pytest.mark.parametrize(("shard", "entry"), [(-1, 0), (0, "x"), ("0", 0)])
def test_arguments_that_mean_nothing_are_refused(client, shard, entry) -> None:
    """Before anything is leased."""
    with Consumer(client, "group", stream=STREAM) as consumer, pytest.raises(InvalidArgumentError):
        consumer.read_from(shard, entry)


def test_the_log_s_id_is_the_same_for_everybody(client, tmp_path) -> None:
    """And another log has another one."""
    with Client(tmp_path / "log", read_only=True) as reader, Client(tmp_path / "other") as other:
        assert reader.log_id == client.log_id
        assert other.log_id != client.log_id
        assert len(bytes.fromhex(client.log_id)) == 16


def test_a_stream_is_shrunk_to_its_share_and_others_are_left_alone(tmp_path) -> None:
    """Oldest first, wanted or not; what this client writes is closed where that is needed."""
    config = CometConfig(
        storage=StorageConfig(max_file_size=64 * KIB), retention=RetentionConfig(max_total_size=64 * KIB * KIB)
    )
    with Client(tmp_path / "log", config) as client:
        for number in range(64):
            client.append("share:v1:shard:0000", [random.Random(number).randbytes(16 * KIB)])
            client.append(SHARD, [random.Random(number).randbytes(4 * KIB)])
        with Consumer(client, "group", stream="share:v1") as consumer:
            assert client.shrink_stream("share:v1", 1024 * KIB * KIB) > 0
            assert client.len("share:v1") == 64
            left = client.shrink_stream("share:v1", 300 * KIB)
            assert left <= 300 * KIB
            assert 4 < client.len("share:v1") < 24
            assert client.len(STREAM) == 64
            newest = consumer.read(count=100)[-1]
            assert newest.id == MessageID(0, 63)
            total = client.accounting("share:v1", "group")
            assert total.evicted == 64 - client.len("share:v1")
            assert total.pending == client.len("share:v1")
        assert client.shrink_stream("share:v1", 0) == 0
        assert 0 < client.len("share:v1") <= 4
        assert client.shrink_stream("share:v1", 0, close=True) == 0
        assert client.len("share:v1") == 0
        assert client.shrink_stream("nothing:v1", 0) == 0
