"""The daemon: puts client, sender and workers together, and takes them apart in order.

Start: make the sender, wait for the log, open it, start a worker for every stream as it appears. Stop, on SIGTERM or
SIGINT: tell the workers to take nothing new, give requests in flight a few seconds, abandon what is left of them, close
the client last, because workers acknowledge through it.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Final

from comet_storage import Client, CometError
from shipper import data_directory
from shipper.crew import Crew
from shipper.errors import EnvironmentFailedError
from shipper.sending.protocol import create_sender
from shipper.stop_signals import StopSignals

if TYPE_CHECKING:
    from shipper.config import ShipperConfig
    from shipper.data_directory import LogIdentity
    from shipper.sending.protocol import Sender

DISCOVERY_SECONDS: Final = 1.0
"""How soon a log or a stream that comes into being is noticed."""

ONCE_POLL_SECONDS: Final = 0.05
"""How soon a run that is to end with the backlog notices that it has ended."""

_logger = logging.getLogger(__name__)


class _End(Enum):
    """Why the work on one opened log ended."""

    STOPPED = "a signal came"
    DRAINED = "everything was delivered"
    GONE = "the log was removed or replaced"


class Daemon:
    """Forwards one log to one collector."""

    def __init__(self, config: ShipperConfig) -> None:
        """Prepare; `run` does the work."""
        self._config = config

    def run(self) -> bool:
        """Work until told to stop by a signal, or, with ``once``, until everything is delivered.

        Returns:
            Whether everything was delivered; without ``once``, always True.

        Raises:
            EnvironmentFailedError: the log cannot be opened, or a package is missing.
        """
        with StopSignals() as signals:
            end = _End.GONE
            while end is _End.GONE:
                sender = create_sender(self._config)  # first, since it can fail and needs no log
                end = self._forward_one_log(sender, signals)
        _logger.info("stopped: %s", end.value)
        return end is _End.DRAINED or not self._config.once

    def _forward_one_log(self, sender: Sender, signals: StopSignals) -> _End:
        identity = self._wait_for_log(signals)
        if identity is None:
            sender.close()
            return _End.STOPPED
        try:
            client = Client(self._config.data_dir)
            # Also while nothing can be forwarded: the writers may be dead, and the log is to stay within its limits.
            client.start_maintenance()
        except CometError as error:
            raise EnvironmentFailedError(f"cannot open the log in {self._config.data_dir}: {error}") from error
        with client:
            _logger.info("forwarding %s to %s", self._config.data_dir, self._config.endpoint)
            crew = Crew(client, sender, self._config)
            try:
                return self._work(crew, identity, signals)
            finally:
                crew.stop()

    def _wait_for_log(self, signals: StopSignals) -> LogIdentity | None:
        """Return which log is there; None if a signal came while there was none."""
        directory = self._config.data_dir
        announced = False
        while (identity := data_directory.find_log(directory)) is None:
            if self._config.once:
                raise EnvironmentFailedError(f"there is no log in {directory}; has the application written to it yet?")
            if not announced:
                _logger.info("waiting for a log to appear in %s", directory)
                announced = True
            if signals.wait(DISCOVERY_SECONDS):
                return None
        return identity

    def _work(self, crew: Crew, identity: LogIdentity, signals: StopSignals) -> _End:
        pause = ONCE_POLL_SECONDS if self._config.once else DISCOVERY_SECONDS
        while True:
            crew.start_missing()
            if self._config.once and crew.drained():
                return _End.DRAINED
            if signals.wait(pause):
                return _End.STOPPED
            if data_directory.find_log(self._config.data_dir) != identity:
                _logger.warning("the log in %s was removed or replaced", self._config.data_dir)
                return _End.GONE
