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

from comet_otel import shared_client
from comet_otel._logging import TroubleLog
from comet_otel.encoding import encode_parts
from comet_otel.shared_client import LogUnavailableError
from comet_storage import CometError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comet_otel.config import ExporterConfig
    from comet_otel.encoding import Codec, EncodedBatch
    from comet_otel.streams import Route

ENTRY_BYTES_MAX: Final = 4 * 1024 * 1024 - 64 * 1024
"""Largest entry that is written where the batch can be halved: gRPC servers take 4 MiB unless told otherwise, and the
margin leaves room for what the shipper's framing adds."""

_SHARE_OF_LOG_MIN: Final = 8
"""In a very small log, no entry takes more than one part in this many of it."""

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


class ExportPipeline(Generic[_BatchT]):
    """Encodes the batches of one signal and appends them to the log."""

    def __init__(self, route: Route, codec: Codec[_BatchT], config: ExporterConfig) -> None:
        """Join the shared client of the directory and try to open it; failing that, say so and go on."""
        self.counters = ExportCounters()
        self._stream = route.stream
        self._codec = codec
        self._entry_bytes_max = _entry_bytes_max(config)
        self._storing_trouble = TroubleLog(_logger, f"storing {route.signal.value} in {config.data_dir}")
        self._encoding_trouble = TroubleLog(_logger, f"encoding {route.signal.value}")
        self._shut_down = False
        self._client = shared_client.acquire(config)
        with _own_work():
            try:
                # At once and not at the first export: a short job's first export may be the one at interpreter exit,
                # when the log could not start its flusher thread any more.
                self._client.open()
            except LogUnavailableError:
                _logger.debug("reported where it was found")

    def export(self, batch: _BatchT) -> bool:
        """Store a batch; return whether at least one of its items is in the log and none was refused by it.

        Never raises an `Exception`; whatever goes wrong is counted and reported.
        """
        with _own_work():
            try:
                return self._export(batch)
            except Exception as error:  # noqa: BLE001 - telemetry must not fail the application, whatever it meets
                self._refuse(_count_or_one(self._codec, batch), error)
                return False

    def force_flush(self, timeout: float) -> bool:
        """Make durable what was stored; return whether that was done within `timeout` seconds."""
        if self._shut_down:
            return False
        with _own_work():
            return self._client.sync(timeout)

    def shutdown(self, timeout: float) -> None:
        """Refuse further batches and let go of the shared client; a second call does nothing."""
        if self._shut_down:
            return
        self._shut_down = True
        with _own_work():
            shared_client.release(self._client, timeout)

    def _export(self, batch: _BatchT) -> bool:
        if self._shut_down:
            self._refuse(self._codec.count(batch), "the exporter was shut down before this batch came")
            return False
        encoded = encode_parts(self._codec, batch, self._entry_bytes_max)
        self._report_unencodable(encoded)
        stored = self._codec.count(batch) - encoded.unencodable_items
        try:
            # Several payloads are the exception (a large batch, or one with an unencodable item); they may not fit into
            # one call, so that a failure between them leaves the first ones stored.
            for payload in encoded.payloads:
                self._client.append(self._stream, [payload])
        except LogUnavailableError:
            self.counters.refused_items += stored  # the shared client reports it, once for all exporters
            return False
        except CometError as error:
            self._refuse(stored, error)
            return False
        self.counters.stored_items += stored
        self._storing_trouble.recovered()
        return stored > 0 or not encoded.unencodable_items

    def _report_unencodable(self, encoded: EncodedBatch) -> None:
        self.counters.unencodable_items += encoded.unencodable_items
        self.counters.unencodable_attributes += encoded.unencodable_attributes
        if encoded.unencodable_items:
            error = encoded.first_error
            self._encoding_trouble.failed(
                f"{encoded.unencodable_items} items were left out; the first because of {type(error).__name__}: {error}"
            )
        elif encoded.unencodable_attributes:
            self._encoding_trouble.failed(
                f"{encoded.unencodable_attributes} attributes have values that OTLP cannot express and were left out"
            )

    def _refuse(self, items: int, reason: Exception | str) -> None:
        self.counters.refused_items += items
        if isinstance(reason, Exception):
            reason = f"{type(reason).__name__}: {reason}"
        self._storing_trouble.failed(f"{items} items are lost; {reason}")


class PipelineExporter:
    """What the SDK asks of every exporter alike; a subclass makes the pipeline and exports through it."""

    _pipeline: ExportPipeline[Any]

    @property
    def counters(self) -> ExportCounters:
        """Numbers of items (spans, log records, data points) stored, refused and left out since construction."""
        return self._pipeline.counters

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Make durable what was stored; return whether that was done within `timeout_millis` milliseconds."""
        return self._pipeline.force_flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Let go of the log; exports from now on fail. The SDK also passes the limit as ``timeout``."""
        self._pipeline.shutdown(kwargs.get("timeout", timeout_millis) / 1000)


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
