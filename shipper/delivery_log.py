"""Tells people how delivery goes: one line when it changes, and none for all the tries in between."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shipper.outcome import Pause, Reject, Retry

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from shipper.outcome import Failure, Partial

_CONSEQUENCES = {
    Retry: "the data is kept and sent again",
    Pause: "the destination or its configuration needs attention; the data is kept and sent again now and then",
    Reject: "the collector refuses this request; the data is kept and sent again now and then",
}


@dataclass
class DeliveryCounters:
    """Numbers since the start of the process.

    Attributes:
        requests: requests that were delivered, also in part.
        entries: entries of the log in them.
        bytes: bytes of them, before compression.
        failures: tries that were not successful.
        rejected_items: spans, log records or data points that the collector declined within delivered requests.
    """

    requests: int = 0
    entries: int = 0
    bytes: int = 0
    failures: int = 0
    rejected_items: int = 0


class DeliveryLog:
    """Counts the outcomes of one signal and writes a line whenever the state changes."""

    def __init__(
        self, logger: logging.Logger, signal: str, destination: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write to `logger` about `signal`; `clock` gives seconds that never go back."""
        self.counters = DeliveryCounters()
        self._logger = logger
        self._signal = signal
        self._destination = destination
        self._clock = clock
        self._state: object = None
        self._failing_since = 0.0
        self._partial_message: str | None = None

    def delivered(self, entries: int, size: int) -> None:
        """Record a delivered request of that many entries and bytes."""
        self.counters.requests += 1
        self.counters.entries += entries
        self.counters.bytes += size
        if self._state == "delivering":
            return
        if self._state is None:
            self._logger.info("%s: delivering to %s", self._signal, self._destination)
        else:
            outage = self._clock() - self._failing_since
            self._logger.info("%s: delivering again, after %.1f s", self._signal, outage)
        self._state = "delivering"

    def partial(self, outcome: Partial) -> None:
        """Record what the collector declined within a request that it took."""
        self.counters.rejected_items += outcome.rejected_items
        if outcome.message != self._partial_message:
            self._partial_message = outcome.message
            self._logger.warning(
                "%s: the collector declined %d items of a request: %s",
                self._signal,
                outcome.rejected_items,
                outcome.message or "(it gave no reason)",
            )

    def failed(self, outcome: Failure) -> None:
        """Record a try that failed."""
        self.counters.failures += 1
        state = (type(outcome), outcome.code)
        if state == self._state:
            return
        if not isinstance(self._state, tuple):
            self._failing_since = self._clock()
        self._state = state
        self._logger.warning(
            "%s: cannot deliver to %s: %s (%s); %s",
            self._signal,
            self._destination,
            outcome.code,
            outcome.message or "no details",
            _CONSEQUENCES[type(outcome)],
        )
