"""One read over several shards: nobody is crowded out, nothing comes twice, and wrong arguments are told."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator

import pytest

from comet_storage import AckError, Client, Consumer, InvalidArgumentError, InvalidStreamName, MessageID, StorageIOError
from comet_storage._os.door import Door
from comet_storage.consumer import READ_BYTES_MAX

STREAM = "events:v1"


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    """Return a log that is closed after the test."""
    with Client(tmp_path / "log") as made:
        yield made


@pytest.fixture
def consumer(client) -> Iterator[Consumer]:
    """Return a consumer of the log."""
    with Consumer(client, "readers", stream=STREAM) as made:
        yield made


def fill(client: Client, counts: dict[int, int], entry: bytes = b"entry") -> None:
    """Append so many entries to each shard."""
    for shard, count in counts.items():
        client.append(f"events:v1:shard:{shard:04d}", [entry] * count)


def shards_of(messages: list) -> dict[int, int]:
    """Return how many messages are of which shard."""
    return dict(Counter(message.id.shard_id for message in messages))


def test_a_full_shard_does_not_starve_the_others(client, consumer) -> None:
    """Each gets its part of what was asked for (the original gave 100 of 100 from the first)."""
    fill(client, {0: 1000, 1: 1000, 2: 1000, 3: 1000})
    assert shards_of(consumer.read([0, 1, 2, 3], 100)) == {0: 25, 1: 25, 2: 25, 3: 25}
    assert shards_of(consumer.read(count=100)) == {0: 25, 1: 25, 2: 25, 3: 25}


def test_another_shard_comes_first_each_time(client, consumer) -> None:
    """With room for fewer messages than shards, each has its turn."""
    fill(client, dict.fromkeys(range(5), 3))
    firsts = [consumer.read(count=1)[0].id.shard_id for _ in range(10)]
    assert Counter(firsts) == Counter(dict.fromkeys(range(5), 2))


def test_what_some_leave_over_goes_to_those_that_have_more(client, consumer) -> None:
    """One busy shard among many idle ones still fills a read."""
    fill(client, {0: 500, 1: 3, 2: 0, 3: 1, 4: 500})
    for _ in range(5):
        found = shards_of(consumer.read(count=100))
        assert sum(found.values()) == 100
        assert (found[1], found[3]) == (3, 1)
        assert min(found[0], found[4]) >= 20


def test_messages_of_a_shard_stay_in_order_and_come_once(client, consumer) -> None:
    """Also those that came with what others left over."""
    fill(client, {0: 400, 1: 7})
    while messages := consumer.read(count=100):
        for shard in (0, 1):
            numbers = [message.id.entry_number for message in messages if message.id.shard_id == shard]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
        assert len({message.id for message in messages}) == len(messages)
        consumer.ack(*(message.id for message in messages))
    assert client.accounting(STREAM, "readers").delivered == 407


def test_a_shard_that_is_named_twice_is_read_once(client, consumer) -> None:
    """Its messages do not come twice, and it gets no larger part."""
    fill(client, {0: 10, 1: 10})
    assert shards_of(consumer.read([0, 0, 1, 0], 8)) == {0: 4, 1: 4}


def test_unknown_shards_yield_nothing_and_are_not_made(client, consumer, tmp_path) -> None:
    """Neither for reading nor for a look at them."""
    fill(client, {0: 1})
    assert shards_of(consumer.read([0, 7, 9999])) == {0: 1}
    assert consumer.shard_stats(7).file_count == 0
    assert client.shards(STREAM) == [0]


@pytest.mark.parametrize("count", [0, -1, -100])
def test_no_messages_are_read_for_a_count_of_none(count, client, consumer) -> None:
    """Nor is it an error, as in the original."""
    fill(client, {0: 1})
    assert consumer.read(count=count) == []
    assert client.list_recent(STREAM, count) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"shards": ["a"]},
        {"shards": "a"},
        {"shards": 3},
        {"shards": [-1]},
        {"shards": [1 << 32]},
        {"shards": [True]},
        {"count": "many"},
        {"count": 1.5},
        {"count": None},
        {"max_bytes": "1 MiB"},
    ],
)
def test_a_wrong_argument_is_a_typed_error(arguments, client, consumer) -> None:
    """Which names it."""
    fill(client, {0: 1})
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        consumer.read(**arguments)


def test_a_group_starts_at_one_of_two_ends(client) -> None:
    """Anything else is a typed error, and makes no group."""
    for make in (
        client.register_group,
        lambda stream, group, start: Consumer(client, group, stream=stream, start=start),
    ):
        with pytest.raises(InvalidArgumentError, match="middle"):
            make(STREAM, "readers", start="middle")
    assert client.groups(STREAM) == []


@pytest.mark.parametrize("length", [0, 129, 256, 100_000])
def test_a_group_name_that_cannot_be_stored_is_refused_at_once(length, client) -> None:
    """Before anything is made; in the original a long one cost the shard, or everybody's offsets."""
    fill(client, {0: 1})
    with pytest.raises(InvalidStreamName):
        Consumer(client, "g" * length, stream=STREAM)
    assert client.groups(STREAM) == []
    with Consumer(client, "g" * 128, stream=STREAM) as consumer:
        consumer.ack(consumer.read()[0].id)
    assert client.accounting(STREAM, "g" * 128).delivered == 1


@pytest.mark.parametrize("ids", [["0-1"], [1], [None], [(0,)], [("a", "b"), (0, 1)], [object()]])
def test_only_message_ids_can_be_acknowledged(ids, client, consumer) -> None:
    """Anything else is a typed error, and nothing changes."""
    fill(client, {0: 3})
    messages = consumer.read()
    with pytest.raises((InvalidArgumentError, AckError)):
        consumer.ack(messages[0].id, *ids)
    assert client.accounting(STREAM, "readers").pending == 3


def test_an_id_twice_does_not_acknowledge_its_neighbour(client, consumer) -> None:
    """Three ids of two messages with another between them are two messages."""
    fill(client, {0: 3})
    ids = [message.id for message in consumer.read()]
    consumer.ack(ids[0], ids[0], ids[2])
    assert [message.id for message in consumer.read()] == [ids[1]]


def test_acknowledgements_never_skip_go_back_or_name_what_does_not_exist(client, consumer) -> None:
    """The offset is the lowest unacknowledged number, whatever is acknowledged in which order."""
    fill(client, {0: 10})
    ids = [message.id for message in consumer.read()]
    consumer.ack(ids[5])
    assert [message.id.entry_number for message in consumer.read()] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    consumer.ack(ids[2])
    assert consumer.lag(0) == 8
    consumer.ack(ids[7], ids[3])
    consumer.ack(ids[1], ids[0])
    assert [message.id.entry_number for message in consumer.read()] == [4, 6, 8, 9]
    for number in (10, 100, -7):
        with pytest.raises(AckError):
            consumer.ack(MessageID(0, number))
    with pytest.raises(AckError):
        consumer.ack(MessageID(1, 0))
    assert consumer.lag(0) == 4
    consumer.ack_range(0, 4, 9)
    assert consumer.read() == []


def test_concurrent_consumers_of_a_group_do_not_overwrite_each_other(client, consumer) -> None:
    """A shard is leased to one; the other neither reads nor acknowledges it."""
    fill(client, {0: 3})
    ids = [message.id for message in consumer.read()]
    with Client(client.data_dir) as other_client, Consumer(other_client, "readers", stream=STREAM) as other:
        assert other.read() == []
        with pytest.raises(AckError):
            other.ack(*ids)
    consumer.ack(*ids)
    assert client.accounting(STREAM, "readers").delivered == 3


def test_the_default_bounds_the_bytes_of_a_read(client, consumer) -> None:
    """However many messages were asked for; one at least comes."""
    entry = bytes(1 << 20)
    fill(client, {0: 20, 1: 20}, entry)
    messages = consumer.read(count=1000)
    assert sum(len(message.data) for message in messages) == READ_BYTES_MAX
    assert len(consumer.read(count=1000, max_bytes=1)) == 1
    assert len(consumer.read(count=1000, max_bytes=0)) == 1


def test_a_message_over_the_limit_comes_alone(client, consumer) -> None:
    """Whichever shard comes first: the others add nothing to it."""
    client.append("events:v1:shard:0000", [b"", b"x"])
    client.append("events:v1:shard:0001", [bytes(4095)])
    reads = [[len(message.data) for message in consumer.read(count=3, max_bytes=3000)] for _ in range(2)]
    assert sorted(reads) == [[0, 1], [4095]]


class _RefusingDoor(Door):
    """A door that cannot open the segments of one shard."""

    refused = ""

    def open(self, path: str, *, write: bool = False, create: bool = False, exclusive: bool = False) -> int:
        """Fail as a process without free descriptors does."""
        if self.refused and self.refused in path and path.endswith(".segment"):
            raise OSError(errno.EMFILE, "Too many open files", path)
        return super().open(path, write=write, create=create, exclusive=exclusive)


def test_a_shard_that_cannot_be_read_does_not_hold_up_the_others(tmp_path) -> None:
    """Its error is raised when the others have nothing; afterwards nothing is missing."""
    door = _RefusingDoor()
    with Client(tmp_path / "log", _door=door) as client:
        fill(client, {0: 2, 1: 2})
        with Consumer(client, "readers", stream=STREAM) as consumer:
            door.refused = "shard-0000"
            messages = consumer.read()
            assert shards_of(messages) == {1: 2}
            consumer.ack(*(message.id for message in messages))
            with pytest.raises(StorageIOError) as raised:
                consumer.read()
            assert raised.value.retryable
            assert raised.value.errno == errno.EMFILE
            door.refused = ""
            assert shards_of(consumer.read()) == {0: 2}
            assert client.accounting(STREAM, "readers").corrupt == 0


def test_an_acknowledgement_that_cannot_be_stored_changes_nothing(tmp_path) -> None:
    """It can be given again, and what is read meanwhile is the same."""

    class FailingDoor(Door):
        failing = False

        def write(self, fd: int, data: bytes, offset: int) -> None:
            if self.failing:
                raise OSError(errno.EIO, "Input/output error")
            super().write(fd, data, offset)

    door = FailingDoor()
    with Client(tmp_path / "log", _door=door) as client:
        fill(client, {0: 3})
        with Consumer(client, "readers", stream=STREAM) as consumer:
            messages = consumer.read()
            door.failing = True
            with pytest.raises(StorageIOError):
                consumer.ack(*(message.id for message in messages))
            assert consumer.read() == messages
            door.failing = False
            consumer.ack(*(message.id for message in messages))
            assert client.accounting(STREAM, "readers").delivered == 3
