"""What is wrong with a call gets its own error, and leaves the log as it was."""

from __future__ import annotations

import array
import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage import (
    BatchTooLarge,
    Client,
    ClosedError,
    CometConfig,
    CometError,
    ConfigError,
    Consumer,
    EntryTooLarge,
    InvalidEntryError,
    InvalidStreamName,
    ReadOnlyError,
    StorageConfig,
)

SHARD = "events:v1:shard:0000"
LIMITS = CometConfig(storage=StorageConfig(max_entry_bytes=1000, max_append_bytes=3000))


def names_below(directory: Path) -> list[str]:
    """Return everything below a directory."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    """An open client with small limits."""
    with Client(tmp_path / "log", LIMITS) as client:
        yield client


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        "events",
        "events:v1",
        "events:v1:shard",
        "events:v1:shard:",
        "events:v1:shard:0",
        "events:v1:shard:00001",
        "events:v1:shard:-001",
        "events:v1:shard:+001",
        "events:v1:shard:\u0660\u0660\u0660\u0661",
        "events:v1:shard:0001\n",
        "events:v1:shard:4294967296",
        "events:v1:shard:99999999999",
        ":v1:shard:0001",
        "events::shard:0001",
        "../events:v1:shard:0001",
        ".:v1:shard:0001",
        "events/x:v1:shard:0001",
        "events:v1\0:shard:0001",
        f"{'e' * 65}:v1:shard:0001",
        None,
        7,
        b"events:v1:shard:0001",
    ],
)
def test_a_name_that_no_shard_can_have_is_refused_and_makes_nothing(name, client) -> None:
    """Unknown forms, empty parts, numbers out of range and other types are InvalidStreamName."""
    before = names_below(Path(client.data_dir))
    with pytest.raises(InvalidStreamName, match="invalid"):
        client.append(name, [b"x"])
    if name != "events:v1":
        with pytest.raises(InvalidStreamName):
            client.scan(name)
    assert names_below(Path(client.data_dir)) == before


@pytest.mark.parametrize("name", ["", "events", "a:b:c", "events:v1:shard:1", "é:v1", None])
def test_a_name_that_no_stream_can_have_is_refused_and_makes_nothing(name, client) -> None:
    """Consumers, groups, lanes and lengths refuse a name that is no stream."""
    before = names_below(Path(client.data_dir))
    for call in (
        lambda: Consumer(client, "group", stream=name),
        lambda: client.groups(name),
        lambda: client.lanes(name),
        lambda: client.len(name),
        lambda: client.shards(name),
    ):
        with pytest.raises(InvalidStreamName):
            call()
    assert names_below(Path(client.data_dir)) == before


@pytest.mark.parametrize("group", ["", ".", "a/b", "a b", "x" * 129, "é", None, 3])
def test_a_name_that_no_group_can_have_is_refused(group, client) -> None:
    """A group's name becomes a file's name, so it is checked first."""
    with pytest.raises(InvalidStreamName, match="invalid group name"):
        Consumer(client, group, stream="events:v1")


@pytest.mark.parametrize("entry", ["text", None, 7, 1.5, object(), [b"x"], {b"x": 1}], ids=repr)
@pytest.mark.parametrize("others", [[], [b"before"]])
def test_an_entry_that_is_not_bytes_like_is_refused_with_its_batch(entry, others, client) -> None:
    """The error names the entry's place and type, and nothing of the batch is stored."""
    with pytest.raises(InvalidEntryError, match=f"entry {len(others)} is {type(entry).__name__}"):
        client.append(SHARD, [*others, entry])
    assert client.len(SHARD) == 0
    assert client.append(SHARD, [b"after"])[0].entry_number == 0


@pytest.mark.parametrize("batch", [b"bytes", b"b", bytearray(b"x"), memoryview(b"xy"), "text", "t"], ids=repr)
def test_one_bytes_object_in_place_of_a_batch_is_refused(batch, client) -> None:
    """A forgotten pair of brackets is an error, not an append of single bytes."""
    with pytest.raises(InvalidEntryError, match=f"entries is one {type(batch).__name__}"):
        client.append(SHARD, batch)
    client.append(SHARD, [b"opens the shard"])
    with pytest.raises(InvalidEntryError, match=f"entries is one {type(batch).__name__}"):
        client.append(SHARD, batch)
    assert client.len(SHARD) == 1


@pytest.mark.parametrize(
    "batch", [None, 7, iter([b"x"]), {b"x"}, {b"x": 1}, {b"x", b"y"}, {b"x": 1, b"y": 2}, object()], ids=repr
)
def test_what_is_no_sequence_of_entries_is_refused(batch, client) -> None:
    """An iterator, a set or a number in place of a batch is InvalidEntryError, before and after the shard is open."""
    for _ in range(2):
        with pytest.raises(InvalidEntryError):
            client.append(SHARD, batch)
        client.append(SHARD, [b"opens the shard"])
    assert client.len(SHARD) == 2


def test_every_bytes_like_entry_is_stored_by_its_bytes(client) -> None:
    """Whatever offers a buffer is stored as that buffer's bytes, also where `len` counts something else."""
    with mmap.mmap(-1, 16) as mapped:
        mapped[:3] = b"map"
        entries = [
            b"bytes",
            bytearray(b"bytearray"),
            memoryview(b"view"),
            memoryview(b"every second byte")[::2],
            memoryview(array.array("Q", [1, 2])),
            array.array("d", [1.0]),
            (ctypes.c_uint32 * 2)(7, 8),
            memoryview(bytes(12)).cast("B", (3, 4)),
            mapped,
        ]
        expected = [memoryview(entry).tobytes() for entry in entries]
        for entry in entries:
            client.append(SHARD, [entry])
        client.append(SHARD, entries)
        client.append(SHARD, tuple(entries))
        del entry
        entries.clear()
    assert [message.data for message in client.scan(SHARD)] == expected * 3


def test_a_subclass_of_bytes_that_lies_about_its_length_is_stored_whole(client) -> None:
    """The lengths that are stored are those of the bytes, whatever `len` says."""

    class Liar(bytes):
        def __len__(self) -> int:
            return 1

    client.append(SHARD, [Liar(b"longer than one")])
    client.append(SHARD, [Liar(b"first"), Liar(b"second")])
    assert [message.data for message in client.scan(SHARD)] == [b"longer than one", b"first", b"second"]


def test_an_entry_or_a_batch_over_its_limit_is_refused_and_at_the_limit_stored(client) -> None:
    """Limits are checked before anything is written, and what is allowed goes up to them."""
    for batch in ([bytes(1001)], [b"", bytes(1001)], [memoryview(array.array("Q", [0] * 126))]):
        with pytest.raises(EntryTooLarge, match="max_entry_bytes"):
            client.append(SHARD, batch)
    for batch in ([bytes(1000)] * 3 + [b"x"], [bytes(750)] * 5):
        with pytest.raises(BatchTooLarge, match="max_append_bytes"):
            client.append(SHARD, batch)
    assert client.len(SHARD) == 0
    client.append(SHARD, [bytes(1000)] * 3)
    client.append(SHARD, [bytes(1000)])
    assert client.len(SHARD) == 4


def test_an_empty_batch_returns_no_ids_and_makes_nothing(client) -> None:
    """No entries: no shard, no file, no ids."""
    before = names_below(Path(client.data_dir))
    assert list(client.append(SHARD, [])) == []
    assert names_below(Path(client.data_dir)) == before
    client.append(SHARD, [b"x"])
    assert list(client.append(SHARD, ())) == []
    assert client.len(SHARD) == 1


def test_reading_what_does_not_exist_yields_nothing_and_makes_nothing(client) -> None:
    """Unknown streams, shards and groups have no entries; asking for them leaves no trace."""
    before = names_below(Path(client.data_dir))
    assert client.len(SHARD) == 0
    assert client.len("events:v1") == 0
    assert list(client.scan(SHARD)) == []
    assert client.streams() == client.groups("events:v1") == []
    assert client.accounting("events:v1", "nobody").total == 0
    assert names_below(Path(client.data_dir)) == before


def test_every_call_of_a_closed_client_is_a_closed_error(tmp_path) -> None:
    """Appends by name and by lane, syncs, groups and consumers say that the client is closed; closing twice is fine."""
    client = Client(tmp_path / "log")
    client.append(SHARD, [b"x"])
    lane = client.lanes("events:v2")
    lane.append([b"x"])
    consumer = Consumer(client, "group", stream="events:v1")
    message = consumer.read()[0]
    client.close()
    client.close()
    for call in (
        lambda: client.append(SHARD, [b"x"]),
        lambda: client.append("other:v1:shard:0000", [b"x"]),
        lambda: lane.append([b"x"]),
        lambda: lane.append([b"x", b"y"]),
        lambda: client.lanes("events:v3"),
        lambda: client.lanes("events:v2").append([b"x"]),
        client.sync,
        lambda: Consumer(client, "other", stream="events:v1"),
        lambda: client.delete_group("events:v1", "group"),
        client.streams,
        lambda: client.shards("events:v1"),
        lambda: client.groups("events:v1"),
        lambda: client.len("events:v1"),
        lambda: list(client.scan(SHARD)),
        lambda: client.list_recent(SHARD, 1),
        lambda: client.accounting("events:v1", "group"),
        lambda: client.shard_accounting("events:v1", 0, "group"),
        lambda: client.shard_stats("events:v1", 0),
        lambda: client.pending_bytes("events:v1", "group"),
        lambda: client.oldest_pending("events:v1", "group"),
        lambda: client.evictions("events:v1"),
        lambda: client.is_group_protected("events:v1", "group"),
        client.stats,
        client.retention_stats,
        client.allocated_bytes,
        client.force_retention_cleanup,
        consumer.read,
        consumer.shards,
        lambda: consumer.lag(0),
        lambda: consumer.shard_stats(0),
    ):
        with pytest.raises(ClosedError):
            call()
    with pytest.raises(CometError):
        consumer.ack(message.id)
    consumer.close()
    with pytest.raises(ClosedError):
        consumer.read()
    assert not client.health().healthy
    with Client(tmp_path / "log") as again:
        with Consumer(again, "group", stream="events:v1") as consumer:
            assert consumer.lag(0) == 1
        with pytest.raises(ClosedError):
            consumer.lag(0)
        assert again.len(SHARD) == 1


def test_a_read_only_client_refuses_every_change(tmp_path) -> None:
    """What would change the log is ReadOnlyError; what only looks works, and leaves no trace."""
    with Client(tmp_path / "log") as client:
        client.append(SHARD, [b"x"])
    before = names_below(tmp_path)
    with Client(tmp_path / "log", read_only=True) as client:
        for call in (
            lambda: client.append(SHARD, [b"x"]),
            lambda: client.append(SHARD, []),
            lambda: client.lanes("events:v1"),
            lambda: Consumer(client, "group", stream="events:v1"),
            lambda: client.register_group("events:v1", "group"),
            lambda: client.delete_group("events:v1", "group"),
        ):
            with pytest.raises(ReadOnlyError):
                call()
        assert [message.data for message in client.scan(SHARD)] == [b"x"]
    assert names_below(tmp_path) == before


@pytest.mark.parametrize("config", [{}, {"storage": {}}, "{}", b"", 5, CometConfig])
def test_a_configuration_of_another_kind_is_refused_and_makes_nothing(config, tmp_path) -> None:
    """A dictionary, or JSON, is not taken for a configuration, nor an empty one for none."""
    with pytest.raises(ConfigError, match="must be a CometConfig"):
        Client(tmp_path / "log", config)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("path", ["", b"log", "lo\0g"])
def test_what_is_no_path_is_no_data_directory(path, tmp_path, monkeypatch) -> None:
    """An empty text is a variable that nobody set, and not the working directory."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="data_dir is"):
        Client(path)
    assert list(tmp_path.iterdir()) == []
