"""What does a look at every byte of a log tell, and what does a repair leave behind?"""

from __future__ import annotations

import pytest

from comet_storage import Client, ClosedError, InvalidStreamName, MissingEntries, ReadOnlyError, ShardOwnedError
from tests.support.small_log import (
    QUICK,
    SHARD,
    STREAM,
    crash,
    fill,
    flip,
    known_frames,
    open_small,
)


def test_a_whole_log_is_told_entry_by_entry(tmp_path) -> None:
    """All entries, their bytes and segments; nothing is missing."""
    with open_small(tmp_path, segment_bytes=4096) as client:
        fill(client, [1, 40, 100, 7])
        (found,) = client.verify(STREAM)
        assert client.verify(SHARD) == [found]
        held = list(client.scan(SHARD))
        assert (found.stream, found.entries, found.following, found.missing) == (SHARD, 148, 148, ())
        assert found.entry_bytes == sum(len(message.data) for message in held)
        assert found.segments == client.shard_stats(STREAM, 0).file_count > 1


def test_a_damaged_frame_is_told_by_its_numbers(tmp_path) -> None:
    """The rest is whole, and the damage is corrupt and nothing else."""
    with open_small(tmp_path) as client:
        fill(client, [3, 4, 5])
    damaged = known_frames(tmp_path)[1]
    flip(damaged.path, damaged.offset + 40, 1)
    with Client(tmp_path, read_only=True, _door=QUICK) as client:
        (found,) = client.verify(STREAM)
    assert found.missing == (MissingEntries(3, 6, "corrupt"),)
    assert (found.entries, found.corrupt, found.following) == (8, 4, 12)


def test_what_retention_deleted_is_no_damage(tmp_path) -> None:
    """It is told as evicted."""
    with open_small(tmp_path, segment_bytes=4096) as client:
        fill(client, [50] * 20)
        client.shrink_stream(STREAM, 4096)
        (found,) = client.verify(STREAM)
        (missing,) = found.missing
        assert (missing.first, missing.reason, found.corrupt) == (0, "evicted", 0)
        assert missing.count + found.entries == found.following == 1000


def test_an_empty_log_and_an_unknown_stream_have_nothing(tmp_path) -> None:
    """Neither is an error, nor made; what can be no name is one."""
    with open_small(tmp_path) as client:
        assert client.verify("none:v1") == []
        assert client.repair("none:v1") == {}
        assert client.streams() == []
        with pytest.raises(InvalidStreamName):
            client.verify("no name")
        with pytest.raises(InvalidStreamName):
            client.repair("no name")


def test_a_repair_recovers_and_closes_what_a_crash_left(tmp_path) -> None:
    """Every entry stays, the last segment has its index, and blocks that nobody will use are given back."""
    client = open_small(tmp_path, segment_bytes=1 << 20)
    fill(client, [10, 10])
    before = client.allocated_bytes()
    crash(client)
    with open_small(tmp_path) as mender:
        assert mender.repair(STREAM) == {}
        assert mender.allocated_bytes() < before
        (found,) = mender.verify(STREAM)
        assert (found.entries, found.missing) == (20, ())
        assert fill(mender, [5], first=20) == 25
        assert [message.id.entry_number for message in mender.scan(SHARD)] == list(range(25))


def test_a_repair_leaves_alone_what_a_process_writes(tmp_path) -> None:
    """And says so, without an exception; its own client's shards are no different."""
    with open_small(tmp_path) as owner, open_small(tmp_path) as mender:
        fill(owner, [10])
        assert [(name, type(error)) for name, error in mender.repair(STREAM).items()] == [(SHARD, ShardOwnedError)]
        assert [type(error) for error in owner.repair(STREAM).values()] == [ShardOwnedError]
        fill(owner, [10], first=10)
        assert owner.len(SHARD) == 20


def test_who_may_not_write_may_not_repair(tmp_path) -> None:
    """A read-only or closed client refuses."""
    with open_small(tmp_path) as client:
        fill(client, [1])
        with Client(tmp_path, read_only=True, _door=QUICK) as reader, pytest.raises(ReadOnlyError):
            reader.repair(STREAM)
    with pytest.raises(ClosedError):
        client.repair(STREAM)
