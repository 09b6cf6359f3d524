"""All destinations of one opened log at work: started as streams appear, exchanged on a reload, stopped together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from comet_otel.streams import Route, route_of_signal
from comet_storage import Client
from shipper.delivery.budget import Budget
from shipper.delivery.clock import SystemClock
from shipper.delivery.dead_letters import DeadLetters
from shipper.delivery.pace import Pace
from shipper.delivery.pipeline import Pipeline
from shipper.lag_limit import LagLimit
from shipper.observation import PipelineReport
from shipper.sending.credentials import credentials_stamp
from shipper.sending.protocol import Sender, create_sender
from shipper.settings import DestinationConfig, ShipperConfig, SignalConfig

if TYPE_CHECKING:
    from shipper.metrics import Telemetry

ABANDON_SECONDS: Final = 1.0
"""How long pipelines get to return after their requests in flight were abandoned."""

_logger = logging.getLogger(__name__)

SenderFactory: TypeAlias = Callable[[DestinationConfig, SignalConfig], Sender]


@dataclass(frozen=True)
class Change:
    """Other settings, ready to be gone over to.

    Attributes:
        config: the settings.
        dead_letters: where destinations put what is refused.
        runs: the destinations, of which some are at work already.
    """

    config: ShipperConfig
    dead_letters: DeadLetters
    runs: list[DestinationRun]


class Fleet:
    """The destinations of one shipper."""

    def __init__(
        self,
        client: Client,
        config: ShipperConfig,
        telemetry: Telemetry | None = None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing is sent before `tend`.

        Args:
            client: the log.
            config: what is sent where.
            telemetry: times requests, if it is given.
            alive: called every second while destinations are waited for.
        """
        self._client = client
        self._alive = alive
        self._config = config
        self._telemetry = telemetry
        self._looked = False
        self._budget = Budget()
        self._dead_letters = DeadLetters(client, config.dead_letter_share)
        self._runs = [self._run(destination, config, self._dead_letters) for destination in config.destinations]

    def tend(self) -> None:
        """Start what is missing; apply the lag limits."""
        existing = set(self._client.streams())
        self._looked = True
        for run in self._runs:
            run.start_missing(existing)
            run.apply_lag_limit(existing)

    def prepare(self, config: ShipperConfig) -> Change:
        """Make ready to go over to other settings; what goes on is not touched yet.

        Raises:
            EnvironmentFailedError: a package is missing that the new settings need.
        """
        shared_changed = _shared(config) != _shared(self._config)
        dead_letters = DeadLetters(self._client, config.dead_letter_share) if shared_changed else self._dead_letters
        staying = {} if shared_changed else {run.config: run for run in self._runs}
        runs = [staying.get(each) or self._run(each, config, dead_letters) for each in config.destinations]
        return Change(config, dead_letters, runs)

    def apply(self, change: Change) -> None:
        """Go over to other settings: destinations that did not change go on undisturbed.

        1. Those that changed, or are gone, stop reading, finish what is in flight, and acknowledge it.
        2. New ones begin where the acknowledgements end. So nothing is lost, and nothing is sent twice but what could
           not be finished in time.
        """
        _stop([run for run in self._runs if run not in change.runs], change.config.shutdown_timeout, self._alive)
        self._config, self._dead_letters, self._runs = change.config, change.dead_letters, change.runs
        self.tend()

    def reports(self) -> list[PipelineReport]:
        """Return what each pipeline says of itself."""
        return [report for run in self._runs for report in run.reports()]

    def dead(self) -> list[str]:
        """Return the names of pipelines that ended although nobody told them to."""
        return [name for run in self._runs for name in run.dead()]

    def drained(self) -> bool:
        """Say whether all pipelines, told to end with the backlog, have done so."""
        return self._looked and all(run.drained() for run in self._runs)

    def stop(self) -> None:
        """Take nothing new, give requests in flight their time, then abandon them; close the senders."""
        _stop(self._runs, self._config.shutdown_timeout, self._alive)

    def _run(self, destination: DestinationConfig, config: ShipperConfig, dead_letters: DeadLetters) -> DestinationRun:
        return DestinationRun(self._client, destination, config, dead_letters, self._sender, self._budget)

    def _sender(self, destination: DestinationConfig, signal: SignalConfig) -> Sender:
        sender = create_sender(signal)
        if self._telemetry is None:
            return sender
        return self._telemetry.measured(sender, signal, destination.name)


class DestinationRun:
    """One destination at work: a sender per signal, a pipeline per stream, one pace for all of them."""

    def __init__(
        self,
        client: Client,
        config: DestinationConfig,
        shipper: ShipperConfig,
        dead_letters: DeadLetters,
        sender_of: SenderFactory,
        budget: Budget,
    ) -> None:
        """Make the senders, which can fail for want of a package; connections are made by the first requests."""
        self.config = config
        self._client = client
        self._shipper = shipper
        self._dead_letters = dead_letters
        self._budget = budget
        self._stop = threading.Event()
        self._pace = Pace(config.pacing, SystemClock())
        self._signals = {each.signal: each for each in config.signals}
        self._senders = {each.signal: sender_of(config, each) for each in config.signals}
        self._routes = routes(config)
        self._pipelines: dict[str, Pipeline] = {}
        self._lag_limit = LagLimit(client, config)

    def start_missing(self, existing: Iterable[str]) -> None:
        """Start a pipeline for every stream that has come into being."""
        for route in self._routes:
            if route.stream in existing and route.stream not in self._pipelines:
                pipeline = Pipeline(
                    self._client,
                    self.config,
                    route,
                    self._senders[route.signal],
                    self._pace,
                    self._dead_letters,
                    self._stop,
                    once=self._shipper.once,
                    assignment=self._shipper.assignment,
                    budget=self._budget,
                    watch=partial(credentials_stamp, self._signals[route.signal]),
                )
                self._pipelines[route.stream] = pipeline
                pipeline.start()

    def apply_lag_limit(self, existing: Iterable[str]) -> None:
        """Decide for each stream whether retention is to wait for this destination."""
        self._lag_limit.apply(route.stream for route in self._routes if route.stream in existing)

    def reports(self) -> list[PipelineReport]:
        """Return what each pipeline says of itself."""
        found = []
        for route in self._routes:
            pipeline = self._pipelines.get(route.stream)
            if pipeline is not None:
                signal = self._signals[route.signal]
                found.append(
                    PipelineReport(
                        state=pipeline.state(),
                        group=self.config.group,
                        endpoint=str(signal.endpoint),
                        protocol=signal.protocol,
                        server_address=signal.endpoint.host,
                        server_port=signal.endpoint.port,
                        alive=pipeline.is_alive() or pipeline.drained,
                    )
                )
        return found

    def dead(self) -> list[str]:
        """Return the names of pipelines that ended although nobody told them to."""
        if self._stop.is_set():
            return []
        return [pipeline.name for pipeline in self._pipelines.values() if not (pipeline.is_alive() or pipeline.drained)]

    def drained(self) -> bool:
        """Say whether all pipelines have ended with the backlog."""
        return all(pipeline.drained for pipeline in self._pipelines.values())

    def begin_stop(self) -> None:
        """Take nothing new."""
        self._stop.set()

    def join(self, deadline: float) -> bool:
        """Wait for the end of all pipelines until a moment of the monotonic clock; return whether they have ended."""
        for pipeline in self._pipelines.values():
            pipeline.join(max(0.0, deadline - time.monotonic()))
        return not any(pipeline.is_alive() for pipeline in self._pipelines.values())

    def abandon(self) -> None:
        """Give up what is in flight. It stays in the log and is sent again later."""
        for pipeline in self._pipelines.values():
            pipeline.abandon()

    def close(self) -> None:
        """Close the senders."""
        for sender in self._senders.values():
            sender.close()


def routes(config: DestinationConfig) -> list[Route]:
    """Return the streams of a destination and where OTLP has them: its own, or the standard one of each signal."""
    signals = [each.signal for each in config.signals]
    if not config.streams:
        return [route_of_signal(signal) for signal in signals]
    return [replace(route_of_signal(signal), stream=stream) for stream, signal in config.streams if signal in signals]


def _stop(runs: list[DestinationRun], timeout: float, alive: Callable[[], None]) -> None:
    for run in runs:
        run.begin_stop()
    deadline = time.monotonic() + timeout
    late = runs
    while late and (now := time.monotonic()) < deadline:
        late = [run for run in late if not run.join(min(deadline, now + 1.0))]
        alive()
    for run in late:
        _logger.warning(
            "%s: requests in flight did not end within %g s; what they hold is sent again later",
            run.config.name,
            timeout,
            extra={"destination": run.config.name},
        )
        run.abandon()
    for run in runs:
        run.close()
    deadline = time.monotonic() + ABANDON_SECONDS
    for run in late:
        run.join(deadline)
    for run in runs:
        _say_what_was_done(run)


def _say_what_was_done(run: DestinationRun) -> None:
    for report in run.reports():
        state = report.state
        if state.delivered_requests:
            facts = {"destination": state.destination, "signal": state.signal, "stream": state.stream}
            _logger.info(
                "%s %s: delivered %d entries in %d requests, %d bytes",
                state.destination,
                state.signal,
                state.delivered_entries,
                state.delivered_requests,
                state.delivered_bytes,
                extra=facts,
            )


def _shared(config: ShipperConfig) -> tuple[object, ...]:
    """Return what all destinations have in common; if it changes, all of them begin anew."""
    return config.assignment, config.once, config.dead_letter_share
