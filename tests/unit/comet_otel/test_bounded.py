"""Calls with a limit to the waiting."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time

import pytest

from comet_otel._bounded import CALLS_WAITING_MAX, WAIT_SECONDS_MAX, BoundedCalls, seconds_of
from comet_storage import CometError


def test_result_says_whether_the_call_succeeded() -> None:
    """An error of the log is an answer, not an exception."""

    def fail() -> None:
        raise CometError("no")

    def break_down() -> None:
        raise RuntimeError("a bug")

    calls = BoundedCalls()
    assert calls.call(lambda: None, 20.0) is True
    assert calls.call(fail, 20.0) is False
    assert calls.call(break_down, 20.0) is False
    assert calls.call(lambda: None, 20.0) is True


@pytest.mark.slow
def test_a_stalled_call_is_given_up_on_and_costs_one_thread() -> None:
    """Waiting ends at its limit, and further calls do not pile up threads behind a stalled disk."""
    calls, release, stalled, started = BoundedCalls(), threading.Event(), threading.Event(), []

    def stall() -> None:
        started.append(threading.get_ident())
        stalled.set()
        release.wait(120)

    begin = time.monotonic()
    assert calls.call(stall, 0.05) is False
    assert calls.call(stall, 0.05) is False
    assert time.monotonic() - begin < 60
    assert stalled.wait(60)
    assert len(started) == 1
    release.set()
    release.set()
    assert calls.call(lambda: None, 5.0) is True


def test_few_calls_wait_behind_a_stalled_one() -> None:
    """Whoever flushes for ever on a stalled disk gathers no memory; the last call is never refused."""
    calls, release, made = BoundedCalls(), threading.Event(), []
    assert calls.call(lambda: release.wait(20), 0.0) is False
    results = [calls.call(lambda: made.append(1), 0.0) for _ in range(10 * CALLS_WAITING_MAX)]
    assert not any(results)
    thread = calls._thread
    assert calls.finish(lambda: made.append(2), 0.0) is False
    release.set()
    thread.join(20)
    assert not thread.is_alive()
    assert made[-1] == 2
    assert len(made) <= CALLS_WAITING_MAX + 2


def test_a_call_that_interrupts_a_call_of_its_own_thread_waits_for_itself_no_longer_than_asked() -> None:
    """A signal handler that shuts down while the main thread flushes neither deadlocks nor is left out."""
    calls, release, made = BoundedCalls(), threading.Event(), []

    def interrupted() -> None:
        release.wait(20)

    assert calls.call(interrupted, 0.0) is False
    handler = threading.Timer(0.05, release.set)
    handler.start()
    assert calls.finish(lambda: made.append(1), 20.0) is True
    assert made == [1]


@pytest.mark.parametrize(
    ("millis", "seconds"),
    [
        (1500, 1.5),
        (0, 0.0),
        (-5, 0.0),
        (0.5, 0.0005),
        (1e300, WAIT_SECONDS_MAX),
        (float("inf"), WAIT_SECONDS_MAX),
        pytest.param(10**400, WAIT_SECONDS_MAX, id="huge"),
        (float("nan"), 7.0),
        (None, 7.0),
        ("30000", 7.0),
        (object(), 7.0),
    ],
)
def test_whatever_is_given_as_a_limit_is_a_limit(millis, seconds) -> None:
    """Locks refuse negative, endless and other odd limits; shutting down must not fail because of one."""
    assert seconds_of(millis, 7.0) == seconds
    assert isinstance(BoundedCalls().call(lambda: None, seconds_of(millis, 7.0)), bool)


def test_no_thread_is_started_once_the_interpreter_exits(monkeypatch) -> None:
    """The main thread has ended, as Python sees it, before the first exit handler runs."""
    started = []
    monkeypatch.setattr(threading.Thread, "start", started.append)
    monkeypatch.setattr(threading, "main_thread", threading.Thread)  # one that is not alive
    made = []
    assert BoundedCalls().call(lambda: made.append(1), 5.0) is True
    assert (made, started) == ([1], [])


def test_without_threads_the_call_is_made_directly(monkeypatch) -> None:
    """At interpreter exit Python starts no threads any more; the data must be synced all the same."""

    def refuse(self) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    made = []
    assert BoundedCalls().call(lambda: made.append(1), 5.0) is True
    assert made == [1]


_FINALIZED = """
import sys
from comet_otel._bounded import BoundedCalls

class Last:
    def __init__(self):
        self.calls = BoundedCalls()
        assert self.calls.call(lambda: None, 60.0) is True
        self.say = sys.__stdout__.write

    def __del__(self):
        self.say(f"{self.calls.call(lambda: None, 600.0)} {self.calls.finish(lambda: None, 600.0)}")

last = Last()
"""


def test_a_finalizer_after_the_exit_handlers_does_not_wait_for_a_thread_that_is_stopped() -> None:
    """The interpreter stops all other threads before it takes modules apart; exits would take the whole limit."""
    ended = subprocess.run([sys.executable, "-c", _FINALIZED], capture_output=True, text=True, timeout=120, check=True)
    assert (ended.stdout, ended.stderr) == ("False False", "")


def test_a_logging_handler_that_raises_does_not_end_the_helper_thread(monkeypatch) -> None:
    """It would take all later calls with it, the closing of the log among them."""

    def fail() -> None:
        raise CometError("no")

    def emit(self: logging.Handler, record: logging.LogRecord) -> None:
        raise ValueError("a handler of the application's")

    monkeypatch.setattr(logging.Handler, "emit", emit)
    monkeypatch.setattr(logging.getLogger("comet_otel"), "handlers", [logging.Handler()])
    calls = BoundedCalls()
    assert calls.call(fail, 60.0) is False
    assert calls.call(lambda: None, 60.0) is True
