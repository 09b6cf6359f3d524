"""The daemon: puts log, destinations and operations together, and takes them apart in order.

Start: the port of health and metrics, wait for the log, open it, then the destinations. Stop, on SIGTERM or SIGINT:
the destinations (take nothing new, give requests in flight their time, abandon what is left of them), then the client,
because they acknowledge through it, and last what others look at. SIGHUP reads the settings again.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from comet_otel.version import version
from comet_storage import Client, CometError
from shipper import data_directory
from shipper.errors import ConfigurationError, EnvironmentFailedError
from shipper.fleet import Fleet
from shipper.logs import set_up_logging
from shipper.observation import Observation, Observer
from shipper.progress_bar import ProgressBars
from shipper.sending.protocol import create_sender, load_package
from shipper.status_socket import StatusSocket
from shipper.stop_signals import StopSignals
from shipper.systemd import ServiceManager

if TYPE_CHECKING:
    from shipper.configuration.resolving import LoadedConfig
    from shipper.data_directory import LogIdentity
    from shipper.http_endpoint import HttpEndpoint
    from shipper.metrics import Telemetry

TICK_SECONDS: Final = 1.0
"""How soon a log or a stream that comes into being is noticed, and how often the shipper looks at itself."""

ONCE_POLL_SECONDS: Final = 0.05
"""How soon a run that is to end with the backlog notices that it has ended."""

LOOK_ONCE_SECONDS: Final = 0.25
"""How often such a run looks at the log as a whole."""

STUCK_SECONDS: Final = 60.0
"""When the main loop has not come round for this long, the process is not healthy."""

_logger = logging.getLogger(__name__)


class _End(Enum):
    """Why the work on one opened log ended."""

    STOPPED = "a signal came"
    DRAINED = "everything was delivered"
    GONE = "the log was removed or replaced"


class Daemon:
    """Forwards one log to its destinations."""

    def __init__(self, loaded: LoadedConfig, reload: Callable[[], LoadedConfig]) -> None:
        """Prepare; `run` does the work.

        Args:
            loaded: the settings.
            reload: reads them again; may raise ConfigurationError.
        """
        self._loaded = loaded
        self._config = loaded.config
        self._reload_settings = reload
        self._manager = ServiceManager()
        self._observer = Observer()
        self._tick_at = time.monotonic()
        self._dead: list[str] = []
        self._trouble_with_log = ""
        self._observation = Observation(
            pid=os.getpid(),
            version=version(),
            started=time.time(),
            observed=time.time(),
            data_dir=str(self._config.data_dir),
            config_file=None if loaded.path is None else str(loaded.path),
        )
        self._telemetry = _telemetry(lambda: self._observation)
        self._endpoint: HttpEndpoint | None = None

    def run(self) -> bool:
        """Work until told to stop by a signal, or, with ``once``, until everything is delivered.

        Returns:
            Whether everything was delivered; without ``once``, always True.

        Raises:
            EnvironmentFailedError: the log cannot be opened, the port is taken, or a package is missing.
        """
        for destination in self._config.destinations:
            for signal in destination.signals:
                create_sender(signal).close()  # first, since it fails without its package, and needs no log
        with StopSignals() as signals:
            self._listen(self._config.listen)
            try:
                self._manager.ready()
                end = _End.GONE
                while end is _End.GONE:
                    end = self._forward_one_log(signals)
            finally:
                if self._endpoint is not None:
                    self._endpoint.close()
        _logger.info("stopped: %s", end.value)
        return end is _End.DRAINED or not self._config.once

    def _forward_one_log(self, signals: StopSignals) -> _End:
        identity = self._wait_for_log(signals)
        if identity is None:
            return _End.STOPPED
        try:
            client = Client(self._config.data_dir)
            # Also while nothing can be forwarded: the writers may be dead, and the log is to stay within its limits.
            client.start_maintenance()
        except CometError as error:
            raise EnvironmentFailedError(f"cannot open the log in {self._config.data_dir}: {error}") from error
        with client:
            fleet = Fleet(client, self._config, self._telemetry, self._note_tick)
            socket = StatusSocket(self._config.data_dir, self._as_json)
            if self._telemetry is not None:
                self._telemetry.client = client
            names = ", ".join(f"{each.name} ({_endpoints(each)})" for each in self._config.destinations)
            _logger.info("forwarding %s to %s", self._config.data_dir, names)
            end = _End.STOPPED  # also where an error ends it
            try:
                end = self._work(client, fleet, identity, signals)
                return end
            finally:
                if end is not _End.GONE:  # a manager that is told so kills what is not gone after a while
                    self._manager.stopping()
                if self._telemetry is not None:
                    self._telemetry.client = None
                fleet.stop()
                self._observe(fleet, client, log_open=False)
                socket.close()

    def _wait_for_log(self, signals: StopSignals) -> LogIdentity | None:
        """Return which log is there; None if a signal to stop came while there was none."""
        announced = False
        while (identity := data_directory.find_log(self._config.data_dir)) is None:
            if self._config.once:
                raise EnvironmentFailedError(
                    f"there is no log in {self._config.data_dir}; has the application written to it yet?"
                )
            if not announced:
                _logger.info("waiting for a log to appear in %s", self._config.data_dir)
                self._manager.status(f"waiting for a log to appear in {self._config.data_dir}")
                announced = True
            self._note_tick()
            if signals.wait(TICK_SECONDS):
                return None
            if signals.take_reload():
                self._reload(None)
        return identity

    def _work(self, client: Client, fleet: Fleet, identity: LogIdentity, signals: StopSignals) -> _End:
        look_at = float("-inf")
        with ProgressBars(shown=self._config.once) as progress:
            while True:
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + (LOOK_ONCE_SECONDS if self._config.once else 0.0)
                    self._note_tick()
                    self._tend(fleet)
                    self._observe(fleet, client)
                    progress.show(self._observation)
                if self._config.once and fleet.drained():
                    self._observe(fleet, client)
                    progress.show(self._observation)
                    return _End.DRAINED
                pause = ONCE_POLL_SECONDS if self._config.once else TICK_SECONDS
                if signals.wait(pause):
                    return _End.STOPPED
                if signals.take_reload():
                    self._reload(fleet)
                if data_directory.find_log(self._config.data_dir) != identity:
                    _logger.warning("the log in %s was removed or replaced", self._config.data_dir)
                    return _End.GONE

    def _tend(self, fleet: Fleet) -> None:
        try:
            fleet.tend()
        except CometError as error:
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self._trouble_with_log:
                _logger.error("cannot look into the log, which is tried again: %s", trouble)  # noqa: TRY400 - the message says all
            self._trouble_with_log = trouble
        else:
            self._trouble_with_log = ""

    def _observe(self, fleet: Fleet, client: Client, *, log_open: bool = True) -> None:
        """Look at the shipper as a whole; what others are shown changes at once and as a whole."""
        dead = fleet.dead()
        if dead and dead != self._dead:
            _logger.error("threads have ended that should not: %s; the process needs a restart", ", ".join(dead))
        self._dead = dead
        self._observation = dataclasses.replace(
            self._observation,
            observed=time.time(),
            log_open=log_open,
            pipelines=self._observer.observe(fleet.reports(), client) if log_open else (),
        )
        reasons = self._observation.reasons_not_ready()
        self._manager.status("; ".join(reasons) if reasons else "delivering")

    def _reload(self, fleet: Fleet | None) -> None:
        """Read the settings again. Wrong ones change nothing, and say so."""
        if self._loaded.path is None:
            _logger.info("nothing to read again: there is no configuration file")
            return
        self._manager.reloading()
        try:
            loaded = self._reload_settings()
            if loaded.config.data_dir != self._config.data_dir:
                raise ConfigurationError(  # noqa: TRY301 - it is one of the reasons why settings cannot be taken
                    f"data_dir is {loaded.config.data_dir}: it changes only by a restart, from {self._config.data_dir}"
                )
            self._take(loaded, fleet)
        except (ConfigurationError, EnvironmentFailedError) as error:
            self._observation = dataclasses.replace(self._observation, configuration_error=str(error))
            _logger.error("the new configuration is not used, the one before stays in effect: %s", error)  # noqa: TRY400 - the message says all
        else:
            self._observation = dataclasses.replace(self._observation, configuration_error="")
            _logger.info("read %s again", loaded.path)
        self._manager.ready()

    def _take(self, loaded: LoadedConfig, fleet: Fleet | None) -> None:
        former = self._config
        change = None if fleet is None else fleet.prepare(loaded.config)
        if loaded.config.listen != former.listen:
            self._listen(loaded.config.listen)
        # Nothing below can fail for the sake of the settings.
        self._config, self._loaded = loaded.config, loaded
        if fleet is not None and change is not None:
            fleet.apply(change)
        if loaded.config.log_format != former.log_format:
            set_up_logging(loaded.config.log_format)
        for notice in loaded.notices:
            _logger.warning("%s", notice)

    def _listen(self, address: tuple[str, int] | None) -> None:
        """Serve health and metrics there and nowhere else.

        Raises:
            EnvironmentFailedError: the port is taken, or a package is missing; what is served is served as before.
        """
        endpoint = None
        if address is not None:
            load_package("prometheus_client")
            from shipper.http_endpoint import HttpEndpoint  # noqa: PLC0415 - needs the package

            endpoint = HttpEndpoint(
                address, healthy=self._trouble, observe=lambda: self._observation, telemetry=self._telemetry
            )
        former, self._endpoint = self._endpoint, endpoint
        if former is not None:
            former.close()

    def _as_json(self) -> dict[str, Any]:
        return self._observation.as_json()

    def _trouble(self) -> str:
        """Return what is wrong with the process itself; nothing that a restart would not mend counts."""
        idle = time.monotonic() - self._tick_at
        if idle > STUCK_SECONDS:
            return f"the main loop has not come round for {idle:.0f} s"
        return f"threads have ended: {', '.join(self._dead)}" if self._dead else ""

    def _note_tick(self) -> None:
        self._tick_at = time.monotonic()
        if not self._dead:
            self._manager.alive()


def _telemetry(observe: Callable[[], Observation]) -> Telemetry | None:
    """Return what times requests and shows metrics; None without the package that it needs."""
    try:
        from shipper.metrics import Telemetry  # noqa: PLC0415 - only the port of metrics cannot do without
    except ImportError:
        return None
    return Telemetry(observe)


def _endpoints(destination: Any) -> str:
    return ", ".join(sorted({f"{each.endpoint} by {each.protocol}" for each in destination.signals}))
