"""What the receiver tells Prometheus about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from comet_otel.receiver.errors import ReceiverError
from comet_otel.receiver.storing import Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from comet_otel.streams import Signal

__all__ = ["CONTENT_TYPE", "ReceiverMetrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_OTHER: Final = "none"
"""The signal of a request that names none."""


class ReceiverMetrics:
    """Counters since the start, of one receiver."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._found: dict[tuple[str, str, str], tuple[Counter, Counter, Histogram, Counter]] = {}
        self._requests = Counter(
            "comet_receiver_requests",
            "Requests answered, by outcome: stored, partial, duplicate, or why they were refused.",
            ["protocol", "signal", "outcome"],
            registry=self._registry,
        )
        self._bytes = Counter(
            "comet_receiver_received_bytes",
            "Bytes of the bodies of requests, as they came.",
            ["protocol", "signal"],
            registry=self._registry,
        )
        self._entries = Counter(
            "comet_receiver_stored_entries", "Entries appended to the log.", ["signal"], registry=self._registry
        )
        self._rejected = Counter(
            "comet_receiver_rejected_items",
            "Spans, log records and data points that the log cannot take, reported to their senders.",
            ["signal"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "comet_receiver_request_seconds",
            "Seconds from the end of a body to its answer.",
            ["protocol"],
            buckets=_SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._closed = Counter(
            "comet_receiver_closed_connections",
            "HTTP connections closed by the receiver: slow, or one too many.",
            ["reason"],
            registry=self._registry,
        )

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Offer a figure that is read when it is asked for."""
        Gauge(name, help_text, registry=self._registry).set_function(read)

    def answered(
        self, protocol: str, signal: Signal | None, answer: Stored | ReceiverError, size: int, seconds: float | None
    ) -> None:
        """Count an answer; ``seconds`` is None where no body was waited for."""
        name = _OTHER if signal is None else signal.value
        key = (protocol, name, _outcome(answer))
        figures = self._found.get(key)
        if figures is None:
            # Looking them up by their labels takes longer than counting.
            figures = self._found[key] = (
                self._requests.labels(*key),
                self._bytes.labels(protocol, name),
                self._seconds.labels(protocol),
                self._entries.labels(name),
            )
        requests, received_bytes, request_seconds, entries = figures
        requests.inc()
        received_bytes.inc(size)
        if seconds is not None:
            request_seconds.observe(seconds)
        if isinstance(answer, Stored):
            entries.inc(answer.entries)
            if answer.rejected_items:
                self._rejected.labels(name).inc(answer.rejected_items)

    def closed(self, reason: str) -> None:
        """Count a connection that the receiver closed of itself."""
        self._closed.labels(reason).inc()

    def page(self) -> bytes:
        """Return all of it in Prometheus's text format."""
        return generate_latest(self._registry)


def _outcome(answer: Stored | ReceiverError) -> str:
    if isinstance(answer, ReceiverError):
        return answer.reason
    if answer.duplicate:
        return "duplicate"
    return "partial" if answer.rejected_items else "stored"
