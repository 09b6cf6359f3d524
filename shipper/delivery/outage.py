"""When to try again: the pauses of a destination that does not take what it is sent."""

from __future__ import annotations

from typing import Final

from shipper.delivery.backoff import Backoff
from shipper.outcome import Failure, Retry
from shipper.settings import RetryConfig

LOG_PAUSE_LONGEST: Final = 30.0


class Outage:
    """Whether delivery is held up, and until when.

    Attributes:
        under_way: the last request that came back was not taken, so that a single one goes out as a probe.
        refused: it is held up because one request after the other was rejected.
        next_try: when the next probe goes, by the monotonic clock.
        number: which outage it is, or was.
    """

    def __init__(self, config: RetryConfig) -> None:
        """Begin without one."""
        self.under_way = False
        self.refused = False
        self.next_try = float("-inf")
        self.number = 0
        self._retry = Backoff(config.first, config.longest)
        self._pause = Backoff(config.first, config.pause_longest)
        self._line = Backoff(config.first, config.longest)
        self._log = Backoff(config.first, LOG_PAUSE_LONGEST)

    def failed(self, outcome: Failure, now: float, *, refused: bool) -> tuple[Failure, float]:
        """Begin, or go on; return why, and the seconds until the next probe."""
        pause = self._retry.pause(outcome.after) if isinstance(outcome, Retry) else self._pause.pause()
        # Several that were under way come back at once: the longest wish counts.
        self.next_try = max(self.next_try, now + pause) if self.under_way else now + pause
        self.number += not self.under_way
        self.under_way = True
        self.refused = refused
        return outcome, self.next_try - now

    def line_pause(self, failures: int) -> float:
        """Return the seconds that a line waits that failed in so many outages in a row, while others go on."""
        self._line.succeeded()
        pause = 0.0
        for _ in range(min(failures, _GROWN)):
            pause = self._line.pause()
        return pause

    def log_pause(self) -> float:
        """Return the seconds to wait after trouble with the log."""
        return self._log.pause()

    def succeeded(self) -> None:
        """A request was taken: pauses begin small again."""
        self._retry.succeeded()
        self._pause.succeeded()
        self._log.succeeded()

    def over(self) -> None:
        """End it."""
        self.under_way = self.refused = False


_GROWN: Final = 16
"""After so many failures pauses have grown as far as they can."""
