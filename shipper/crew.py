"""The workers of one opened log, started as its streams appear and stopped together."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from comet_otel.streams import ROUTES
from shipper.config import SHUTDOWN_TIMEOUT
from shipper.worker import SignalWorker

if TYPE_CHECKING:
    from comet_storage import Client
    from shipper.config import ShipperConfig
    from shipper.sending.protocol import Sender

ABANDON_SECONDS: Final = 1.0
"""How long workers get to return after their requests in flight were abandoned."""

_logger = logging.getLogger(__name__)


class Crew:
    """One worker per stream that holds telemetry."""

    def __init__(self, client: Client, sender: Sender, config: ShipperConfig) -> None:
        """Prepare; nobody works yet."""
        self._client = client
        self._sender = sender
        self._config = config
        self._stop = threading.Event()
        self._workers: dict[str, SignalWorker] = {}

    def start_missing(self) -> None:
        """Start a worker for every stream that has come into being."""
        if len(self._workers) == len(ROUTES):
            return
        existing = self._client.streams()
        for route in ROUTES:
            if route.stream in existing and route.stream not in self._workers:
                worker = SignalWorker(route, self._client, self._sender, self._config, self._stop)
                self._workers[route.stream] = worker
                worker.start()

    def drained(self) -> bool:
        """Say whether all workers, told to end with the backlog, have done so."""
        return all(worker.drained for worker in self._workers.values())

    def stop(self) -> None:
        """Take nothing new, give requests in flight a few seconds, then abandon them; close the sender."""
        self._stop.set()
        self._join(SHUTDOWN_TIMEOUT)
        if any(worker.is_alive() for worker in self._workers.values()):
            _logger.warning("requests in flight did not end within %g s; they are sent again later", SHUTDOWN_TIMEOUT)
        self._sender.close()
        self._join(ABANDON_SECONDS)
        for worker in self._workers.values():
            counters = worker.log.counters
            if counters.requests:
                _logger.info(
                    "%s: delivered %d entries in %d requests, %d bytes",
                    worker.signal,
                    counters.entries,
                    counters.requests,
                    counters.bytes,
                )

    def _join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for worker in self._workers.values():
            worker.join(max(0.0, deadline - time.monotonic()))
