"""Who sees what when: other threads, clients and processes, while segments come and go."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from comet_storage import AckError, Client, Consumer, LogMovedError, all_shard_streams, pick_shard_stream
from tests.support.entries import make_entry
from tests.support.small_log import GROUP, QUICK, SHARD, STREAM, expected_data, fill, open_small, shard_directory


def follow(consumer: Consumer, total: int) -> list[bytes]:
    """Read and acknowledge until there were so many."""
    found: list[bytes] = []
    while len(found) < total:
        messages = consumer.read(count=37)
        consumer.ack(*(message.id for message in messages))
        found += [message.data for message in messages]
    return found


@pytest.mark.parametrize("shared", [False, True], ids=["owned", "shared"])
def test_a_consumer_follows_a_writer_through_rotations(shared, tmp_path) -> None:
    """What another thread appends meanwhile comes once, in order, whole; also from another client's writer."""
    batches = [1, 7, 40] * 40
    with (
        open_small(tmp_path / "log", shared=shared, segment_bytes=4096) as writer,
        open_small(tmp_path / "log", shared=shared, segment_bytes=4096) as reader,
        Consumer(writer, "same", stream=STREAM) as same,
        Consumer(reader, "other", stream=STREAM) as other,
    ):
        thread = threading.Thread(target=fill, args=(writer, batches))
        thread.start()
        expected = list(expected_data(sum(batches)).values())
        assert follow(other, sum(batches)) == expected
        thread.join()
        assert follow(same, sum(batches)) == expected
        assert other.read() == same.read() == []


def test_what_is_appended_is_seen_at_once_by_other_clients(tmp_path) -> None:
    """Without `sync`, without any interval, and without opening anything again."""
    with (
        open_small(tmp_path / "log") as writer,
        open_small(tmp_path / "log") as reader,
        Consumer(reader, GROUP, stream=STREAM) as consumer,
    ):
        assert consumer.read() == []
        for number in range(50):
            writer.append(SHARD, [make_entry(1, number)])
            assert reader.len(SHARD) == number + 1
            assert [message.data for message in consumer.read()][-1] == make_entry(1, number)


def test_acknowledgements_are_seen_at_once_by_other_clients(tmp_path) -> None:
    """Accounting and lag are those of the log and not of a client."""
    with open_small(tmp_path / "log") as one, open_small(tmp_path / "log") as other:
        fill(one, [10])
        with Consumer(one, GROUP, stream=STREAM) as consumer:
            consumer.read()
            consumer.ack_range(0, 0, 4)
            assert other.accounting(STREAM, GROUP).delivered == 5
            with Consumer(other, GROUP, stream=STREAM) as second:
                assert second.lag(0) == 5


def test_threads_that_acknowledge_at_once_lose_nothing(tmp_path) -> None:
    """Eight threads, every eighth entry each, one by one."""
    with open_small(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        fill(client, [200])
        ids = [message.id for message in consumer.read(count=200)]

        def acknowledge(mine: list) -> None:
            for message_id in mine:
                consumer.ack(message_id)

        threads = [threading.Thread(target=acknowledge, args=(ids[start::8],)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert consumer.read() == []
        assert client.accounting(STREAM, GROUP).delivered == 200


def test_a_range_is_acknowledged_with_both_ends_and_only_forwards(tmp_path) -> None:
    """A range that ends before it begins is an error."""
    with open_small(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        fill(client, [10])
        consumer.read()
        consumer.ack_range(0, 2, 4)
        assert [message.id.entry_number for message in consumer.read()] == [0, 1, 5, 6, 7, 8, 9]
        with pytest.raises(AckError, match="not a range"):
            consumer.ack_range(0, 4, 2)


@pytest.mark.parametrize("shared", [False, True], ids=["owned", "shared"])
def test_clients_that_live_for_one_append_number_on(shared, tmp_path) -> None:
    """A hundred starts and stops leave a hundred entries, and few files."""
    for number in range(100):
        with open_small(tmp_path / "log", shared=shared) as client:
            (message_id,) = client.append(SHARD, [make_entry(1, number, 12 + number % 23)])
            assert message_id.entry_number == number
            client.close()
    with open_small(tmp_path / "log", shared=shared) as client:
        assert [message.data for message in client.scan(SHARD)] == list(expected_data(100).values())
        assert len(list(shard_directory(tmp_path / "log").glob("*.segment"))) == 1


def test_keys_spread_over_all_shards_and_come_back_from_all(tmp_path) -> None:
    """16 shards, none with more than twice or less than half of its part; every message says which it is from."""
    with Client(tmp_path / "log", _door=QUICK) as client, Consumer(client, GROUP, stream="events:v1") as consumer:
        sent = Counter[str]()
        for number in range(1600):
            stream = pick_shard_stream(f"user-{number}", "events", "v1")
            client.append(stream, [b"%d" % number])
            sent[stream] += 1
        assert sorted(sent) == all_shard_streams("events", "v1")
        assert all(50 <= count <= 200 for count in sent.values())
        assert Counter(message.stream for message in consumer.read(count=10_000)) == sent


def test_a_shard_directory_that_is_removed_under_a_writer_is_told_and_made_anew(tmp_path: Path) -> None:
    """The writer does not go on into files that nobody can find; the next append begins the shard again."""
    with open_small(tmp_path / "log") as client:
        fill(client, [10])
        shutil.rmtree(shard_directory(tmp_path / "log"))
        with pytest.raises(LogMovedError):
            client.sync()
        with pytest.raises(LogMovedError):
            client.append(SHARD, [b"refused"])
        client.append(SHARD, [b"after"])
        client.sync()
        assert [message.data for message in client.scan(SHARD)] == [b"after"]
