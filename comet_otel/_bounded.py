"""Calls that may take as long as a disk likes, made with a limit to the waiting."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from typing import TYPE_CHECKING, Final

from comet_otel._logging import warn

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS_MAX: Final = 24 * 3600.0
"""Longest wait; locks and events refuse much greater ones, and infinity."""

CALLS_WAITING_MAX: Final = 16
"""Calls that may wait behind one that does not end."""

_logger = logging.getLogger(__name__)


def seconds_of(millis: object, default: float) -> float:
    """Return a time limit in seconds, whatever was given as milliseconds; what is no number is `default`."""
    if not isinstance(millis, int | float) or millis != millis:  # noqa: PLR0124 - math.isnan refuses large integers
        return default
    return max(0.0, min(millis, WAIT_SECONDS_MAX * 1000) / 1000)


class _Call:
    """One call, made by the helper thread."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._done = threading.Event()
        self._succeeded = False

    def run(self) -> None:
        try:
            self._succeeded = _succeeds(self._function)
        finally:
            self._done.set()

    def wait(self, timeout: float) -> bool:
        """Return whether it succeeded within `timeout` seconds."""
        return self._done.wait(min(max(0.0, timeout), WAIT_SECONDS_MAX)) and self._succeeded


class BoundedCalls:
    """Has calls made by a helper thread, one after the other, and waits for each no longer than asked.

    A call that outlasts its limit goes on; further calls wait behind it, and beyond a few are refused, so that a
    stalled disk costs one thread and not one per call. Safe in signal handlers, also in one that interrupts a call.

    The thread is started ahead of its first use, because none can be at interpreter exit, where most of the calls come.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the helper thread unless it runs, or the interpreter has begun to exit."""
        # The main thread counts as ended from where Python waits for the others, which is before any exit handler.
        if self._thread is not None or not threading.main_thread().is_alive():
            return
        # It knows the queue alone, and keeps nothing else alive.
        thread = threading.Thread(target=_work, args=(self._calls,), name="comet-otel-bounded-calls", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no memory for one, a limit of the process, or its end
            return
        self._thread = thread

    def call(self, function: Callable[[], object], timeout: float) -> bool:
        """Return whether `function` returned, without an error, within `timeout` seconds.

        Where no helper thread could be started, it is called directly: late is better than never. Where the interpreter
        has stopped all threads already, it is not called.
        """
        if self._calls.qsize() >= CALLS_WAITING_MAX:
            return False
        return self._make(_Call(function), timeout)

    def finish(self, function: Callable[[], object], timeout: float) -> bool:
        """As `call`, never refused, for the last one: the helper thread ends after it."""
        call = _Call(function)
        succeeded = self._make(call, timeout)
        self._thread = None
        self._calls.put(None)
        return succeeded

    def _make(self, call: _Call, timeout: float) -> bool:
        if sys.is_finalizing():
            # In a finalizer after the exit handlers: no other thread runs any more, and the locks they held stay held.
            return False
        self.start()
        if self._thread is None:
            call.run()
        else:
            self._calls.put(call)
        return call.wait(timeout)


def _work(calls: queue.SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.run()
        del call  # or the thread would keep, until the next one, what the call was about


def _succeeds(function: Callable[[], object]) -> bool:
    try:
        function()
    except Exception as error:  # noqa: BLE001 - the helper thread must outlive whatever one call meets
        warn(_logger, "the telemetry log could not be synced, closed or looked at: %s", error)
        return False
    return True
