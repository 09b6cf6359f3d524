"""How this package reports its own trouble: seldom, and never into the pipeline that has the trouble.

The application's root logger usually carries a handler that turns log lines into OpenTelemetry records. A line about a
failed export would become a record, whose export fails, which writes a line. Two things break that circle: the log
exporter leaves out records whose scope is one of `OWN_LOGGERS` (see `is_own_line`), and every cause of trouble writes
one line at once and then at most one per `QUIET_SECONDS`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from comet_otel._interruptions import let_through

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

OWN_LOGGERS: Final = ("comet_otel", "comet_storage", "shipper")
"""Names of the top-level loggers of this distribution; OpenTelemetry's logging handlers use them as scope names."""

QUIET_SECONDS: Final = 60.0
"""Least time between two lines about the same trouble."""

_OWN_PREFIXES: Final = tuple(f"{name}." for name in OWN_LOGGERS)


def is_own_line(scope_name: object) -> bool:
    """Say whether a log record's instrumentation scope, of any name, is one of this distribution's own loggers."""
    return isinstance(scope_name, str) and _is_own_logger(scope_name)


def _is_own_logger(scope_name: str) -> bool:
    return scope_name in OWN_LOGGERS or scope_name.startswith(_OWN_PREFIXES)


def warn(logger: logging.Logger, message: str, *arguments: object) -> None:
    """Write a line; a filter or handler of the application's that raises costs the line and nothing else.

    Raises:
        Exception: what a signal handler of the application raised meanwhile.
    """
    try:
        logger.warning(message, *arguments)
    except Exception as error:  # noqa: BLE001 - see above
        let_through(error)


def described(error: object) -> str:
    """Return the class of an error and what it says, if it can say it.

    Raises:
        Exception: what a signal handler of the application raised meanwhile.
    """
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as failure:  # noqa: BLE001 - a foreign error may raise anything when looked at
        let_through(failure)
        return type(error).__name__


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
            warn(self._logger, "%s: %s (%d failures since the last line)", self._subject, reason, failures)
        else:
            warn(self._logger, "%s: %s", self._subject, reason)

    def recovered(self) -> None:
        """Record a success; write a line if it ends a trouble that was reported."""
        if self._reported:
            self._reported = False
            self._failures = 0
            warn(self._logger, "%s: works again", self._subject)
