"""The background thread that makes a log durable within ``sync_interval`` and keeps ahead of the append path."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_logger = logging.getLogger("comet_storage")
_LOG_INTERVAL = 60.0


class Flusher:
    """Calls ``work`` every ``interval`` seconds until stopped. Errors are kept and logged at most once a minute."""

    def __init__(self, work: Callable[[], None], interval: float) -> None:
        self._work = work
        self._interval = interval
        self._stopped = threading.Event()
        self._logged_at = float("-inf")
        self.last_error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="comet-flusher", daemon=True)

    def start(self) -> bool:
        """Start the thread. False where the interpreter does not start threads any more: it is exiting."""
        try:
            self._thread.start()
        except RuntimeError:
            return False
        return True

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever one round meets
                self._note(error)

    def _note(self, error: Exception) -> None:
        self.last_error = error
        if time.monotonic() - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = time.monotonic()
            _logger.warning("the log could not be made durable: %s", error)
