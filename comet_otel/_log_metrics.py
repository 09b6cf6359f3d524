"""Metrics of the logs that this process writes (``comet.log.*``): how full, how far behind, what was lost.

They are measured when a reader collects, at most every `FRESH_SECONDS`, in a helper thread that is waited for no longer
than `PATIENCE_SECONDS`: a disk that stalls costs a collection that much, and it reports what was measured before.

What is true of the log as a whole is reported alike by every process that writes to it.
"""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.metrics import Observation, get_meter_provider

import comet_storage
from comet_otel import shared_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, MeterProvider

    from comet_otel.shared_client import SharedClient
    from comet_storage import Client

METER_NAME: Final = "comet_otel"

FRESH_SECONDS: Final = 5.0
"""All instruments of one collection report what was measured once; it takes two milliseconds per shard."""

PATIENCE_SECONDS: Final = 0.25
"""How long a collection waits for a measurement."""

_CLASSES: Final = tuple(each.name for each in fields(comet_storage.Accounting) if each.name != "total")


@dataclass
class _Figures:
    """What was measured of one log."""

    bytes: int = 0
    bound: int = 0
    segments: int = 0
    appended: int = 0
    writable: bool = False
    sync_failures: int = 0
    errors: int = 0
    unflushed_age: float = 0.0
    groups: dict[tuple[str, str], comet_storage.Accounting] = field(default_factory=dict)
    ages: dict[tuple[str, str], float] = field(default_factory=dict)


class _LogMeasurements:
    """The latest figures of each log."""

    def __init__(self) -> None:
        self._latest: weakref.WeakKeyDictionary[SharedClient, tuple[float, _Figures | None]]
        self._latest = weakref.WeakKeyDictionary()

    def figures(self) -> Iterator[tuple[str, _Figures]]:
        """Yield the directory and the figures of every log whose measurement ever succeeded."""
        for shared in shared_client.all_clients():
            measured_at, found = self._latest.get(shared, (float("-inf"), None))
            if time.monotonic() - measured_at >= FRESH_SECONDS:
                found = self._measure(shared) or found
                self._latest[shared] = time.monotonic(), found  # also after a failure: one collection waits once
            if found is not None:
                yield str(shared.data_dir), found

    def _measure(self, shared: SharedClient) -> _Figures | None:
        found: list[_Figures] = []
        shared.inquire(lambda client: found.append(_measured(client)), PATIENCE_SECONDS)
        return found[0] if found else None


def _measured(client: Client) -> _Figures:
    stats, health = client.stats(), client.health()
    figures = _Figures(
        bytes=client.allocated_bytes(),
        bound=client.max_total_size(),
        segments=stats.total_files,
        appended=stats.total_entries,
        writable=health.writable,
        sync_failures=health.sync_failures,
        errors=stats.error_count,
        unflushed_age=health.oldest_unflushed_age,
    )
    now = time.time_ns()
    for stream in client.streams():
        for group in client.groups(stream):
            figures.groups[stream, group] = client.accounting(stream, group)
            oldest = client.oldest_pending(stream, group)
            figures.ages[stream, group] = 0.0 if oldest is None else max(0, now - oldest) / 1e9
    return figures


_measurements: Final = _LogMeasurements()
_reported_to: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_lock: Final = threading.RLock()


def report_to(meter_provider: MeterProvider | None) -> None:
    """Have a meter provider, by default the global one, report on all logs that this process writes; once for each."""
    provider = meter_provider or get_meter_provider()
    with _lock:
        if provider in _reported_to:
            return
        _reported_to.add(provider)
    _make_instruments(provider)


def _make_instruments(provider: MeterProvider) -> None:
    meter = provider.get_meter(METER_NAME)
    gauge, counter = meter.create_observable_gauge, meter.create_observable_counter
    gauge("comet.log.bytes", [_of_log("bytes")], "By", "Blocks on the disk of every file of the log.")
    gauge("comet.log.bound", [_of_log("bound")], "By", "The most that they may be (max_total_size).")
    gauge("comet.log.segments", [_of_log("segments")], "{segment}", "Segments held.")
    gauge("comet.log.writable", [_of_log("writable")], "1", "1 if appends are taken, 0 if not.")
    gauge("comet.log.unflushed.age", [_of_log("unflushed_age")], "s", "What a power cut would take waits so long.")
    counter("comet.log.appended", [_of_log("appended")], "{entry}", "Entries ever appended, by all processes.")
    counter(
        "comet.log.errors", [_of_log("errors")], "{error}", "Appends and background work of this process that failed."
    )
    counter(
        "comet.log.sync_failures", [_of_log("sync_failures")], "{error}", "Syncs that the disk refused this process."
    )
    gauge("comet.log.pending.age", [_pending_age], "s", "Age of the oldest entry that a group has still to get.")
    gauge("comet.log.entries.pending", [_of_groups("pending")], "{entry}", "Entries that a group has still to get.")
    for name in _CLASSES:
        if name != "pending":
            counter(
                f"comet.log.entries.{name}", [_of_groups(name)], "{entry}", f"Entries {name}, of those for a group."
            )


def _of_log(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001 - the SDK's signature
        for directory, figures in _measurements.figures():
            yield Observation(getattr(figures, name) + 0, {"comet.log.directory": directory})

    return observe


def _of_groups(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001 - the SDK's signature
        for directory, figures in _measurements.figures():
            for (stream, group), accounting in figures.groups.items():
                yield Observation(getattr(accounting, name), _attributes(directory, stream, group))

    return observe


def _pending_age(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001 - the SDK's signature
    for directory, figures in _measurements.figures():
        for (stream, group), age in figures.ages.items():
            yield Observation(age, _attributes(directory, stream, group))


def _attributes(directory: str, stream: str, group: str) -> dict[str, str]:
    return {"comet.log.directory": directory, "comet.log.stream": stream, "comet.log.group": group}
