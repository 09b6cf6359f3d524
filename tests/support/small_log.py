"""Small logs whose every frame is known, ways to damage them, and a door that does not wait for the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from comet_storage import Accounting, Client, CometConfig, CompressionConfig, Consumer, StorageConfig, StreamMessage
from comet_storage._os.door import Door
from comet_storage._segment.file import Frame, SegmentFile
from comet_storage.errors import ShardLostError
from tests.support.entries import make_entry

SHARD = "small:v1:shard:0000"
STREAM = "small:v1"
GROUP = "watchers"
WRITER = 1


class QuickDoor(Door):
    """The real operating system, but nothing waits for the disk."""

    def sync_data(self, fd: int) -> None:
        """Do not wait."""

    def sync_directory(self, path: str) -> None:
        """Do not wait."""


class BootedDoor(QuickDoor):
    """The same machine after a restart."""

    def boot_id(self) -> bytes:
        """Another boot than the real one."""
        return b"another boot id!"


QUICK = QuickDoor()


def memory_directory(otherwise: Path) -> Iterator[Path]:
    """A directory in memory, where a thousand small logs take seconds; removed afterwards. For fixtures."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield otherwise
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="comet-test-") as directory:
        yield Path(directory)


def small_config(*, shared: bool = False, segment_bytes: int = 16 * 1024) -> CometConfig:
    """Small segments, entries stored as they are, and a flusher that sleeps through the test."""
    base = CometConfig.multi_process() if shared else CometConfig.default()
    return CometConfig(
        compression=CompressionConfig(codec="none"),
        storage=StorageConfig(max_file_size=segment_bytes, sync_interval=300),
        concurrency=base.concurrency,
    )


def open_small(directory: Path, *, door: Door = QUICK, shared: bool = False, segment_bytes: int = 16 * 1024) -> Client:
    """Open a small log."""
    return Client(directory, small_config(shared=shared, segment_bytes=segment_bytes), _door=door)


def fill(client: Client, batches: list[int], first: int = 0) -> int:
    """Append batches with so many entries each; returns the sequence number behind the last entry."""
    for count in batches:
        client.append(SHARD, [make_entry(WRITER, first + index, 12 + (first + index) % 23) for index in range(count)])
        first += count
    return first


def crash(client: Client) -> None:
    """Leave everything as kill -9 would: nothing is flushed, trimmed or noted; locks are freed."""
    if client._flusher is not None:
        client._flusher.stop()
        client._flusher = None
    for cursor in list(client._cursors):
        cursor.close()
    for writer in client._writers.values():
        writer.release(ShardLostError("crashed"))
    client._writers.clear()
    client._ledger.close()
    client._closed = True


@dataclass(frozen=True)
class KnownFrame:
    """Where a frame is."""

    path: Path
    offset: int
    end: int
    first: int
    count: int

    @property
    def numbers(self) -> set[int]:
        """Its entries' numbers."""
        return set(range(self.first, self.first + self.count))


def shard_directory(directory: Path) -> Path:
    """Where the small log's shard is."""
    return directory / "small" / "v1" / "shard-0000"


def segment_paths(directory: Path) -> list[Path]:
    """The shard's segments in order."""
    return sorted(shard_directory(directory).glob("*.segment"))


def known_frames(directory: Path) -> list[KnownFrame]:
    """Every frame of an undamaged log."""
    frames = []
    for path in segment_paths(directory):
        segment = SegmentFile(QUICK, str(path))
        try:
            for found in segment.walk(1024, segment.size(), int(path.name[:20])):
                if isinstance(found, Frame):
                    header = found.header
                    end = found.offset + header.size
                    frames.append(KnownFrame(path, found.offset, end, header.first_entry, header.count))
        finally:
            segment.close()
    return frames


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Change bytes of a file in place."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def flip(path: Path, offset: int, mask: int) -> None:
    """Change bits of one byte in place."""
    with path.open("rb") as file:
        file.seek(offset)
        (byte,) = file.read(1)
    overwrite(path, offset, bytes([byte ^ mask]))


def copy_log(source: Path, target: Path) -> Path:
    """A copy of a directory, with other inodes and the same bytes."""
    shutil.copytree(source, target)
    return target


def numbers_and_data(messages: list[StreamMessage]) -> dict[int, bytes]:
    """Entries by number; a number twice is an error."""
    found: dict[int, bytes] = {}
    for message in messages:
        assert message.id.entry_number not in found, f"{message.id} came twice"
        found[message.id.entry_number] = message.data
    assert list(found) == sorted(found)
    return found


def expected_data(total: int, without: set[int] = frozenset()) -> dict[int, bytes]:  # type: ignore[assignment]
    """What :func:`fill` stored."""
    return {number: make_entry(WRITER, number, 12 + number % 23) for number in range(total) if number not in without}


def read_all(client: Client) -> dict[int, bytes]:
    """Everything that a new group is given, acknowledged."""
    with Consumer(client, GROUP, stream=STREAM) as consumer:
        found = {}
        while messages := consumer.read(count=1000):
            found.update(numbers_and_data(messages))
            consumer.ack(*(message.id for message in messages))
    return found


def assert_conserved(accounting: Accounting) -> None:
    """Every number is in exactly one class."""
    parts = (
        accounting.delivered
        + accounting.rejected
        + accounting.skipped
        + accounting.evicted
        + accounting.corrupt
        + accounting.lost
        + accounting.pending
    )
    assert parts == accounting.total, accounting
