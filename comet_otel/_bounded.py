"""Calls that may take as long as a disk likes, made with a limit to the waiting."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from comet_storage import CometError

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger(__name__)


class BoundedCalls:
    """Runs one call at a time in a helper thread and waits for it no longer than asked.

    A call that outlasts its limit goes on in its thread; until it returns, further calls wait for it and are not
    started on top of it, so that a stalled disk costs one thread and not one per call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: threading.Thread | None = None

    def call(self, function: Callable[[], object], timeout: float) -> bool:
        """Return whether `function` returned, without an error, within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        if not self._lock.acquire(timeout=max(0.0, timeout)):
            return False
        try:
            if self._running is not None:
                self._running.join(max(0.0, deadline - time.monotonic()))
                if self._running.is_alive():
                    return False
            return self._run(function, deadline)
        finally:
            self._lock.release()

    def _run(self, function: Callable[[], object], deadline: float) -> bool:
        succeeded = threading.Event()

        def run() -> None:
            try:
                function()
            except (CometError, OSError) as error:
                _logger.warning("the telemetry log could not be synced or closed: %s", error)
            else:
                succeeded.set()

        thread = threading.Thread(target=run, name="comet-otel-bounded-call", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # Python starts no threads any more once the interpreter has begun to exit
            run()
        else:
            self._running = thread
            thread.join(max(0.0, deadline - time.monotonic()))
        return succeeded.is_set()
