"""Blocks that are prepared ahead: zeros never meet what an append stored."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, StorageConfig
from comet_storage._os.door import Door
from comet_storage._segment.growth import CHUNK_BYTES, Growth
from comet_storage.errors import LogBusyError

STREAM = "growth:v1:shard:0000"


class GatedDoor(Door):
    """Holds each write of zeros by the flusher until the gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.writing = threading.Event()

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Wait before zeros are written."""
        if not any(data):
            self.writing.set()
            assert self.gate.wait(30)
        super().write(fd, data, offset)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A descriptor of an empty file."""
    found = os.open(tmp_path / "blocks", os.O_RDWR | os.O_CREAT)
    yield found
    os.close(found)


def reserve(_size: int, allocate) -> None:
    """A ledger without a bound."""
    allocate()


def test_a_growth_prepares_whole_chunks_up_to_its_target(fd) -> None:
    """What is prepared is allocated and zero."""
    growth = Growth(4096)
    growth.run(Door(), fd, 4096 + 2 * CHUNK_BYTES + 8192, reserve, fill=True, may_go_on=lambda: True)
    assert growth.prepared == os.fstat(fd).st_size == 4096 + 2 * CHUNK_BYTES + 8192
    assert growth.stop(Door(), 0) == growth.prepared


def test_a_growth_ends_where_it_may_not_go_on(fd) -> None:
    """A writer that lost its shard must not write into it."""
    answers = iter([True, False])
    growth = Growth(0)
    growth.run(Door(), fd, 4 * CHUNK_BYTES, reserve, fill=True, may_go_on=lambda: next(answers))
    assert growth.prepared == os.fstat(fd).st_size == CHUNK_BYTES


def test_whoever_stops_a_growth_waits_for_the_chunk_under_way(fd) -> None:
    """Before, the chunk could be zeroed under an append's bytes."""
    door = GatedDoor()
    growth = Growth(0)
    thread = threading.Thread(
        target=growth.run, args=(door, fd, 8 * CHUNK_BYTES, reserve), kwargs={"fill": True, "may_go_on": lambda: True}
    )
    thread.start()
    assert door.writing.wait(30)
    with pytest.raises(LogBusyError, match="nothing was stored"):
        growth.stop(Door(), 0.01)
    door.gate.set()
    assert growth.stop(Door(), 30) == CHUNK_BYTES
    thread.join()
    assert growth.prepared == CHUNK_BYTES


def test_a_growth_that_was_stopped_prepares_nothing_more(fd) -> None:
    """Also when it is stopped before it began."""
    growth = Growth(0)
    assert growth.stop(Door(), 0) == 0
    growth.run(Door(), fd, CHUNK_BYTES, reserve, fill=True, may_go_on=lambda: True)
    assert growth.prepared == os.fstat(fd).st_size == 0


def test_appends_that_overtake_the_flusher_lose_nothing(tmp_path) -> None:
    """Bursts take blocks as fast as they are prepared, and each stored byte stays what it was."""
    config = CometConfig(storage=StorageConfig(sync_interval=0.01, write_method="mmap"))
    payloads = [bytes([1 + index % 255]) * (1 + index % 3000) for index in range(6000)]
    with Client(tmp_path / "log", config) as client:
        for payload in payloads:
            client.append(STREAM, [payload])
        for start in range(0, 6000, 100):
            client.append(STREAM, payloads[start : start + 100])
        assert [message.data for message in client.scan(STREAM)] == payloads * 2


def test_an_append_goes_on_when_the_flusher_is_stuck_elsewhere(tmp_path) -> None:
    """Blocks beyond those that are being prepared are the append's own to take."""
    door = GatedDoor()
    door.gate.set()
    with Client(tmp_path / "log", _door=door) as client:
        client.append(STREAM, [b"first"])
        active = client._writers[STREAM].active
        growth = active.begin_growth()
        for _ in range(3000):
            client.append(STREAM, [b"x" * 100])
        assert growth.stop(door, 0) < active.allocated
        assert client.len(STREAM) == 3001


def test_zeros_begin_behind_what_was_appended(fd) -> None:
    """A reopened segment knows its blocks by whole pages, and the last of them holds frames."""
    end = 4096 + CHUNK_BYTES
    os.pwrite(fd, b"x" * end, 0)
    growth = Growth(4096, 5000)
    growth.run(Door(), fd, end, reserve, fill=True, may_go_on=lambda: True)
    assert growth.filled == growth.prepared == end
    assert os.pread(fd, end, 0) == b"x" * 5000 + bytes(end - 5000)


class RotatingDoor(Door):
    """Holds a rotation between taking the prepared file and giving it its name."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.renaming = threading.Event()

    def rename(self, source: str, target: str) -> None:
        """Wait, then rename."""
        if source.endswith("prepared-ahead"):
            self.renaming.set()
            assert self.gate.wait(30)
        super().rename(source, target)


def test_a_prepared_file_keeps_its_name_until_the_rotation_that_took_it_has_used_it(tmp_path) -> None:
    """Another one of the same name would get the segment's name, and the appends would go to a file without any."""
    door = RotatingDoor()
    config = CometConfig(storage=StorageConfig(max_file_size=64 * 1024, sync_interval=300, write_method="mmap"))
    payloads = [b"%04d" % index * 100 for index in range(400)]
    with Client(tmp_path / "log", config, _door=door) as client:
        client._start_flusher = lambda: None
        client.append(STREAM, payloads[:1])
        writer = client._writers[STREAM]

        def append_all() -> None:
            for payload in payloads[1:]:
                client.append(STREAM, [payload])

        for payload in payloads[:100]:
            client.append(STREAM, [payload])
            writer.grow_ahead()
        thread = threading.Thread(target=append_all)
        thread.start()
        assert door.renaming.wait(30)
        growing = threading.Thread(target=writer.grow_ahead)
        growing.start()
        # It waits for its turn, or has done its harm.
        growing.join(0.05)
        door.gate.set()
        growing.join()
        thread.join()
        named = Path(writer.context.layout.segment(writer.active.first_entry)).stat().st_ino
        assert named == os.fstat(writer.active.fd).st_ino
        assert [message.data for message in client.scan(STREAM)] == payloads[:1] + payloads[:100] + payloads[1:]
