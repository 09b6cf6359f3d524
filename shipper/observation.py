"""What a running shipper knows of itself: each pipeline's state, rates and place in the log, as one value.

Health, readiness, metrics and the status of other terminals all show the same observation.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from comet_storage import Client, CometError

if TYPE_CHECKING:
    from shipper.delivery.progress import PipelineState

TROUBLED: Final = frozenset({"retrying", "paused"})
"""States in which nothing is delivered although something should be."""

WORKING: Final = frozenset({"idle", "delivering", "standby"})
"""States in which a pipeline does what it is there for."""

_HALF_LIFE_SECONDS: Final = 15.0
"""Rates forget half of what they know within this time."""


@dataclass(frozen=True)
class PipelineReport:
    """One stream on its way to one destination.

    Attributes:
        state: what the pipeline says of itself.
        group: the consumer group in whose name it reads.
        endpoint: where it sends to.
        protocol: by which protocol.
        server_address: the endpoint's host.
        server_port: the endpoint's port.
        alive: its thread runs.
        pending: entries that the group has still to get.
        entries_per_second: delivered, as a running average.
        arriving_per_second: appended by applications, as a running average.
        seconds_to_empty: until nothing is pending, if both go on like this; None if that is never.
        protected: retention spares what is pending; false where the lag is over its limit.
    """

    state: PipelineState
    group: str
    endpoint: str
    protocol: str
    server_address: str
    server_port: int
    alive: bool
    pending: int = 0
    entries_per_second: float = 0.0
    arriving_per_second: float = 0.0
    seconds_to_empty: float | None = None
    protected: bool = True


@dataclass(frozen=True)
class Observation:
    """One shipper at one moment.

    Attributes:
        pid: its process.
        version: of the distribution.
        started: when it started, seconds since 1970.
        observed: when this was seen.
        data_dir: the log's directory.
        config_file: the file of settings, if there is one.
        configuration_error: why the file could not be taken when it was last read again; empty if it could.
        log_open: the log is there and open.
        pipelines: one for each stream and destination.
    """

    pid: int
    version: str
    started: float
    observed: float
    data_dir: str
    config_file: str | None
    configuration_error: str = ""
    log_open: bool = False
    pipelines: tuple[PipelineReport, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return dataclasses.asdict(self)

    def reasons_not_ready(self) -> list[str]:
        """Return why telemetry does not flow; nothing if it does."""
        if not self.log_open:
            return [f"there is no log in {self.data_dir} yet"]
        found = []
        for report in self.pipelines:
            state = report.state
            if not report.alive:
                found.append(f"{state.destination}/{state.stream}: its thread has ended")
            elif state.state not in WORKING:
                found.append(f"{state.destination}/{state.stream}: {state.state}: {state.reason or 'not yet'}")
        return found


@dataclass
class _Rate:
    """A running average of how fast a counter grows."""

    per_second: float = 0.0
    _last: tuple[float, float] | None = field(default=None, init=False)

    def observe(self, count: float, now: float) -> float:
        """Take note of a counter's value, and return the rate."""
        if self._last is not None and now > self._last[0] and count >= self._last[1]:
            elapsed = now - self._last[0]
            weight = 1 - math.pow(0.5, elapsed / _HALF_LIFE_SECONDS)
            self.per_second += weight * ((count - self._last[1]) / elapsed - self.per_second)
        self._last = (now, count)
        return self.per_second


class Observer:
    """Turns the states of pipelines into reports, and remembers what rates need."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Use a clock in seconds that never goes back."""
        self._clock = clock
        self._delivered: dict[tuple[str, str], _Rate] = {}
        self._arrived: dict[tuple[str, str], _Rate] = {}

    def observe(self, reports: Iterable[PipelineReport], client: Client) -> tuple[PipelineReport, ...]:
        """Complete the reports by what the log says."""
        return tuple(self._complete(report, client) for report in reports)

    def _complete(self, report: PipelineReport, client: Client) -> PipelineReport:
        stream, key = report.state.stream, (report.group, report.state.stream)
        now = self._clock()
        try:
            found = client.accounting(stream, report.group)
            protected = client.is_group_protected(stream, report.group) or report.group not in client.groups(stream)
        except CometError:
            # The log was removed, or the disk refuses: the pipeline says so by itself.
            return report
        delivered = self._delivered.setdefault(key, _Rate()).observe(found.delivered + found.rejected, now)
        arriving = self._arrived.setdefault(key, _Rate()).observe(found.total, now)
        return dataclasses.replace(
            report,
            pending=found.pending,
            entries_per_second=delivered,
            arriving_per_second=arriving,
            seconds_to_empty=seconds_to_empty(found.pending, delivered, arriving),
            protected=protected,
        )


def seconds_to_empty(pending: int, delivered: float, arriving: float) -> float | None:
    """Return how long the backlog will last at these rates per second; None if it does not get shorter."""
    if pending == 0:
        return 0.0
    net = delivered - arriving
    # Below a thousandth of what passes, the difference is noise.
    return pending / net if net > max(delivered, 1e-6) * 1e-3 else None
