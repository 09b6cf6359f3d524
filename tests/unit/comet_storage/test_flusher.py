"""The background thread works on time, when it is called, and whatever a round meets."""

from __future__ import annotations

import logging
import shutil
import threading

import pytest

from comet_storage import Client, LogMovedError
from comet_storage._log.flusher import Flusher
from comet_storage._os.door import Door
from tests.support.engine import ManualDoor

PATIENCE = 10.0


def test_it_works_at_its_interval_until_it_is_stopped() -> None:
    """Rounds follow each other; after the stop there are none."""
    rounds = threading.Semaphore(0)
    flusher = Flusher(Door(), rounds.release, lambda: None, 0.001, print)
    assert flusher.start()
    for _ in range(5):
        assert rounds.acquire(timeout=PATIENCE)
    flusher.stop()
    while rounds.acquire(blocking=False):
        pass
    assert not rounds.acquire(timeout=0.02)
    flusher.stop()


def test_a_wake_is_answered_before_the_interval_is_over() -> None:
    """What is urgent does not wait for the next round."""
    hurried = threading.Event()
    flusher = Flusher(Door(), lambda: None, hurried.set, 3600.0, print)
    flusher.start()
    flusher.wake()
    assert hurried.wait(PATIENCE)
    flusher.stop()


def test_each_error_is_noted_and_one_a_minute_logged_and_the_thread_goes_on(caplog) -> None:
    """A disk that fails for hours fills no log of messages."""
    door = ManualDoor()
    rounds = threading.Semaphore(0)
    noted: list[Exception] = []

    def fail() -> None:
        rounds.release()
        raise OSError("broken disk")

    flusher = Flusher(door, lambda: None, fail, 3600.0, noted.append)
    flusher._logged_at = door.now - 61
    with caplog.at_level(logging.WARNING, "comet_storage"):
        flusher.start()
        for _ in range(5):
            flusher.wake()
            assert rounds.acquire(timeout=PATIENCE)
        flusher.stop()
    assert [str(error) for error in noted] == ["broken disk"] * 5
    assert caplog.text.count("broken disk") == 1


def test_a_segment_that_cannot_grow_is_synced_all_the_same(tmp_path, monkeypatch) -> None:
    """A round goes on to the syncs, which notice what is wrong with the directory; appends are not taken in vain."""
    with Client(tmp_path / "log") as client:
        client.append("events:v1:shard:0000", [b"entry"])
        (writer,) = client._writers.values()

        def fail() -> None:
            raise NotADirectoryError("the directory is gone, and a file has its name")

        monkeypatch.setattr(type(writer), "grow_ahead", lambda _: fail())
        client._flush()
        assert not writer.is_unflushed()
        shutil.rmtree(tmp_path / "log")
        (tmp_path / "log").touch()
        with pytest.raises(LogMovedError):
            client._flush()
