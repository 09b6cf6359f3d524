"""Calls with a limit to the waiting."""

from __future__ import annotations

import threading
import time

import pytest

from comet_otel._bounded import BoundedCalls
from comet_storage import CometError


def test_result_says_whether_the_call_succeeded() -> None:
    """An error of the log is an answer, not an exception."""

    def fail() -> None:
        raise CometError("no")

    calls = BoundedCalls()
    assert calls.call(lambda: None, 5.0) is True
    assert calls.call(fail, 5.0) is False
    assert calls.call(lambda: None, 5.0) is True


@pytest.mark.slow
def test_a_stalled_call_is_given_up_on_and_costs_one_thread() -> None:
    """Waiting ends at its limit, and further calls do not pile up threads behind a stalled disk."""
    calls, release, started = BoundedCalls(), threading.Event(), []

    def stall() -> None:
        started.append(threading.get_ident())
        release.wait(10)

    begin = time.monotonic()
    assert calls.call(stall, 0.05) is False
    assert calls.call(stall, 0.05) is False
    assert time.monotonic() - begin < 2
    assert len(started) == 1
    release.set()
    assert calls.call(lambda: None, 5.0) is True


def test_without_threads_the_call_is_made_directly(monkeypatch) -> None:
    """At interpreter exit Python starts no threads any more; the data must be synced all the same."""

    def refuse(self) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    made = []
    assert BoundedCalls().call(lambda: made.append(1), 5.0) is True
    assert made == [1]
