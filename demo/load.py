"""HTTP load on the demo's service: a few threads, at a bounded rate."""

from __future__ import annotations

import http.client
import itertools
import threading

THREADS = 4
PAUSE_SECONDS = 0.01
"""Between two requests of a thread; keeps the whole demo within what a small shared machine can spare."""


class Load:
    """Requests from several threads until stopped; a service that is down is asked again."""

    def __init__(self, host: str, port: int) -> None:
        """Prepare load on a service."""
        self.answered = 0
        self.unanswered = 0
        self._address = (host, port)
        self._stop = threading.Event()
        self._order_ids = itertools.count(1)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(THREADS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, after the requests under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _work(self) -> None:
        while not self._stop.wait(PAUSE_SECONDS):
            answered = self._order(next(self._order_ids))
            with self._lock:
                self.answered += answered
                self.unanswered += not answered
            if not answered:
                self._stop.wait(0.1)

    def _order(self, order_id: int) -> bool:
        """Place one order; return whether the service answered."""
        # A connection each: kept ones would spend their time in delayed acknowledgements.
        connection = http.client.HTTPConnection(*self._address, timeout=5)
        try:
            connection.request("POST", f"/orders/{order_id}", headers={"Connection": "close"})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True
