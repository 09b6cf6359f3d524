"""The background thread that makes a log durable within ``sync_interval`` and keeps ahead of the append path."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable

from comet_storage._os.door import Door

_logger = logging.getLogger("comet_storage")
_LOG_INTERVAL = 60.0


class Flusher:
    """Calls ``work`` every ``interval`` seconds until stopped, and ``hurry`` soon after each :meth:`wake`.

    Errors are given to ``note`` and logged at most once a minute.
    """

    def __init__(
        self,
        door: Door,
        work: Callable[[], None],
        hurry: Callable[[], None],
        interval: float,
        note: Callable[[Exception], None],
    ) -> None:
        self._door = door
        self._work = work
        self._hurry = hurry
        self._interval = interval
        self._tell = note
        # Unlike an event's or a condition's, its ``put`` may be interrupted by a signal handler that puts as well.
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._logged_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="comet-flusher", daemon=True)

    def start(self) -> bool:
        """Start the thread. False where the interpreter does not start threads any more: it is exiting."""
        try:
            self._thread.start()
        except RuntimeError:
            return False
        return True

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Have ``hurry`` called soon. Safe in signal handlers."""
        self._calls.put(self._hurry)

    def stop(self, timeout: float | None = None) -> None:
        """End the thread and wait for it, at most ``timeout`` seconds.

        In a signal handler it may itself wait for what the interrupted code holds; then it ends later, by itself.
        """
        self._calls.put(None)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        due = self._door.monotonic() + self._interval
        work: Callable[[], None] | None
        while True:
            left = due - self._door.monotonic()
            # However many calls are waiting, the regular work comes first when it is due.
            work = self._work
            if left > 0:
                with contextlib.suppress(queue.Empty):
                    work = self._calls.get(timeout=left)
            if work is self._work:
                due = self._door.monotonic() + self._interval
            if work is None:
                return
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever one round meets
                self._note(error)

    def _note(self, error: Exception) -> None:
        self._tell(error)
        if self._door.monotonic() - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = self._door.monotonic()
            _logger.warning("the log could not be made durable: %s", error)
