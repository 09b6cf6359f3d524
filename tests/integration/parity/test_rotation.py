"""Segments follow one another without mixing, losing or repeating entries, whoever begins them and however they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_storage import Client
from tests.support.small_log import SHARD, crash, open_small, segment_paths

SEGMENT_BYTES = 4096


def entry(number: int, size: int = 50) -> bytes:
    """An entry that tells its number."""
    return b"%08d" % number * (size // 8 + 1)


def append(client: Client, first: int, batches: list[int], size: int = 50) -> int:
    """Append batches of so many entries; return the number behind the last one."""
    for count in batches:
        ids = client.append(SHARD, [entry(first + index, size) for index in range(count)])
        assert [found.entry_number for found in ids] == list(range(first, first + count))
        first += count
    return first


def assert_holds(client: Client, total: int, size: int = 50) -> None:
    """Every entry is there once, under its own number, by scan and by a read from any place."""
    found = [(message.id.entry_number, message.data) for message in client.scan(SHARD)]
    assert found == [(number, entry(number, size)) for number in range(total)]
    assert client.len(SHARD) == total
    for number in range(0, total, 7):
        assert next(client.scan(SHARD, number)).data == entry(number, size)


def test_segments_are_as_many_as_the_bytes_need(tmp_path) -> None:
    """A rotation starts an empty segment: appends do not make a file each from then on."""
    with open_small(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as client:
        total = append(client, 0, [1] * 400)
        stored = 400 * (32 + 56)
        assert stored // SEGMENT_BYTES <= len(segment_paths(tmp_path / "log")) <= 2 + stored // (SEGMENT_BYTES - 1200)
        assert_holds(client, total)


@pytest.mark.parametrize("batch", [1, 3, 10, 100, 1000])
def test_entries_at_segment_boundaries_are_their_own(batch, tmp_path) -> None:
    """Batches that reach the limit, and those far over it, are read back whole and under the right numbers."""
    with open_small(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as client:
        total = append(client, 0, [batch] * max(3, 600 // batch))
        assert len(segment_paths(tmp_path / "log")) > 2
        assert_holds(client, total)
    with open_small(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as client:
        assert_holds(client, total)


def open_and_append(directory: Path, first: int, *, kill: bool) -> int:
    """One process's life: it appends over several rotations and is closed, or killed."""
    client = open_small(directory, segment_bytes=SEGMENT_BYTES)
    first = append(client, first, [1, 5, 20] * 6)
    if kill:
        crash(client)
    else:
        client.close()
    return first


@pytest.mark.parametrize("kill", [False, True], ids=["closed", "killed"])
def test_a_process_that_comes_after_goes_on_where_the_last_one_ended(kill, tmp_path) -> None:
    """Restarts between rotations neither write into old segments nor give out a number again."""
    total = 0
    for _ in range(4):
        total = open_and_append(tmp_path / "log", total, kill=kill)
    names = [path.name for path in segment_paths(tmp_path / "log")]
    assert names == sorted(set(names))
    with open_small(tmp_path / "log", segment_bytes=SEGMENT_BYTES) as client:
        assert_holds(client, total)
