"""Read errors that pass cost nothing; one that stays costs the frames in its sectors, and some patience."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage import Client, Consumer, StorageIOError
from comet_storage._segment.unreadable import UNREADABLE_SECONDS, UNREADABLE_TRIES
from tests.support.engine import ManualDoor

STREAM = "events:v1"
SHARD = "events:v1:shard:0000"
ENTRIES = 100
ENTRY = b"x" * 1000
FRAME_BYTES = 1032


class BadDisk(ManualDoor):
    """A disk that refuses some blocks, or everything."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: range = range(0)
        self.code = errno.EIO
        self.refusals = 0

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Give what stands before a bad place, and refuse what begins in it, as the kernel does."""
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        if name.endswith(".segment") and self.bad:
            if offset in self.bad:
                self.refusals += 1
                raise OSError(self.code, "Input/output error")
            if offset < self.bad.start < offset + size:
                size = self.bad.start - offset
        return super().read(fd, size, offset)


@pytest.fixture
def door() -> BadDisk:
    """Return a disk on which nothing is bad yet."""
    return BadDisk()


@pytest.fixture
def client(tmp_path, door) -> Iterator[Client]:
    """Return a log of one shard with frames of about a kilobyte."""
    with Client(tmp_path / "log", _door=door) as made:
        for _ in range(ENTRIES):
            made.append(SHARD, [ENTRY])
        yield made


def read_numbers(consumer: Consumer, numbers: list[int] | None = None) -> None:
    """Acknowledge everything that can be read, and note its numbers."""
    numbers = [] if numbers is None else numbers
    while messages := consumer.read(count=10):
        numbers += [message.id.entry_number for message in messages]
        consumer.ack(*(message.id for message in messages))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOMEM, errno.EMFILE])
def test_a_read_error_that_passes_is_no_damage(code, door, client) -> None:
    """It is raised as retryable, and afterwards every entry is there, none counted as corrupt."""
    with Consumer(client, "readers", stream=STREAM) as consumer:
        door.bad, door.code = range(40960, 45056), code
        first = consumer.read(count=20)
        with pytest.raises(StorageIOError) as raised:
            read_numbers(consumer)
        assert raised.value.retryable
        assert raised.value.errno == code
        door.bad = range(0)
        assert first
        assert consumer.lag(0) > 0
        read_numbers(consumer)
    found = client.accounting(STREAM, "readers")
    assert (found.delivered, found.corrupt, found.pending) == (ENTRIES, 0, 0)


def test_a_sector_that_stays_bad_does_not_stop_a_group_for_ever(door, client) -> None:
    """After enough tries over enough time, the frames that it touches are corrupt, and all others are read."""
    door.bad = range(40960, 45056)
    with Consumer(client, "readers", stream=STREAM) as consumer:
        read: list[int] = []
        errors = 0
        began = door.now
        while client.accounting(STREAM, "readers").pending:
            try:
                read_numbers(consumer, read)
            except StorageIOError:
                errors += 1
                door.now += 1
            assert errors < 1000
    assert errors >= UNREADABLE_TRIES - 1
    assert UNREADABLE_SECONDS - 1 <= door.now - began <= UNREADABLE_SECONDS + 5
    found = client.accounting(STREAM, "readers")
    touched = [n for n in range(ENTRIES) if 1024 + (n + 1) * FRAME_BYTES > 40960 and 1024 + n * FRAME_BYTES < 45056]
    assert found.corrupt == len(touched) == 5
    assert set(range(ENTRIES)) - set(read) == set(touched)
    assert (found.delivered, found.total) == (ENTRIES - found.corrupt, ENTRIES)
    assert len(read) == len(set(read)) == found.delivered


def test_a_lack_of_descriptors_never_becomes_damage(door, client) -> None:
    """However often and however long: it says nothing about the disk."""
    door.bad, door.code = range(40960, 45056), errno.ENOMEM
    with Consumer(client, "readers", stream=STREAM) as consumer:
        for _ in range(50):
            with pytest.raises(StorageIOError):
                read_numbers(consumer)
            door.now += 100
        door.bad = range(0)
        read_numbers(consumer)
    assert client.accounting(STREAM, "readers").delivered == ENTRIES


def test_a_group_whose_record_cannot_be_read_is_not_told_to_be_at_the_start(tmp_path, client, door) -> None:
    """A question about it is refused, and not answered wrongly."""
    with Consumer(client, "readers", stream=STREAM) as consumer:
        consumer.ack(consumer.read(count=1)[0].id)
        original = door.open

        def refuse(path: str, *, write: bool = False, create: bool = False, exclusive: bool = False) -> int:
            if path.endswith("group-readers"):
                raise OSError(errno.EMFILE, "Too many open files", path)
            return original(path, write=write, create=create, exclusive=exclusive)

        door.open = refuse
        with pytest.raises(StorageIOError):
            client.accounting(STREAM, "readers")
        with pytest.raises(StorageIOError):
            client.oldest_pending(STREAM, "readers")
