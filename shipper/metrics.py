"""The shipper's own telemetry, in Prometheus' text form.

What concerns the remote hop follows OpenTelemetry's conventions for exporters, ``otel.sdk.exporter.*``, under the names
that Prometheus gives them; what they have no name for begins with ``comet_shipper_``. It is read off when it is asked
for. Nothing of it goes into the log, so the shipper never forwards telemetry about its own forwarding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from comet_otel.streams import Signal
from comet_storage import Client, CometError
from shipper.observation import Observation, PipelineReport
from shipper.outcome import Delivered, Partial

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from shipper.outcome import Outcome
    from shipper.sending.protocol import Sender
    from shipper.settings import SignalConfig

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_ITEM: Final = {Signal.TRACES: "span", Signal.METRICS: "metric_data_point", Signal.LOGS: "log"}
_COMPONENT: Final = {Signal.TRACES: "span", Signal.METRICS: "metric", Signal.LOGS: "log"}
_CLASSES: Final = ("delivered", "rejected", "skipped", "evicted", "corrupt", "lost")
_STATES: Final = ("starting", "idle", "delivering", "retrying", "paused", "standby", "stopped")
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_HOP: Final = ("otel_component_name", "otel_component_type", "server_address", "server_port")
_PLACE: Final = ("destination", "signal", "stream")


class Telemetry:
    """Everything that ``/metrics`` shows."""

    def __init__(self, observe: Callable[[], Observation]) -> None:
        """Show what `observe` returns, and the durations of requests."""
        self._observe = observe
        self.client: Client | None = None
        """The open log; set by the daemon while there is one."""
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._durations = Histogram(
            "otel_sdk_exporter_operation_duration_seconds",
            "Duration of requests to the collector (otel.sdk.exporter.operation.duration).",
            (*_HOP, "error_type"),
            registry=self._registry,
            buckets=_BUCKETS,
        )

    def text(self) -> bytes:
        """Return the answer to a scrape."""
        return generate_latest(self._registry)

    def measured(self, sender: Sender, config: SignalConfig, destination: str) -> MeasuredSender:
        """Return a sender that does the same, and whose requests are timed."""
        return MeasuredSender(sender, config, destination, self._durations)

    def describe(self) -> list[Metric]:
        """Return nothing: what there is depends on the moment."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give every metric family; called for each scrape."""
        observation = self._observe()
        yield from _of_shipper(observation)
        yield from _of_hop(observation)
        yield from _of_pipelines(observation)
        if self.client is not None:
            yield from _of_log(observation, self.client)


class MeasuredSender:
    """A sender whose requests are timed."""

    def __init__(self, sender: Sender, config: SignalConfig, destination: str, durations: Histogram) -> None:
        """Hand everything on to `sender`."""
        self._sender = sender
        self._config = config
        self._destination = destination
        self._durations = durations

    def send(self, route: Route, body: bytes, request_id: str) -> Outcome:
        """Send one request; see `Sender.send`."""
        begin = time.monotonic()
        outcome = self._sender.send(route, body, request_id)
        error = "" if isinstance(outcome, Delivered | Partial) else outcome.code
        config = self._config
        labels = _hop(f"{self._destination}/{route.stream}", config.protocol, route.signal)
        server = (config.endpoint.host, str(config.endpoint.port))
        self._durations.labels(*labels, *server, error).observe(time.monotonic() - begin)
        return outcome

    def close(self) -> None:
        """Close the sender."""
        self._sender.close()


def _hop(component: str, protocol: str, signal: Signal) -> tuple[str, str]:
    transport = "grpc" if protocol == "grpc" else "http"
    return component, f"otlp_{transport}_{_COMPONENT[signal]}_exporter"


def _hop_labels(report: PipelineReport) -> tuple[str, ...]:
    state = report.state
    names = _hop(f"{state.destination}/{state.stream}", report.protocol, Signal(state.signal))
    return (*names, report.server_address, str(report.server_port))


def _of_shipper(observation: Observation) -> Iterator[Metric]:
    up = GaugeMetricFamily("comet_shipper_info", "The running shipper.", labels=("version", "data_dir"))
    up.add_metric((observation.version, observation.data_dir), 1)
    yield up
    yield GaugeMetricFamily(
        "comet_shipper_start_time_seconds", "When the shipper started, since 1970.", value=observation.started
    )
    yield GaugeMetricFamily(
        "comet_shipper_configuration_ok",
        "1 if the configuration file was taken when it was last read, 0 if the one before is still in effect.",
        value=0 if observation.configuration_error else 1,
    )
    ready = not observation.reasons_not_ready()
    yield GaugeMetricFamily("comet_shipper_ready", "What /readyz says.", value=int(ready))


def _of_hop(observation: Observation) -> Iterator[Metric]:
    for signal, item in _ITEM.items():
        exported = CounterMetricFamily(
            f"otel_sdk_exporter_{item}_exported",
            f"Items whose export has finished (otel.sdk.exporter.{item}.exported); error_type says why one failed.",
            labels=(*_HOP, "error_type"),
        )
        inflight = GaugeMetricFamily(
            f"otel_sdk_exporter_{item}_inflight",
            f"Items that are being sent (otel.sdk.exporter.{item}.inflight).",
            labels=_HOP,
        )
        for report in observation.pipelines:
            state = report.state
            if state.signal == signal.value:
                labels = _hop_labels(report)
                exported.add_metric((*labels, ""), state.delivered_items)
                exported.add_metric((*labels, "rejected"), state.rejected_items)
                exported.add_metric((*labels, "dead_lettered"), state.dead_lettered_items)
                inflight.add_metric(labels, state.inflight_items)
        yield exported
        yield inflight


def _of_pipelines(observation: Observation) -> Iterator[Metric]:
    counters = {
        "delivered_entries": "Entries of the log that were delivered.",
        "delivered_bytes": "Bytes of request bodies that were delivered, before compression.",
        "delivered_requests": "Requests that were delivered.",
        "failed_requests": "Requests that were not.",
        "retried_requests": "Requests that were sent again.",
        "dead_lettered_entries": "Entries that went to the dead letters.",
        "duplicates_possible": "Requests that were sent again although a former one may have arrived.",
    }
    for name, text in counters.items():
        counter = CounterMetricFamily(f"comet_shipper_{name}", text, labels=_PLACE)
        for report in observation.pipelines:
            counter.add_metric(_place(report), getattr(report.state, name))
        yield counter
    gauges: dict[str, tuple[str, Callable[[PipelineReport], float | None]]] = {
        "inflight_requests": ("Requests that are being sent.", lambda report: report.state.inflight_requests),
        "bytes_per_second": ("Running average of what is delivered.", lambda report: report.state.bytes_per_second),
        "last_success_timestamp_seconds": (
            "When a request was last delivered, since 1970; absent if none was.",
            lambda report: report.state.last_success,
        ),
        "lag_protected": ("1 while retention spares what is pending.", lambda report: int(report.protected)),
    }
    for name, (text, value_of) in gauges.items():
        gauge = GaugeMetricFamily(f"comet_shipper_{name}", text, labels=_PLACE)
        for report in observation.pipelines:
            value = value_of(report)
            if value is not None:
                gauge.add_metric(_place(report), value)
        yield gauge
    states = GaugeMetricFamily("comet_shipper_state", "1 for the state of each pipeline.", labels=(*_PLACE, "state"))
    for report in observation.pipelines:
        for name in _STATES:
            states.add_metric((*_place(report), name), int(report.state.state == name))
    yield states


def _of_log(observation: Observation, client: Client) -> Iterator[Metric]:
    pending = GaugeMetricFamily("comet_shipper_pending_entries", "Entries that wait.", labels=_PLACE)
    size = GaugeMetricFamily("comet_shipper_pending_bytes", "Stored bytes of them.", labels=_PLACE)
    oldest = GaugeMetricFamily("comet_shipper_oldest_pending_seconds", "Age of the oldest of them.", labels=_PLACE)
    classes = CounterMetricFamily(
        "comet_shipper_entries", "What became of the log's entries, over all restarts.", labels=(*_PLACE, "outcome")
    )
    on_disk = GaugeMetricFamily("comet_shipper_log_bytes", "Bytes of the log's blocks on the disk.")
    try:
        for report in observation.pipelines:
            labels, stream = _place(report), report.state.stream
            found = client.accounting(stream, report.group)
            pending.add_metric(labels, found.pending)
            size.add_metric(labels, client.pending_bytes(stream, report.group))
            since = client.oldest_pending(stream, report.group)
            oldest.add_metric(labels, 0.0 if since is None else max(0.0, time.time() - since / 1e9))
            for name in _CLASSES:
                classes.add_metric((*labels, name), getattr(found, name))
        on_disk.add_metric((), client.allocated_bytes())
    except CometError:
        return  # the log is being removed, or the disk refuses; readiness says so
    yield from (pending, size, oldest, classes, on_disk)


def _place(report: PipelineReport) -> tuple[str, ...]:
    return report.state.destination, report.state.signal, report.state.stream
