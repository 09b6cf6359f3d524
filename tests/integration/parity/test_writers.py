"""Several threads, clients and processes write, and each id stands for the entry that it was given for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from comet_storage import Client, Consumer, ShardOwnedError
from tests.support.children import Child
from tests.support.small_log import SHARD, STREAM, open_small, small_config

THREADS = 8


def append_own(client: Client, writer: int, batches: int, found: dict[int, bytes]) -> None:
    """Append batches of one writer and note what each id was given for."""
    for turn in range(batches):
        entries = [b"%d/%d/%d" % (writer, turn, index) * 3 for index in range(1 + turn % 4)]
        ids = client.append(SHARD, entries)
        for message_id, data in zip(ids, entries, strict=True):
            assert message_id.entry_number not in found
            found[message_id.entry_number] = data


def held(client: Client) -> dict[int, bytes]:
    """What the shard holds."""
    return {message.id.entry_number: message.data for message in client.scan(SHARD)}


@pytest.mark.parametrize("shared", [False, True], ids=["owned", "shared"])
def test_every_id_of_concurrent_appends_is_that_of_its_own_entry(shared, tmp_path) -> None:
    """Eight threads over many rotations: no number twice, none missing, and each with its own bytes."""
    found: dict[int, bytes] = {}
    with open_small(tmp_path / "log", shared=shared, segment_bytes=4096) as client:
        threads = [threading.Thread(target=append_own, args=(client, writer, 60, found)) for writer in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == list(range(THREADS * 150))
        assert held(client) == found


def test_two_clients_of_one_directory_do_not_number_alike(tmp_path) -> None:
    """The second owner is refused by name; in another shard, and after the first one's end, it is not."""
    with open_small(tmp_path / "log") as first, open_small(tmp_path / "log") as second:
        first.append(SHARD, [b"first"])
        with pytest.raises(ShardOwnedError, match=f"process {os.getpid()} "):
            second.append(SHARD, [b"refused"])
        second.append("small:v1:shard:0001", [b"elsewhere"])
        first.close()
        (message_id,) = second.append(SHARD, [b"second"])
        assert message_id.entry_number == 1
        assert held(second) == {0: b"first", 1: b"second"}


def append_shared(out, into, directory: str, writer: int) -> None:
    """In a child: append small batches, and one larger than a segment, to a shared shard."""
    found: dict[int, bytes] = {}
    with Client(directory, small_config(shared=True, segment_bytes=4096)) as client:
        append_own(client, writer, 50, found)
        entries = [b"%d/large/%d" % (writer, index) * 10 for index in range(200)]
        ids = client.append(SHARD, entries)
        found.update(zip((message_id.entry_number for message_id in ids), entries, strict=True))
    out.send(found)


@pytest.mark.integration
def test_processes_that_share_a_shard_share_one_numbering(tmp_path) -> None:
    """From 0 on without a gap, over rotations and batches of many segments; nothing empty is delivered."""
    directory = tmp_path / "log"
    with Child(append_shared, str(directory), 1) as one, Child(append_shared, str(directory), 2) as other:
        mine, theirs = one.hear(), other.hear()
        assert (one.join(), other.join()) == (0, 0)
    assert mine.keys() & theirs.keys() == set()
    found = mine | theirs
    assert sorted(found) == list(range(len(found)))
    with open_small(directory, shared=True, segment_bytes=4096) as client:
        assert client.len(SHARD) == len(found)
        assert held(client) == found
        with Consumer(client, "all", stream=STREAM) as consumer:
            messages = consumer.read(count=10_000)
        assert all(message.data for message in messages)
        assert len(messages) == len(found)


@pytest.mark.parametrize("shared", [False, True], ids=["owned", "shared"])
def test_a_client_that_read_first_appends_behind_what_it_read(shared, tmp_path: Path) -> None:
    """A shard that was opened to be read is not begun anew by the first append."""
    with open_small(tmp_path / "log", shared=shared) as client:
        client.append(SHARD, [b"old%d" % index for index in range(5)])
    with open_small(tmp_path / "log", shared=shared) as client, Consumer(client, "group", stream=STREAM) as consumer:
        assert len(consumer.read()) == 5
        assert client.len(SHARD) == 5
        ids = client.append(SHARD, [b"new0", b"new1"])
        assert [message_id.entry_number for message_id in ids] == [5, 6]
        assert client.len(SHARD) == 7
        assert [message.data for message in consumer.read()][5:] == [b"new0", b"new1"]
