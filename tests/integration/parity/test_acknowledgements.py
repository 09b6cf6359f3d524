"""A group is done with what it acknowledged and with nothing else, whoever dies in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_storage import AckError, Client, Consumer, MessageID
from tests.support.children import Child
from tests.support.small_log import (
    GROUP,
    SHARD,
    STREAM,
    assert_conserved,
    crash,
    fill,
    open_small,
    segment_paths,
    small_config,
)


def acknowledge(consumer: Consumer, *numbers: int) -> None:
    """Acknowledge entries of the one shard."""
    consumer.ack(*(MessageID(0, number) for number in numbers))


def offered(consumer: Consumer) -> list[int]:
    """Numbers of the entries that a read returns."""
    return [message.id.entry_number for message in consumer.read()]


def test_an_acknowledgement_is_for_its_own_entry(tmp_path) -> None:
    """In any order, one by one or together: none skips others, none takes back others, none counts twice."""
    with open_small(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        fill(client, [10])
        assert offered(consumer) == list(range(10))
        acknowledge(consumer, 5)
        assert offered(consumer) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        acknowledge(consumer, 2)
        acknowledge(consumer, 7, 3)
        acknowledge(consumer, 1, 0, 5)
        assert offered(consumer) == [4, 6, 8, 9]
        assert consumer.lag(0) == 4
        accounting = client.accounting(STREAM, GROUP)
        assert (accounting.delivered, accounting.pending) == (6, 4)
        assert_conserved(accounting)


@pytest.mark.parametrize("number", [100, 10, -7])
def test_what_does_not_exist_cannot_be_acknowledged(number, tmp_path) -> None:
    """An error, and the entries that get the number later are delivered."""
    with open_small(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        fill(client, [10])
        consumer.read()
        with pytest.raises(AckError):
            acknowledge(consumer, 3, number)
        assert consumer.lag(0) == 10
        fill(client, [100], 10)
        assert len(consumer.read(count=1000)) == 110


def test_what_was_not_delivered_to_this_consumer_cannot_be_acknowledged(tmp_path) -> None:
    """A guess is not a delivery."""
    with open_small(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        fill(client, [10])
        assert len(consumer.read(count=4)) == 4
        with pytest.raises(AckError, match="delivered"):
            acknowledge(consumer, 4)
        assert consumer.lag(0) == 10


def test_two_consumers_of_a_group_never_have_the_same_shard(tmp_path) -> None:
    """The second gets nothing of it until the first ends, and then what is left."""
    with open_small(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as first:
        fill(client, [10])
        assert len(offered(first)) == 10
        with Consumer(client, GROUP, stream=STREAM) as second:
            assert offered(second) == []
            acknowledge(first, 0, 1, 2)
            with pytest.raises(AckError, match="another consumer"):
                acknowledge(second, 0)
            first.close()
            assert offered(second) == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("end", ["close", "kill"])
def test_acknowledgements_survive_the_end_of_their_client(end, tmp_path) -> None:
    """At once, without waiting for any interval, and without anything appended after them."""
    client = open_small(tmp_path / "log")
    fill(client, [10])
    consumer = Consumer(client, GROUP, stream=STREAM)
    consumer.read()
    acknowledge(consumer, 0, 1, 2, 6)
    client.close() if end == "close" else crash(client)
    with open_small(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        assert offered(consumer) == [3, 4, 5, 7, 8, 9]


def acknowledge_and_wait(out, into, directory: str) -> None:
    """In a child: acknowledge some, say so, and wait to be killed."""
    client = Client(directory, small_config())
    consumer = Consumer(client, GROUP, stream=STREAM)
    consumer.read()
    acknowledge(consumer, 0, 1, 2, 6)
    out.send("acknowledged")
    into.recv()


@pytest.mark.integration
def test_acknowledgements_survive_kill_9_of_their_process(tmp_path: Path) -> None:
    """What `ack` returned for is kept by the kernel."""
    directory = tmp_path / "log"
    with open_small(directory) as client:
        fill(client, [10])
    with Child(acknowledge_and_wait, str(directory)) as child:
        assert child.hear() == "acknowledged"
        child.kill()
    with open_small(directory) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        assert offered(consumer) == [3, 4, 5, 7, 8, 9]


def test_entries_that_were_removed_unread_are_counted_and_are_no_lag(tmp_path) -> None:
    """A group that finds its entries gone goes on behind them, and its accounting says how many there were."""
    with open_small(tmp_path / "log", segment_bytes=4096) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        total = fill(client, [10] * 60)
        acknowledge(consumer, *offered(consumer))
        *old, last = segment_paths(tmp_path / "log")
        for path in old:
            path.unlink()
        first = int(last.name[:20])
        assert consumer.lag(0) == total - first
        assert offered(consumer)[0] == first
        accounting = client.accounting(STREAM, GROUP)
        assert (accounting.delivered, accounting.evicted, accounting.pending) == (100, first - 100, total - first)
        assert_conserved(accounting)
        assert client.len(SHARD) == total - first
