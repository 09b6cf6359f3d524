"""What the three exporters have in common: encode, append, and never trouble the application.

Concurrency: the SDK never calls ``export`` of one exporter twice at a time, but ``shutdown`` and ``force_flush`` may
come while an export runs; all of it is safe here from any thread. After a fork the child goes on with a log client of
its own (see `shared_client`).
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

import comet_storage
from comet_otel import _export_metrics, shared_client
from comet_otel._bounded import seconds_of
from comet_otel._export_metrics import ExportMetrics
from comet_otel._logging import TroubleLog, described, warn
from comet_otel.config import load_config
from comet_otel.encoding import encode_parts
from comet_otel.shared_client import LogUnavailableError
from comet_otel.streams import route_of_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.metrics import MeterProvider

    from comet_otel.config import ExporterConfig
    from comet_otel.encoding import Codec, EncodedBatch
    from comet_otel.streams import Route, Signal

ENTRY_BYTES_MAX: Final = 4 * 1024 * 1024 - 64 * 1024
"""Largest entry that is written where the batch can be halved: gRPC servers take 4 MiB unless told otherwise, and the
margin leaves room for what the shipper's framing adds."""

_SHARE_OF_LOG_MIN: Final = 8
"""In a very small log, no entry takes more than one part in this many of it."""

FLUSH_SECONDS: Final = 30.0
SHUTDOWN_SECONDS: Final = 30.0
"""Limits where the SDK gives none that is a number."""

_BatchT = TypeVar("_BatchT")

_logger = logging.getLogger(__name__)


@dataclass
class ExportCounters:
    """What became of the items that an exporter was given; numbers since its construction.

    Attributes:
        stored_items: spans, log records or data points that are in the log.
        unencodable_items: items that the encoder refused, each for itself.
        unencodable_attributes: attributes that were left out of items which were stored.
        refused_items: items that the log did not take (not open, full, busy, too large) or that came after shutdown.
    """

    stored_items: int = 0
    unencodable_items: int = 0
    unencodable_attributes: int = 0
    refused_items: int = 0


@dataclass(frozen=True)
class _Outcome:
    """What became of one batch: how many items were stored and left out, and what kept the others out of the log."""

    stored: int = 0
    unencodable: int = 0
    error_type: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether nothing was refused, and something stored, or there was nothing to store."""
        return self.error_type is None and (self.stored > 0 or not self.unencodable)


class ExportPipeline(Generic[_BatchT]):
    """Encodes the batches of one signal and appends them to the log."""

    def __init__(
        self,
        route: Route,
        codec: Codec[_BatchT],
        config: ExporterConfig,
        *,
        component: str | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        """Join the shared client of the directory and try to open it; failing that, say so and go on.

        Args:
            route: where the signal goes.
            codec: how its batches are encoded.
            config: where the log is.
            component: type of the component that it reports about itself as.
            meter_provider: what it reports to if it is to; by default the global one.
        """
        self.counters = ExportCounters()
        self._stream = route.stream
        self._codec = codec
        self._entry_bytes_max = _entry_bytes_max(config)
        self._storing_trouble = TroubleLog(_logger, f"storing {route.signal.value} in {config.data_dir}")
        self._encoding_trouble = TroubleLog(_logger, f"encoding {route.signal.value}")
        self._shut_down = False
        self._metrics: ExportMetrics | None = None
        self._client = shared_client.acquire(config)
        self._held = [self._client]
        with _own_work():
            try:
                # At once and not at the first export: a short job's first export may be the one at interpreter exit,
                # when the log could not start its flusher thread any more.
                self._client.open()
            except LogUnavailableError:
                _logger.debug("reported where it was found")
        if _export_metrics.are_enabled():
            self._report_to(meter_provider, route.signal, component or f"comet_otel.{type(self).__name__}")

    def export(self, batch: _BatchT) -> bool:
        """Store a batch; return whether at least one of its items is in the log and none was refused by it.

        Never raises an `Exception`; whatever goes wrong is counted and reported.
        """
        with _own_work():
            return self._attempt(batch)

    def force_flush(self, timeout: float) -> bool:
        """Make durable what was stored; return whether that was done within `timeout` seconds."""
        if self._shut_down:
            return False
        with _own_work():
            return self._client.sync(timeout)

    def shutdown(self, timeout: float) -> None:
        """Refuse further batches and let go of the shared client; a second call does nothing."""
        self._shut_down = True
        try:
            self._held.pop()  # one step: of two threads, or a signal handler and what it interrupted, one does it
        except IndexError:
            return
        with _own_work():
            shared_client.release(self._client, timeout)

    def _attempt(self, batch: _BatchT) -> bool:
        try:
            if self._metrics is None:
                return self._export(batch).succeeded
            return self._export_observed(self._metrics, batch).succeeded
        except Exception as error:  # noqa: BLE001 - telemetry must not fail the application, whatever it meets
            self._refuse(_count_or_one(self._codec, batch), error)
            return False

    def _report_to(self, meter_provider: MeterProvider | None, signal: Signal, component: str) -> None:
        from comet_otel import _log_metrics  # noqa: PLC0415 - costs nothing where these metrics are off, as by default

        try:
            _log_metrics.report_to(meter_provider)
            self._metrics = ExportMetrics(signal, component, meter_provider)
        except Exception as error:  # noqa: BLE001 - a meter provider of another kind may raise anything
            warn(_logger, "no metrics about storing %s: %s", signal.value, described(error))

    def _export_observed(self, metrics: ExportMetrics, batch: _BatchT) -> _Outcome:
        items = self._codec.count(batch)
        outcome = _Outcome()
        began = metrics.begin(items)
        try:
            outcome = self._export(batch)
        except BaseException as error:
            outcome = _Outcome(error_type=type(error).__qualname__)
            raise
        finally:
            metrics.end(began, items, unencodable=outcome.unencodable, error_type=outcome.error_type)
        return outcome

    def _export(self, batch: _BatchT) -> _Outcome:
        if self._shut_down:
            self._refuse(self._codec.count(batch), "the exporter was shut down before this batch came")
            return _Outcome(error_type="already_shutdown")
        encoded = encode_parts(self._codec, batch, self._entry_bytes_max)
        self._report_unencodable(encoded)
        encodable = self._codec.count(batch) - encoded.unencodable_items
        too_large: comet_storage.CometError | None = None
        stored = encodable
        try:
            # Several payloads are the exception (a large batch, or one with an unencodable item); they may not fit into
            # one call, so that a failure between them leaves the first ones stored.
            for payload in encoded.payloads:
                try:
                    self._append(payload)
                except comet_storage.EntryTooLarge as error:
                    too_large = error  # what could not be halved is a single item, and costs itself alone
                    stored -= 1
        except LogUnavailableError as error:
            self.counters.refused_items += encodable  # the shared client reports it, once for all exporters
            return _Outcome(0, encoded.unencodable_items, type(error).__qualname__)
        except comet_storage.CometError as error:
            self._refuse(encodable, error)
            return _Outcome(0, encoded.unencodable_items, type(error).__qualname__)
        self.counters.stored_items += stored
        if too_large is not None:
            self._refuse(encodable - stored, too_large)
            return _Outcome(stored, encoded.unencodable_items, type(too_large).__qualname__)
        self._storing_trouble.recovered()
        return _Outcome(stored, encoded.unencodable_items)

    def _append(self, payload: bytes) -> None:
        self._client.append(self._stream, [payload])

    def _report_unencodable(self, encoded: EncodedBatch) -> None:
        self.counters.unencodable_items += encoded.unencodable_items
        self.counters.unencodable_attributes += encoded.unencodable_attributes
        if encoded.unencodable_items:
            error = described(encoded.first_error)
            self._encoding_trouble.failed(
                f"{encoded.unencodable_items} items were left out; the first because of {error}"
            )
        elif encoded.unencodable_attributes:
            self._encoding_trouble.failed(
                f"{encoded.unencodable_attributes} attributes have values that OTLP cannot express and were left out"
            )

    def _refuse(self, items: int, reason: Exception | str) -> None:
        self.counters.refused_items += items
        if isinstance(reason, Exception):
            reason = described(reason)
        self._storing_trouble.failed(f"{items} items are lost; {reason}")


class PipelineExporter:
    """What the SDK asks of every exporter alike; a subclass makes the pipeline and exports through it."""

    _pipeline: ExportPipeline[Any]
    _pipeline_type: type[ExportPipeline[Any]] = ExportPipeline

    @property
    def counters(self) -> ExportCounters:
        """Numbers of items (spans, log records, data points) stored, refused and left out since construction."""
        return self._pipeline.counters

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Make durable what was stored; return whether that was done within `timeout_millis` milliseconds."""
        return self._pipeline.force_flush(seconds_of(timeout_millis, FLUSH_SECONDS))

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Let go of the log; exports from now on fail. The SDK also passes the limit as ``timeout``."""
        self._pipeline.shutdown(seconds_of(kwargs.get("timeout", timeout_millis), SHUTDOWN_SECONDS))

    def _start(
        self,
        signal: Signal,
        codec: Codec[Any],
        meter_provider: MeterProvider | None,
        **settings: Any,
    ) -> None:
        """Make the pipeline of a signal; `settings` are those of `load_config`.

        Raises:
            ConfigError: one of them has a wrong value.
        """
        self._pipeline = self._pipeline_type(
            route_of_signal(signal),
            codec,
            load_config(**settings),
            component=f"comet_otel.{type(self).__name__}",
            meter_provider=meter_provider,
        )


def _entry_bytes_max(config: ExporterConfig) -> int:
    storage = config.storage.storage
    share_of_log = config.storage.retention.max_total_size // _SHARE_OF_LOG_MIN
    return min(ENTRY_BYTES_MAX, storage.max_entry_bytes, storage.max_append_bytes, share_of_log)


def _count_or_one(codec: Codec[_BatchT], batch: _BatchT) -> int:
    try:
        return codec.count(batch)
    except Exception:  # noqa: BLE001 - called for a batch that already proved odd
        return 1


@contextmanager
def _own_work() -> Iterator[None]:
    """Mark what happens inside as this exporter's own, so that instrumented libraries make no telemetry of it."""
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True))
    try:
        yield
    finally:
        detach(token)
