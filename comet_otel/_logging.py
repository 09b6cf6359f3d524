"""How this package reports its own trouble: seldom, and never into the pipeline that has the trouble.

The application's root logger usually carries a handler that turns log lines into OpenTelemetry records. A line about a
failed export would become a record, whose export fails, which writes a line. Two things break that circle: the log
exporter leaves out records whose scope is one of `OWN_LOGGERS` (see `is_own_line`), and every cause of trouble writes
one line at once and then at most one per `QUIET_SECONDS`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

OWN_LOGGERS: Final = ("comet_otel", "comet_storage", "shipper")
"""Names of the top-level loggers of this distribution; OpenTelemetry's logging handlers use them as scope names."""

QUIET_SECONDS: Final = 60.0
"""Least time between two lines about the same trouble."""

_OWN_PREFIXES: Final = tuple(f"{name}." for name in OWN_LOGGERS)


def is_own_line(scope_name: str) -> bool:
    """Say whether a log record's instrumentation scope is one of this distribution's own loggers."""
    return scope_name in OWN_LOGGERS or scope_name.startswith(_OWN_PREFIXES)


class TroubleLog:
    """Reports one kind of trouble: its start, then a summary from time to time, then its end.

    Safe to call from several threads: the worst that a race can do is one line too many or too few.
    """

    def __init__(self, logger: logging.Logger, subject: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Report about `subject`, which every line begins with; `clock` gives seconds that never go back."""
        self._logger = logger
        self._subject = subject
        self._clock = clock
        self._reported = False
        self._failures = 0
        self._quiet_until = float("-inf")

    def failed(self, reason: str) -> None:
        """Record one failure; write a line unless one was written within `QUIET_SECONDS`."""
        self._failures += 1
        now = self._clock()
        if now < self._quiet_until:
            return
        self._quiet_until = now + QUIET_SECONDS
        self._reported = True
        failures, self._failures = self._failures, 0
        if failures > 1:
            self._logger.warning("%s: %s (%d failures since the last line)", self._subject, reason, failures)
        else:
            self._logger.warning("%s: %s", self._subject, reason)

    def recovered(self) -> None:
        """Record a success; write a line if it ends a trouble that was reported."""
        if self._reported:
            self._reported = False
            self._failures = 0
            self._logger.warning("%s: works again", self._subject)
