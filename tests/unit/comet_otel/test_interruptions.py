"""Signal handlers of the application that raise, or make spans, in the middle of storing one."""

from __future__ import annotations

import functools
import itertools
import random
import signal
import threading
import time
from collections import UserDict
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.sdk.trace import TracerProvider

from comet_otel import CometSpanProcessor, encoding
from comet_otel._interruptions import ApplicationInterruption, pass_on
from comet_otel.shared_client import SharedClient
from comet_storage import StorageIOError
from tests.unit.comet_otel import stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Any], None]]:
    """Return what installs a handler of SIGALRM; the one before is put back."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler: signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def pipeline(tmp_path) -> Iterator[tuple[CometSpanProcessor, Any]]:
    """Return a processor and a tracer that feeds it."""
    processor = CometSpanProcessor(data_dir=tmp_path)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    yield processor, provider.get_tracer("tests")
    provider.shutdown()


class LimitError(TimeoutError):
    """What a timer of the application raises: an OSError, as TimeoutError is."""


def time_is_up(*_: object) -> None:
    """Raise, as a handler."""
    raise LimitError


class Limit:
    """The same as a method and as an object."""

    def time_is_up(self, *_: object) -> None:
        """Raise, as a handler."""
        raise LimitError

    __call__ = time_is_up


def during_append(monkeypatch, *, translated: bool) -> None:
    """Have the signal arrive while the log stores."""

    def append(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGALRM)
        except OSError as error:
            if translated:
                raise StorageIOError("the engine translates errors of the operating system") from error
            raise

    monkeypatch.setattr(SharedClient, "append", append)


def interrupted(*_: object) -> None:
    """Stand in for a step of encoding at which the signal arrives."""
    signal.raise_signal(signal.SIGALRM)


@pytest.mark.parametrize("handler", [time_is_up, Limit().time_is_up, Limit(), functools.partial(time_is_up, 1)])
@pytest.mark.parametrize("instant", ["append", "translated", "span", "attribute"])
def test_what_a_signal_handler_raises_is_the_application_s(pipeline, on_alarm, monkeypatch, handler, instant) -> None:
    """A time limit that happens to expire in our code must not be swallowed with our own errors."""
    processor, tracer = pipeline
    on_alarm(handler)
    span = tracer.start_span("interrupted")
    if instant == "span":
        monkeypatch.setattr(encoding.SPANS, "_message", interrupted)
    elif instant == "attribute":
        span._attributes._dict = {"key": type("Value", (UserDict,), {"items": interrupted})()}
    else:
        during_append(monkeypatch, translated=instant == "translated")
    with pytest.raises(LimitError):
        span.end()
    monkeypatch.undo()
    assert processor.counters.refused_items == 1
    assert processor._nesting.depth == 0


def test_own_errors_are_not_taken_for_interruptions(on_alarm) -> None:
    """Without a handler in their way, in another thread, or with handlers that are no functions."""
    on_alarm(signal.SIG_IGN)
    try:
        int("bug")
    except ValueError as error:
        pass_on(error)
    on_alarm(time_is_up)
    try:
        int("bug")
    except ValueError as error:
        pass_on(error)
    try:
        time_is_up()
    except LimitError as error:
        with pytest.raises(ApplicationInterruption):
            pass_on(error)
        thread = threading.Thread(target=pass_on, args=(error,))
        thread.start()
        thread.join()


def interrupted_loop(turn: Callable[[int], None], times: int) -> None:
    """Call `turn` with a signal on its way, until `times` signals came; they come at random instants of it."""
    chance = random.Random(times)
    deadline = time.monotonic() + 120
    arrived = signal.getsignal(signal.SIGALRM).arrived
    for number in itertools.count(1):
        if len(arrived) >= times:
            return
        assert time.monotonic() < deadline
        signal.setitimer(signal.ITIMER_REAL, 10 ** chance.uniform(-5.5, -3))
        turn(number)


class Handler:
    """Acts when a signal comes."""

    def __init__(self, action: Callable[[int], None]) -> None:
        self.arrived: list[int] = []
        self._action = action

    def __call__(self, *_: object) -> None:
        """Act."""
        number = len(self.arrived)
        self.arrived.append(number)
        self._action(number)


@pytest.mark.slow
def test_spans_that_a_signal_handler_ends_are_stored(pipeline, on_alarm, tmp_path) -> None:
    """At any instant of storing another one."""
    _, tracer = pipeline
    ended: list[str] = []

    def end_span(name: str) -> None:
        tracer.start_span(name).end()
        ended.append(name)

    on_alarm(Handler(lambda number: end_span(f"handler {number}")))
    interrupted_loop(lambda number: end_span(f"main {number}"), 300)
    assert len(ended) > 300
    assert stored.span_names(tmp_path) == sorted(ended)


class SoftLimitError(Exception):
    """What a task's time limit raises."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_exceptions_at_any_instant_are_passed_on_and_cost_no_other_span(pipeline, on_alarm, tmp_path) -> None:
    """Every one arrives, every span whose end returned is stored, and nothing is left locked or suppressed."""
    processor, tracer = pipeline
    caught: list[int] = []
    ended: list[str] = []
    armed = False

    def interrupt(number: int) -> None:
        if armed:
            raise SoftLimitError(number)
        caught.append(number)

    def turn(number: int) -> None:
        nonlocal armed
        span = tracer.start_span(f"span {number}")
        try:
            armed = True
            span.end()
            armed = False
            ended.append(f"span {number}")
        except SoftLimitError as error:
            armed = False
            caught.append(error.args[0])

    on_alarm(Handler(interrupt))
    turn(0)
    interrupted_loop(turn, 500)
    # What a handler raises while Python runs a finalizer can go nowhere.
    assert len(caught) > 490
    assert ended
    assert set(ended) <= set(stored.span_names(tmp_path))
    assert processor._nesting.depth == 0
    assert context.get_value(_SUPPRESS_INSTRUMENTATION_KEY) is None
