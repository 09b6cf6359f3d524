"""Stopping by signal."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from shipper.stop_signals import StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_at_once(number) -> None:
    """Nobody who stops the shipper waits for the end of a pause."""
    with StopSignals() as signals:
        assert signals.wait(0.01) is False
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        begin = time.monotonic()
        assert signals.wait(30) is True
        assert time.monotonic() - begin < 10
        assert signals.wait(30) is True


def test_the_previous_handlers_come_back() -> None:
    """Leaving it leaves no trace."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
