"""The bytes on the disk are the ones that docs/disk-format.md promises, and stay the same."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, Consumer, RetentionConfig, StorageConfig
from comet_storage._format.limits import FORMAT_MAJOR, FORMAT_MINOR
from tests.golden import maker
from tests.golden.independent_reader import read_clock, read_history, read_json, read_ledger, read_log

GOLDEN = Path(__file__).parent / f"v{FORMAT_MAJOR}.{FORMAT_MINOR}"
COMPRESSED = Path(__file__).parent / f"v{FORMAT_MAJOR}.{FORMAT_MINOR}-compressed"
CLOSED = [entry for batch in maker.CLOSED_BATCHES for entry in batch]
CRASHED = [entry for batch in maker.CRASHED_BATCHES for entry in batch]
RECOVERED = [entry for batch in maker.RECOVERED_BATCHES for entry in batch]


def first_recovered() -> int:
    """Return the number ceiling at the power cut: numbers up to it may have been given out."""
    return int(max(path.name for path in GOLDEN.glob("golden/v1/shard-0001/*.segment"))[:20])


@pytest.fixture
def golden(tmp_path) -> Path:
    """A copy of the golden log that may be written to."""
    directory = tmp_path / "golden"
    shutil.copytree(GOLDEN, directory)
    directory.chmod(0o700)
    return directory


@pytest.mark.parametrize("write_method", ["mmap", "pwrite"])
def test_the_engine_writes_the_golden_bytes(write_method, tmp_path, regenerate_golden) -> None:
    """Every file that the engine makes is, byte for byte, the golden one, whichever way it stores."""
    maker.make_log(tmp_path / "log", write_method)
    made = maker.normalized(tmp_path / "log")
    if regenerate_golden:
        shutil.rmtree(GOLDEN, ignore_errors=True)
        maker.write_files(GOLDEN, made)
    golden = {path.relative_to(GOLDEN).as_posix(): path.read_bytes() for path in GOLDEN.rglob("*") if path.is_file()}
    assert sorted(made) == sorted(golden)
    assert [name for name in made if made[name] != golden[name]] == []


def test_compressed_frames_of_any_zstd_release_are_read(tmp_path, regenerate_golden) -> None:
    """The document's reader and the engine give back what a stored log holds compressed.

    What a compressor makes of the same bytes may change with its release, so these files are read and not compared.
    """
    if regenerate_golden:
        maker.make_compressed_log(tmp_path / "log")
        shutil.rmtree(COMPRESSED, ignore_errors=True)
        maker.write_files(COMPRESSED, maker.normalized(tmp_path / "log"))
    stored = [entry for batch in maker.COMPRESSED_BATCHES for entry in batch]
    _, shards = read_log(COMPRESSED)
    (segment,) = shards[maker.SHARD_COMPRESSED].segments
    assert [data for _, _, data in segment.entries] == stored
    assert (segment.compressed, segment.damaged) == ([1, 2, 43], [])
    copy = shutil.copytree(COMPRESSED, tmp_path / "copy")
    copy.chmod(0o700)
    with Client(copy, read_only=True) as client:
        assert [message.data for message in client.scan(maker.SHARD_COMPRESSED)] == stored


def test_a_reader_made_from_the_document_alone_reads_the_golden_files() -> None:
    """The specification is enough to read every field of every file."""
    settings, shards = read_log(GOLDEN)
    closed, crashed = shards[maker.SHARD_CLOSED], shards[maker.SHARD_CRASHED]

    assert settings["max_total_size"] == 1 << 20
    assert settings["when_full"] == "evict_oldest"
    assert {segment.header["log_id"].hex() for segment in closed.segments} == {settings["log_id"]}
    assert read_ledger(GOLDEN / "log.lock") is not None
    clock = read_clock(GOLDEN / "log.lock")
    assert clock is not None
    assert clock[0] == maker.SECOND_BOOT
    times = [segment.header["created_log"] for segment in (*closed.segments, *crashed.segments)]
    assert all(maker.CLOCK_START_NS < time < clock[2] for time in times)
    assert read_json(GOLDEN / "retention.json")["protect_unconsumed"] is True

    assert [number for number, _, _ in closed.entries()] == list(range(len(CLOSED)))
    assert [data for _, _, data in closed.entries()] == CLOSED
    assert [data for _, _, data in crashed.entries()] == CRASHED + RECOVERED
    assert [number for number, _, _ in crashed.entries()] == [0, 1, 2, *range(first_recovered(), first_recovered() + 3)]
    clocks = [clock for _, clock, _ in closed.entries()]
    assert clocks == sorted(clocks)
    assert clocks[0] > maker.CLOCK_START_NS


def test_the_golden_segments_have_every_kind_of_end() -> None:
    """A footer after a rotation, an end mark after a recovery, nothing in the segment that is written."""
    _, shards = read_log(GOLDEN)
    closed, crashed = shards[maker.SHARD_CLOSED], shards[maker.SHARD_CRASHED]
    assert [segment.tail for segment in closed.segments] == ["footer", "footer", "nothing"]
    assert [segment.tail for segment in crashed.segments] == ["mark", "nothing"]
    assert [segment.end_number for segment in closed.segments] == [9, 10, None]
    assert closed.segments[0].points == [(0, 1024)]
    # After a rotation positions go on without a gap; after a power cut they go on beyond the old capacity.
    first, second = closed.segments[:2]
    assert second.header["base"] == first.header["base"] + first.end - 1024
    before, after = crashed.segments
    assert after.header["base"] == before.header["base"] + before.header["capacity"] - 1024
    assert (after.header["lost_from"], after.header["lost_total"]) == (3, first_recovered() - 3)
    # One frame was longer than a segment, so its segment was made larger.
    assert closed.segments[2].header["capacity"] > maker.SEGMENT_BYTES


def test_the_golden_pages_tell_who_wrote_last_and_up_to_where() -> None:
    """State page, its slots, and the second copy of the ceiling say what the segments say."""
    _, shards = read_log(GOLDEN)
    closed, crashed = shards[maker.SHARD_CLOSED], shards[maker.SHARD_CRASHED]
    for shard in (closed, crashed):
        last = shard.segments[-1]
        number = shard.entries()[-1][0] + 1
        position = last.header["base"] + last.end - 1024
        assert (shard.page["published"], shard.page["hint_number"], shard.page["hint_position"]) == (
            position,
            number,
            position,
        )
        assert shard.page["active"] == last.header["first"]
        assert shard.page["durable"][:2] == (position, number)
        assert shard.page["identity"][:2] == (2, maker.SECOND_BOOT)
        assert shard.page["generation"] == shard.owner["generation"] == 2
        assert shard.owner["boot"] == maker.SECOND_BOOT.hex()
    assert closed.page["durable"][2] == closed.page["ceiling"] == closed.owner_ceiling == len(CLOSED)
    assert crashed.page["durable"][2] == crashed.page["ceiling"] > first_recovered() + 3
    assert crashed.owner_ceiling == crashed.page["durable"][2]


def test_the_golden_group_records_hold_offsets_and_ranges() -> None:
    """A group's record has its offset, what was lost below it, and the ranges acknowledged above it."""
    _, shards = read_log(GOLDEN)
    closed = shards[maker.SHARD_CLOSED].groups[maker.GROUP]
    crashed = shards[maker.SHARD_CRASHED].groups[maker.GROUP]
    assert (closed["start"], closed["offset"], closed["ranges"]) == (0, 2, [(3, 2, 0), (6, 1, 1)])
    assert (crashed["offset"], crashed["lost"], crashed["ranges"]) == (first_recovered(), first_recovered() - 3, [])
    assert closed["generation"] == crashed["generation"] == 1


def test_the_engine_reads_the_golden_files_without_changing_them(golden) -> None:
    """A read-only client gives every entry and the accounting of the group, and leaves every byte as it is."""
    before = {path: path.read_bytes() for path in golden.rglob("*") if path.is_file()}
    with Client(golden, read_only=True) as client:
        assert [message.data for message in client.scan(maker.SHARD_CLOSED)] == CLOSED
        assert [message.data for message in client.scan(maker.SHARD_CRASHED)] == CRASHED + RECOVERED
        assert client.groups("golden:v1") == [maker.GROUP]
        found = client.shard_accounting("golden:v1", 0, maker.GROUP)
        assert (found.total, found.delivered, found.rejected, found.pending) == (12, 4, 1, 7)
        found = client.shard_accounting("golden:v1", 1, maker.GROUP)
        assert (found.total, found.delivered, found.lost, found.pending) == (
            first_recovered() + 3,
            3,
            first_recovered() - 3,
            3,
        )
    assert {path: path.read_bytes() for path in golden.rglob("*") if path.is_file()} == before


def test_the_engine_goes_on_in_the_golden_log(golden) -> None:
    """Appends go on behind what is stored: without a gap after a clean close, above the ceiling after a crash."""
    with Client(golden) as client:
        assert client.append(maker.SHARD_CLOSED, [b"on"])[0].entry_number == len(CLOSED)
        _, shards = read_log(GOLDEN)
        ceiling = shards[maker.SHARD_CRASHED].page["durable"][2]
        assert client.append(maker.SHARD_CRASHED, [b"on"])[0].entry_number == ceiling
        with Consumer(client, maker.GROUP, stream="golden:v1") as consumer:
            numbers = [message.id.entry_number for message in consumer.read([0])]
            assert numbers == [2, 5, 7, 8, 9, 10, 11, 12]


def test_the_independent_reader_agrees_with_the_engine_on_any_log(tmp_path) -> None:
    """What the engine stored in many sizes, with footers of several points, the document's reader gives back."""
    seed = random.Random(7)
    config = CometConfig(storage=StorageConfig(max_file_size=512 * 1024))
    name = "random:v2:shard:12345"
    stored: list[bytes] = []
    with Client(tmp_path / "log", config) as client:
        while sum(map(len, stored)) < 3 << 20:
            batch = [seed.randbytes(seed.choice((0, 1, 7, 100, 5000))) for _ in range(seed.choice((1, 1, 2, 30, 100)))]
            client.append(name, batch)
            stored += batch
    _, shards = read_log(tmp_path / "log")
    shard = shards[name]
    assert [data for _, _, data in shard.entries()] == stored
    assert [number for number, _, _ in shard.entries()] == list(range(len(stored)))
    assert {segment.tail for segment in shard.segments[:-1]} == {"footer"}
    assert all(not segment.damaged for segment in shard.segments)
    assert max(len(segment.points) for segment in shard.segments) > 2
    for segment in shard.segments[:-1]:
        assert set(segment.points) <= {(first, offset) for offset, first, _ in segment.frames}


def test_the_independent_reader_agrees_with_the_engine_on_what_was_evicted(tmp_path) -> None:
    """Numbers, counts and reasons, of the shard and of a group."""
    config = CometConfig(
        storage=StorageConfig(max_file_size=4096),
        retention=RetentionConfig(max_total_size=1 << 20, max_shard_size=65536),
    )
    name = "evicting:v1:shard:0003"
    with Client(tmp_path / "log", config) as client, Consumer(client, "slow", stream="evicting:v1"):
        for _ in range(500):
            client.append(name, [bytes(3000)])
        # The background thread may evict as well, between the one look and the other.
        client._flusher.stop()
        for group, path in ((None, "evicted"), ("slow", "evicted-slow")):
            told = client.evictions(name, group)
            kept = read_history(tmp_path / "log/evicting/v1/shard-0003" / path)
            assert [(first, end - 1, entries) for first, end, entries, *_ in kept] == [
                (each.first, each.last, each.count) for each in told
            ]
            assert {reasons for *_, reasons in kept} == {1 << 3}
            assert {each.reasons for each in told} == {("bound",)}
            assert told[0].first == 0
