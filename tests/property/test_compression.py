"""Does every batch come back whatever compression does with it, and is nothing served that was damaged?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from comet_storage import Client, CometConfig, CompressionConfig, StorageConfig
from comet_storage._format.compression import decompressed_body
from comet_storage._format.frame import FrameHeader
from tests.support.small_log import GROUP, QUICK, SHARD, STREAM, flip, known_frames, read_all

_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
MAGIC = b"\x28\xb5\x2f\xfd"

# What compresses well, what does not, and what looks compressed already.
entries = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=20), st.integers(0, 500)),
    st.builds(lambda rest: MAGIC + rest, st.binary(max_size=100)),
    st.builds(zstandard.compress, st.binary(max_size=300)),
)
batches = st.lists(st.lists(entries, max_size=12), min_size=1, max_size=6)
settings_of_compression = st.builds(
    CompressionConfig,
    codec=st.sampled_from(["zstd", "zstd", "none"]),
    min_compress_size=st.sampled_from([0, 33, 256, 4096, 1 << 40]),
    level=st.integers(1, 5),
)


def config(compression: CompressionConfig, segment_bytes: int = 16 * 1024) -> CometConfig:
    """Small segments, and a flusher that sleeps through the test."""
    return CometConfig(compression=compression, storage=StorageConfig(max_file_size=segment_bytes, sync_interval=300))


@given(batches, settings_of_compression, settings_of_compression, st.sampled_from([4096, 16 * 1024, 1 << 20]))
def test_any_batch_comes_back_with_any_settings(appended, written, read, segment_bytes) -> None:
    """Written with some settings and read with others, copied or not: settings are nothing to a reader."""
    expected = [entry for batch in appended for entry in batch]
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="comet-property-") as directory:
        with Client(directory, config(written, segment_bytes), _door=QUICK) as client:
            for batch in appended:
                client.append(SHARD, batch)
        with Client(directory, config(read, segment_bytes), _door=QUICK) as client:
            assert [message.data for message in client.scan(SHARD)] == expected
            assert list(read_all(client).values()) == expected


@given(st.data(), st.lists(entries, min_size=1, max_size=12), st.integers(0, 7).map(lambda bit: 1 << bit))
def test_a_changed_bit_of_a_compressed_body_is_never_served(data, batch, mask) -> None:
    """The frame is counted as corrupt, and its neighbours are read."""
    compression = CompressionConfig(min_compress_size=0)
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="comet-property-") as directory:
        with Client(directory, config(compression, 1 << 20), _door=QUICK) as client:
            for each in ([b"before"], [*batch, b"." * 500], [b"behind"]):
                client.append(SHARD, each)
            assume(client._settings.compression.compressed_frames == 1)
        frame = known_frames(Path(directory))[1]
        stored = len(frame.path.read_bytes())
        body_length = int.from_bytes(frame.path.read_bytes()[frame.offset : frame.offset + 4], "little")
        assert stored > frame.offset + 32 + body_length
        flip(frame.path, data.draw(st.integers(frame.offset + 32, frame.offset + 31 + body_length)), mask)
        with Client(directory, config(compression, 1 << 20), _door=QUICK) as client:
            assert read_all(client) == {0: b"before", len(batch) + 2: b"behind"}
            assert client.accounting(STREAM, GROUP).corrupt == len(batch) + 1


@given(st.binary(max_size=200), st.integers(1, 20), st.data())
def test_any_bytes_as_a_compressed_body_stand_for_nothing_or_for_what_they_say(noise, count, data) -> None:
    """Also a changed zstd frame: no exception, no memory out of proportion, and never a wrong size."""
    good = bytearray(zstandard.compress(noise * 3))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] = data.draw(st.integers(0, 255))
    for body in (noise, MAGIC + noise, bytes(good)):
        found = decompressed_body(FrameHeader(len(body), 0, 0, 0, count, 1), body, zstandard.ZstdDecompressor())
        assert found is None or (count == 1 or len(found) >= 4 * count)
