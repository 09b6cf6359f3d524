"""Several processes find a shard without what tells its end, at the same time."""

from __future__ import annotations

import pytest

from comet_storage import Client
from tests.support.children import Child
from tests.support.small_log import (
    SHARD,
    crash,
    expected_data,
    fill,
    numbers_and_data,
    open_small,
    shard_directory,
    small_config,
)

PROCESSES = 3
APPENDS = 20


def append_when_told(out, into, directory: str, writer: int) -> None:
    """In a child: open when told to, append, and report what each number was given for."""
    out.send("ready")
    into.recv()
    found = {}
    with Client(directory, small_config(shared=True, segment_bytes=4096)) as client:
        for turn in range(APPENDS):
            data = b"%d/%d" % (writer, turn) * 10
            (message_id,) = client.append(SHARD, [data])
            found[message_id.entry_number] = data
    out.send(found)


@pytest.mark.integration
@pytest.mark.parametrize("lost", [("state",), ("state", "owner.lock")], ids=["page", "page and lock"])
def test_processes_that_recover_a_shard_at_once_agree_on_its_end(lost, tmp_path) -> None:
    """One of them rebuilds it, the others go on from there: nothing is given out twice, and all of it is read."""
    directory = tmp_path / "log"
    client = open_small(directory, shared=True, segment_bytes=4096)
    total = fill(client, [1, 5, 40] * 5)
    crash(client)
    for name in lost:
        (shard_directory(directory) / name).unlink()
    children = [Child(append_when_told, str(directory), writer) for writer in range(PROCESSES)]
    found: dict[int, bytes] = {}
    try:
        for child in children:
            assert child.hear() == "ready"
        for child in children:
            child.tell("go")
        for child in children:
            part = child.hear()
            assert part.keys() & found.keys() == set()
            found |= part
            assert child.join() == 0
    finally:
        for child in children:
            child.kill()
    assert min(found) >= total
    with open_small(directory, shared=True, segment_bytes=4096) as client:
        assert numbers_and_data(list(client.scan(SHARD))) == expected_data(total) | found
