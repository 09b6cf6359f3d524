"""What is stored compressed, what is not, and does every entry come back as it was?"""

from __future__ import annotations

import os
import random
import struct
import threading
from pathlib import Path

import pytest
import zstandard

from comet_storage import Client, CometConfig, CompressionConfig, Consumer, StorageConfig, UnsupportedFormatError
from comet_storage._format import limits
from comet_storage._os import zstd_keeping_gil
from comet_storage._segment.file import Frame, SegmentFile
from comet_storage._shard.compression import FRUITLESS_IN_A_ROW, Compression
from tests.support.forged import forge
from tests.support.small_log import (
    GROUP,
    QUICK,
    SHARD,
    STREAM,
    KnownFrame,
    assert_conserved,
    known_frames,
    read_all,
    segment_paths,
)

MAGIC = b"\x28\xb5\x2f\xfd"
TEXT = b"a line that compresses well, as lines of text do; " * 100
UNKNOWN_CODEC = 7


def config(*, min_compress_size: int = 4096, codec: str = "zstd", level: int = 1) -> CometConfig:
    """Only what is asked for, and a flusher that sleeps through the test."""
    return CometConfig(
        compression=CompressionConfig(codec=codec, min_compress_size=min_compress_size, level=level),
        storage=StorageConfig(sync_interval=300, max_file_size=8 << 20),
    )


def open_log(directory: Path, **settings: object) -> Client:
    """Open a log with these settings of compression."""
    return Client(directory, config(**settings), _door=QUICK)  # type: ignore[arg-type]  # handed on


def compression(client: Client) -> Compression:
    """The client's compressor and its counters."""
    return client._settings.compression


def stored_frames(directory: Path) -> list[tuple[int, int]]:
    """Codec and stored length of every frame."""
    found = []
    for path in segment_paths(directory):
        segment = SegmentFile(QUICK, str(path))
        walk = segment.walk(1024, segment.size(), 0)
        found += [(each.header.codec, each.header.body_length) for each in walk if isinstance(each, Frame)]
        segment.close()
    return found


def data(client: Client) -> list[bytes]:
    """Every entry of the shard."""
    return [message.data for message in client.scan(SHARD)]


@pytest.mark.parametrize("codec", ["zstd", "none"])
def test_payloads_that_look_compressed_come_back_as_they_were(codec, tmp_path) -> None:
    """The codec is in the header and never told from content: a zstd frame that a user stores stays one."""
    whole = zstandard.compress(TEXT)
    entries = [MAGIC, MAGIC + b"garbage" * 1000, whole, whole[:-1], zstandard.compress(os.urandom(9000)), MAGIC * 2000]
    with open_log(tmp_path / "log", codec=codec) as client:
        for entry in entries:
            client.append(SHARD, [entry])
        client.append(SHARD, entries)
        client.append(SHARD, entries * 20)
        assert data(client) == entries * 22
        with Consumer(client, GROUP, stream=STREAM) as consumer:
            assert [message.data for message in consumer.read(count=1000)] == entries * 22


@pytest.mark.parametrize("size", [4096, 5000, 70_000, 300_000])
def test_random_data_is_not_grown(size, tmp_path) -> None:
    """What does not shrink is stored as it is, byte for byte, and counted."""
    entry = os.urandom(size)
    with open_log(tmp_path / "log") as client:
        client.append(SHARD, [entry])
        assert data(client) == [entry]
        assert stored_frames(tmp_path / "log") == [(0, size)]
        counters = compression(client)
        assert (counters.incompressible_frames, counters.compressed_frames) == (1, 0)
        stats = client.stats()
        assert (stats.skipped_compression, stats.compressed_entries, stats.compression_ratio) == (1, 0, 1.0)


def test_the_whole_append_call_is_compressed_from_the_least_size_on(tmp_path) -> None:
    """Lengths and payloads together count, for one entry and for many; below the least size nothing is tried."""
    with open_log(tmp_path / "log", min_compress_size=500) as client:
        for batch in ([b"a" * 499], [b"a" * 500], [b"a" * 61] * 7, [b"a" * 60] * 8):
            client.append(SHARD, batch)
        frames = stored_frames(tmp_path / "log")
        assert [codec for codec, _ in frames] == [0, 1, 0, 1]
        assert max(length for codec, length in frames if codec) < 100
        counters = compression(client)
        assert (counters.compressed_frames, counters.compressed_entries, counters.incompressible_frames) == (2, 9, 0)
        assert counters.content_bytes == 500 + 8 * 64
        assert counters.stored_bytes == sum(length for codec, length in frames if codec)
        stats = client.stats()
        assert (stats.compressed_entries, stats.skipped_compression) == (9, 0)
        assert stats.total_bytes - stats.total_compressed == counters.saved_bytes > 0
        assert stats.compression_ratio > 1.5
        assert stats.compression_wait_ns > 0


def test_nothing_is_compressed_with_the_codec_none(tmp_path) -> None:
    """Also not what would shrink most."""
    with open_log(tmp_path / "log", codec="none", min_compress_size=0) as client:
        client.append(SHARD, [bytes(100_000)])
        assert stored_frames(tmp_path / "log") == [(0, 100_000)]


def test_a_least_size_of_nothing_leaves_empty_entries_alone(tmp_path) -> None:
    """What cannot shrink is not compressed, though everything is tried."""
    with open_log(tmp_path / "log", min_compress_size=0) as client:
        client.append(SHARD, [b""])
        client.append(SHARD, [b"1"])
        client.append(SHARD, [b""] * 1000)
        assert [codec for codec, _ in stored_frames(tmp_path / "log")] == [0, 0, 1]
        assert data(client) == [b"", b"1", *[b""] * 1000]


@pytest.mark.parametrize("level", [1, 3, 9])
@pytest.mark.parametrize("size", [5000, 200_000, 3_000_000])
def test_every_size_and_level_comes_back(size, level, tmp_path) -> None:
    """Bodies that are compressed at once, in pieces, and into more than a map takes at once."""
    seed = random.Random(size)
    batch = [bytes(seed.choices(b"0123456789abcdef", k=seed.randrange(2000))) for _ in range(size // 1000)]
    with open_log(tmp_path / "log", level=level) as client:
        client.append(SHARD, batch)
        assert data(client) == batch
        assert [codec for codec, _ in stored_frames(tmp_path / "log")] == [1]


@pytest.mark.parametrize("level", [-7, -1])
def test_negative_levels_compress_what_repeats(level, tmp_path) -> None:
    """They are quicker than level 1, find only repetitions, and come back as well."""
    batch = [b"GET /items/%d from shop-17.example.com" % number for number in range(500)]
    with open_log(tmp_path / "log", level=level) as client:
        client.append(SHARD, batch)
        assert data(client) == batch
        assert [codec for codec, _ in stored_frames(tmp_path / "log")] == [1]


def test_without_a_library_that_keeps_the_gil_the_other_way_is_taken(tmp_path, monkeypatch) -> None:
    """Where the wheel hides the library's symbols, compression works all the same."""
    monkeypatch.setattr(zstd_keeping_gil, "_library", None)
    with open_log(tmp_path / "log") as client:
        client.append(SHARD, [TEXT, TEXT])
        assert stored_frames(tmp_path / "log")[0][0] == 1
        assert data(client) == [TEXT, TEXT]


def test_after_many_bodies_in_vain_only_some_are_tried(tmp_path) -> None:
    """Random data costs next to nothing then; one body that shrinks ends it."""
    tried = Compression(min_size=0, level=1, clock=lambda: 0.0)
    noise = os.urandom(5000)
    for _ in range(FRUITLESS_IN_A_ROW):
        assert tried.compress([noise], len(noise), 1) is None
    assert [tried.compress([TEXT], len(TEXT), 1) is None for _ in range(3)] == [False, False, False]
    for _ in range(FRUITLESS_IN_A_ROW + 1):
        assert tried.compress([noise], len(noise), 1) is None
    # This one is passed over, and at most so many behind it.
    found = [tried.compress([TEXT], len(TEXT), 1) is not None for _ in range(FRUITLESS_IN_A_ROW)]
    assert found[0] is False
    assert found[-1] is True


@pytest.mark.slow
def test_counters_lose_nothing_between_threads(tmp_path) -> None:
    """What many threads compress at once is counted, and comes back."""
    threads, appends = 8, 200
    with open_log(tmp_path / "log") as client:

        def work(name: int) -> None:
            for number in range(appends):
                client.append(SHARD, [b"%d %d " % (name, number) * 2000])

        workers = [threading.Thread(target=work, args=(name,)) for name in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        counters = compression(client)
        assert counters.compressed_frames == counters.compressed_entries == threads * appends
        found = data(client)
        assert sum(map(len, found)) == counters.content_bytes
        assert sorted(found) == sorted(
            b"%d %d " % (name, number) * 2000 for name in range(threads) for number in range(appends)
        )


# Bodies that nobody should have stored.


def forged_log(directory: Path, body: bytes, codec: int, *, count: int = 1) -> tuple[KnownFrame, dict[int, bytes]]:
    """A log of three frames whose middle one is forged; returns that frame and what the others hold."""
    # As long as the forged body, and never compressed.
    placeholder = [b"-" * (len(body) - 4 * count)] + [b""] * (count - 1) if count > 1 else [b"-" * len(body)]
    with open_log(directory, codec="none") as client:
        client.append(SHARD, [b"before"])
        client.append(SHARD, placeholder)
        client.append(SHARD, [b"behind"])
    frame = known_frames(directory)[1]
    forge(frame, body, codec)
    return frame, {0: b"before", count + 1: b"behind"}


def zstd_frame_claiming(size: int) -> bytes:
    """A valid zstd frame of one run of 'a' that claims ``size`` bytes of content and has fewer."""
    single_segment_and_eight_bytes_of_size = 0xE0
    run_of_100_last = struct.pack("<I", 100 << 3 | 1 << 1 | 1)[:3] + b"a"
    return MAGIC + bytes([single_segment_and_eight_bytes_of_size]) + struct.pack("<Q", size) + run_of_100_last


def with_lengths(lengths: list[int], payload: bytes) -> bytes:
    """A compressed body of several entries with any lengths."""
    return zstandard.compress(struct.pack(f"<{len(lengths)}I", *lengths) + payload)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param(zstd_frame_claiming(1 << 50), 1, id="claims a petabyte"),
        pytest.param(zstd_frame_claiming(limits.FRAME_CONTENT_BYTES_MAX + 1), 1, id="claims one byte over the limit"),
        pytest.param(zstd_frame_claiming(101), 1, id="claims one byte too many"),
        pytest.param(zstd_frame_claiming(99), 1, id="claims one byte too few"),
        pytest.param(b"no zstd frame at all", 1, id="no zstd frame"),
        pytest.param(zstandard.compress(b"x" * 500)[:-3], 1, id="cut"),
        pytest.param(zstandard.compress(b"x" * 500) + b"more", 1, id="bytes behind it"),
        pytest.param(zstandard.compress(b"x" * 500) * 2, 1, id="two frames"),
        pytest.param(zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 500), 1, id="no size"),
        pytest.param(with_lengths([3, 3], b"12345"), 2, id="lengths too large"),
        pytest.param(with_lengths([2, 2], b"12345"), 2, id="lengths too small"),
        pytest.param(with_lengths([], b"12345" * 20), 50, id="no room for the lengths"),
        pytest.param(with_lengths([0xFFFFFFFF, 0xFFFFFFFF], b"12345"), 2, id="lengths beyond all"),
    ],
)
def test_a_body_that_cannot_be_decompressed_is_corrupt_and_costs_nothing_else(body, count, tmp_path) -> None:
    """Its checksums are right, and still nothing of it is served, no memory is taken for it, and it is counted."""
    body = body.ljust(4 * count + 4, b"\0") if count > 2 else body
    _, others = forged_log(tmp_path / "log", body, 1, count=count)
    with open_log(tmp_path / "log") as client:
        assert read_all(client) == others
        found = client.accounting(STREAM, GROUP)
        assert (found.corrupt, found.delivered) == (count, 2)
        assert_conserved(found)
        assert client.append(SHARD, [b"on"])[0].entry_number == count + 2


def test_an_unknown_codec_is_an_error_and_nothing_is_passed_over(tmp_path) -> None:
    """What stands before it is delivered, other shards are read on, and it stays pending until it can be read."""
    other = "small:v1:shard:0001"
    frame, _ = forged_log(tmp_path / "log", b"what a newer release wrote", UNKNOWN_CODEC)
    with open_log(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        client.append(other, [b"of another shard"])
        first = consumer.read()
        assert sorted(message.data for message in first) == [b"before", b"of another shard"]
        consumer.ack(*(message.id for message in first))
        with pytest.raises(UnsupportedFormatError, match=r"entries 1 to 1 are stored with codec 7"):
            consumer.read()
        client.append(other, [b"one more"])
        assert [message.data for message in consumer.read()] == [b"one more"]
        found = client.shard_accounting(STREAM, 0, GROUP)
        assert (found.delivered, found.pending, found.corrupt) == (1, 2, 0)
        with pytest.raises(UnsupportedFormatError):
            list(client.scan(SHARD))
        assert client.len(SHARD) == 3
        assert client.pending_bytes(STREAM, GROUP) > 0
        assert client.append(SHARD, [b"writers go on"])[0].entry_number == 3
        # As if a release that knows the codec read it, which is another process.
        forge(frame, b"what a newer release wrote", 0)
        consumer.close()
        with Consumer(client, GROUP, stream=STREAM) as newer:
            assert [message.id.entry_number for message in newer.read([0])] == [1, 2, 3]


def test_an_unknown_codec_behind_damage_is_found_again(tmp_path) -> None:
    """The search for the next provable frame takes frames of any codec, so that none is counted as corrupt."""
    frame, _ = forged_log(tmp_path / "log", b"what a newer release wrote", UNKNOWN_CODEC)
    content = bytearray(frame.path.read_bytes())
    content[1024:1056] = bytes(32)
    frame.path.write_bytes(content)
    with open_log(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        with pytest.raises(UnsupportedFormatError):
            consumer.read()
        assert client.accounting(STREAM, GROUP).pending >= 2
