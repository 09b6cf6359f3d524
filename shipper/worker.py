"""One signal's way from the log to the collector: read, join, send, acknowledge.

Each signal has a worker of its own, so that a collector that refuses one signal does not hold up the others. A request
is acknowledged after the collector took it and not before; being killed at any instant therefore costs nothing but
sending the unacknowledged request again.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from comet_storage import AckError, CometError, Consumer
from shipper import batcher
from shipper.backoff import Backoff
from shipper.config import PAUSE_MAX, RETRY_FIRST
from shipper.delivery_log import DeliveryLog
from shipper.outcome import Delivered, Partial, Retry

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from comet_storage import Client
    from shipper.config import ShipperConfig
    from shipper.outcome import Failure
    from shipper.sending.protocol import Sender

POLL_SECONDS: Final = 0.25
"""How soon something new in the log is noticed."""

READ_ENTRIES_MAX: Final = 10_000
"""Entries read at once; what is read is also limited to the bytes of one request."""

_logger = logging.getLogger(__name__)


class SignalWorker(threading.Thread):
    """Delivers one stream until it is told to stop, or, with ``once``, until nothing is left."""

    def __init__(
        self, route: Route, client: Client, sender: Sender, config: ShipperConfig, stop: threading.Event
    ) -> None:
        """Prepare the worker of `route`; `start` begins its work and setting `stop` ends it."""
        super().__init__(name=f"shipper-{route.signal.value}", daemon=True)
        self.signal = route.signal.value
        self._route = route
        self._client = client
        self._sender = sender
        self._config = config
        self._stopping = stop
        self._consumer: Consumer | None = None
        self._retry = Backoff(RETRY_FIRST, config.retry_max)
        self._pause = Backoff(RETRY_FIRST, max(config.retry_max, min(PAUSE_MAX, 10 * config.retry_max)))
        self._storage_retry = Backoff(RETRY_FIRST, config.retry_max)
        self._storage_trouble: str | None = None
        self.drained = False
        self.log = DeliveryLog(_logger, self.signal, str(config.endpoint))

    def run(self) -> None:
        """Work until told to stop."""
        while not self._stopping.is_set():
            try:
                delivered_all = self._deliver_what_is_there()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not end this signal for good
                self._storage_failed(error)
                continue
            self._storage_trouble = None
            self._storage_retry.succeeded()
            if delivered_all:
                if self._config.once and self._nothing_pending():
                    self.drained = True
                    break
                self._stopping.wait(POLL_SECONDS)
        self._close_consumer()

    def _deliver_what_is_there(self) -> bool:
        """Read once and deliver what was read; return whether nothing was there."""
        if self._consumer is None:
            self._consumer = Consumer(self._client, self._config.group, stream=self._route.stream)
        messages = self._consumer.read(count=READ_ENTRIES_MAX, max_bytes=self._config.max_request_bytes)
        for request in batcher.requests(messages, self._config.max_request_bytes):
            if self._stopping.is_set() or not self._deliver(self._consumer, request):
                break  # what was not acknowledged is read again
        return not messages

    def _deliver(self, consumer: Consumer, request: batcher.Request) -> bool:
        """Send a request once; acknowledge it, or wait the pause that its failure asks for."""
        outcome = self._sender.send(self._route, request.body)
        if not isinstance(outcome, Delivered | Partial):
            if not self._stopping.is_set():
                self.log.failed(outcome)
                self._stopping.wait(self._pause_after(outcome))
            return False
        if isinstance(outcome, Partial):
            self.log.partial(outcome)
        self._retry.succeeded()
        self._pause.succeeded()
        try:
            consumer.ack(*request.ids)
        except AckError as error:
            # Retention evicted some of it meanwhile, or another shipper has the lease: the log has accounted for it.
            _logger.warning("%s: delivered but not acknowledged: %s", self.signal, error)
            self._close_consumer()
            return False
        self.log.delivered(len(request.ids), len(request.body))
        return True

    def _pause_after(self, outcome: Failure) -> float:
        if isinstance(outcome, Retry):
            return self._retry.pause(outcome.after)
        return self._pause.pause()

    def _nothing_pending(self) -> bool:
        consumer = self._consumer
        return consumer is None or all(consumer.lag(shard) == 0 for shard in consumer.shards())

    def _storage_failed(self, error: Exception) -> None:
        """Report trouble with the log once, and try again with a fresh consumer after a pause."""
        trouble = f"{type(error).__name__}: {error}"
        if trouble != self._storage_trouble:
            self._storage_trouble = trouble
            if isinstance(error, CometError | OSError):
                _logger.error("%s: cannot read the log, which is tried again: %s", self.signal, trouble)
            else:
                _logger.error("%s: an error in the shipper, which goes on: %s", self.signal, trouble, exc_info=error)
        self._close_consumer()
        self._stopping.wait(self._storage_retry.pause())

    def _close_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        try:
            consumer.close()
        except CometError as error:
            _logger.debug("%s: closing the consumer: %s", self.signal, error)
