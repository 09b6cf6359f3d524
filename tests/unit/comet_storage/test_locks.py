"""Lock files: one holder, who is named, on the file that has the name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from comet_storage import LogBusyError
from comet_storage._os.door import Door
from comet_storage._os.locks import HOLDER_BYTES, LockFile
from tests.support.engine import ManualDoor


@pytest.fixture
def path(tmp_path) -> str:
    """Where the lock is."""
    return str(tmp_path / "owner.lock")


def test_only_one_has_the_lock_until_it_is_released_or_closed(path) -> None:
    """A second opener waits for the first one's release; closing is as good."""
    first, second = LockFile(Door(), path), LockFile(Door(), path)
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.try_acquire()
    second.close()
    assert first.try_acquire()
    first.close()
    first.close()


def test_waiting_ends_with_an_error_that_names_the_holder(path) -> None:
    """After the timeout, and not before, it is LogBusyError."""
    door = ManualDoor()
    first, second = LockFile(door, path), LockFile(door, path)
    first.acquire(1.0)
    first.write_holder(boot="b", generation=7)
    started = door.now
    with pytest.raises(LogBusyError, match=f"locked for 2 s by process {os.getpid()} on ") as caught:
        second.acquire(2.0)
    assert 2.0 <= door.now - started < 2.1
    assert caught.value.retryable
    assert second.holder_details()["generation"] == 7
    first.close()
    second.close()


@pytest.mark.parametrize(
    "text", [b"", b"\0" * HOLDER_BYTES, b"{", b"[" * HOLDER_BYTES, b"7", b"\xff\xfe", b'{"pid": 1}']
)
def test_a_damaged_holder_is_an_unknown_process(text, path) -> None:
    """Whatever stands in the file, asking for the holder gives a sentence."""
    Path(path).write_bytes(text)
    lock = LockFile(Door(), path)
    assert "process" in lock.holder()
    lock.close()


def test_a_lock_on_a_file_that_lost_its_name_is_not_taken(path) -> None:
    """Whoever finds its file deleted or replaced takes the one that has the name instead."""
    first, second = LockFile(Door(), path), LockFile(Door(), path)
    Path(path).rename(f"{path}.old")
    assert first.try_acquire()
    assert first.is_named()
    assert not second.is_named()
    assert not second.try_acquire()
    Path(path).unlink()
    assert not first.is_named()
    first.close()
    second.close()
