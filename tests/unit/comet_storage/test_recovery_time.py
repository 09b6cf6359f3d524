"""Can damage be made so that reading it takes time out of proportion?"""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage._format.checksum import crc32
from comet_storage._os.door import Door
from comet_storage._segment.file import Frame, SegmentFile
from tests.support.entries import make_entry
from tests.support.small_log import (
    QUICK,
    SHARD,
    WRITER,
    memory_directory,
    open_small,
    overwrite,
    segment_paths,
)

ENTRIES = 8000
ROUNDS = 7


@pytest.fixture
def tmp_path(tmp_path) -> Iterator[Path]:
    """In memory: only the reading is looked at."""
    yield from memory_directory(tmp_path)


class CountingDoor(Door):
    """Counts what is read."""

    def __init__(self) -> None:
        self.calls = self.bytes = 0

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Count a read."""
        data = super().read(fd, size, offset)
        self.calls += 1
        self.bytes += len(data)
        return data


def make_segment(directory: Path, entry_bytes: int = 115) -> tuple[Path, int, int]:
    """One segment with many frames: its path, salt and end."""
    client = open_small(directory, segment_bytes=4 << 20)
    for number in range(ENTRIES):
        client.append(SHARD, [make_entry(WRITER, number, entry_bytes)])
    client.close()
    (path,) = segment_paths(directory)
    segment = SegmentFile(QUICK, str(path))
    assert segment.header is not None
    salt, end = segment.header.salt, segment.size()
    segment.close()
    return path, salt, end


def damage(path: Path, salt: int, end: int, kind: str) -> None:
    """Make all of a segment's frames bad, in a way that is meant to cost time."""
    data = bytearray(path.read_bytes()[:end])
    if kind == "marker repeated":
        data[1024:end] = struct.pack("<I", salt) * ((end - 1024) // 4)
    else:
        offset = 1024
        while offset + 32 <= end:
            length = struct.unpack_from("<I", data, offset)[0]
            false = {
                "lengths to the end": end - offset - 32,
                "lengths of 64 KiB": min(65536, end - offset - 32),
                "lengths of 5 KiB": min(5120, end - offset - 32),
                "checksums": length,
            }[kind]
            struct.pack_into("<II", data, offset, false, 12345)
            struct.pack_into("<I", data, offset + 28, crc32(bytes(data[offset : offset + 28]), salt ^ offset))
            offset += (32 + length + 7) & -8
    overwrite(path, 0, bytes(data))


def scan(door: Door, path: Path, end: int) -> int:
    """Walk all of a segment; returns how many frames it found."""
    segment = SegmentFile(door, str(path))
    try:
        return sum(isinstance(found, Frame) for found in segment.walk(1024, end, 0))
    finally:
        segment.close()


KINDS = ["lengths to the end", "lengths of 64 KiB", "lengths of 5 KiB", "checksums", "marker repeated"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damage_made_to_be_slow_reads_each_byte_a_few_times_at_most(tmp_path, kind) -> None:
    """However false the headers are, what is read stays within a small multiple of the segment."""
    path, salt, end = make_segment(tmp_path)
    clean = CountingDoor()
    assert scan(clean, path, end) == ENTRIES
    damage(path, salt, end, kind)
    door = CountingDoor()
    assert scan(door, path, end) == 0
    assert door.bytes <= 4 * clean.bytes
    assert door.calls <= clean.calls + ENTRIES


@pytest.mark.bench
@pytest.mark.parametrize("kind", KINDS)
def test_damage_made_to_be_slow_costs_at_most_twice_a_clean_scan(tmp_path, capsys, kind) -> None:
    """Interleaved measurements of the same segment, clean and damaged."""
    clean_path, _, end = make_segment(tmp_path / "clean")
    path, salt, end = make_segment(tmp_path / "damaged")
    damage(path, salt, end, kind)
    clean, damaged = [], []
    for _ in range(ROUNDS):
        for times, this in ((clean, clean_path), (damaged, path)):
            started = time.perf_counter()
            scan(QUICK, this, end)
            times.append(time.perf_counter() - started)
    ratio = statistics.median(damaged) / statistics.median(clean)
    with capsys.disabled():
        print(f"\n{kind}: clean {statistics.median(clean) * 1e3:.1f} ms, damaged {ratio:.2f} times that")
    assert ratio <= 2


def test_damaged_frames_at_the_end_of_a_shard_are_waited_for_once(tmp_path) -> None:
    """A reader pauses for bytes that may not have arrived yet, but not for each of a thousand damaged frames."""

    class PausesCounted(CountingDoor):
        pauses = 0

        def sleep(self, duration: float) -> None:
            self.pauses += 1

    path, salt, end = make_segment(tmp_path)
    damage(path, salt, end, "checksums")
    door = PausesCounted()
    with open_small(tmp_path, door=door, segment_bytes=4 << 20) as client:
        assert list(client.scan(SHARD)) == []
    assert door.pauses <= 2
