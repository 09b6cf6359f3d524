"""Telling the application's own exceptions from ours, where its signal handlers may raise at any instruction.

A timer's handler that raises ``TimeoutError``, or Celery's soft time limit, raises in whatever code the main thread is
executing: now and then in ours. Code that swallows every exception, as telemetry must, would swallow the application's
time limit with them.
"""

from __future__ import annotations

import functools
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType


class ApplicationInterruption(BaseException):
    """Carries an exception of the application's signal handler past everything that catches ``Exception``."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def raised_by_application(error: BaseException) -> BaseException | None:
    """Return what a signal handler of the application raised if `error` is that, or was made from that; else None."""
    if threading.current_thread() is not threading.main_thread():
        return None  # handlers run in the main thread alone
    handlers = frozenset(_handler_codes())
    for cause in _chain(error):
        if any(code in handlers for code in _codes_on_the_way(cause)):
            return cause
    return None


def let_through(error: BaseException) -> None:
    """Do nothing if `error` is the doing of the code that it arose in.

    Raises:
        BaseException: what a signal handler of the application raised.
    """
    cause = raised_by_application(error)
    if cause is not None:
        raise cause from None


def pass_on(error: BaseException) -> None:
    """Do nothing if `error` is the doing of the code that it arose in.

    Raises:
        ApplicationInterruption: a signal handler of the application raised it.
    """
    cause = raised_by_application(error)
    if cause is not None:
        raise ApplicationInterruption(cause) from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _codes_on_the_way(error: BaseException) -> Iterator[CodeType]:
    """Yield the code of every function that the error came through, down to where it arose."""
    entry = error.__traceback__
    while entry is not None:
        yield entry.tb_frame.f_code
        entry = entry.tb_next


def _handler_codes() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if not callable(handler):
            continue  # the operating system's, or none
        # A function, a method, or an object of a class that can be called.
        code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
        if code is not None:
            yield code
