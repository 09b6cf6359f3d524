"""SDK objects to OTLP bytes: one serialized ``Export*ServiceRequest`` per batch, exactly what a collector takes.

The stock encoder of the OpenTelemetry project does the work. This module adds what it lacks: an item that cannot be
encoded costs itself and not its batch, and a batch that is too large for a collector's default limit is encoded in
parts. Both are the same step, halving the batch, and joining the parts' bytes is again a valid request.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from opentelemetry.exporter.otlp.proto.common import _log_encoder, metrics_encoder, trace_encoder
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.trace import ReadableSpan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

PART_BYTES_UNLIMITED: Final = 2**63 - 1

_BatchT = TypeVar("_BatchT")
_ItemT = TypeVar("_ItemT")


def encode_spans(batch: Sequence[ReadableSpan]) -> bytes:
    """Return the serialized ``ExportTraceServiceRequest`` of the spans; those that cannot be encoded are left out."""
    return b"".join(encode_parts(SPANS, batch).payloads)


def encode_logs(batch: Sequence[ReadableLogRecord]) -> bytes:
    """Return the serialized ``ExportLogsServiceRequest`` of the records; those that cannot be encoded are left out."""
    return b"".join(encode_parts(LOG_RECORDS, batch).payloads)


def encode_metrics(batch: MetricsData) -> bytes:
    """Return the serialized ``ExportMetricsServiceRequest``; data points that cannot be encoded are left out."""
    return b"".join(encode_parts(METRICS, batch).payloads)


class Codec(Protocol[_BatchT]):
    """How the batches of one signal are encoded, counted and halved."""

    def encode(self, batch: _BatchT) -> bytes:
        """Return the serialized request; raises whatever the encoder raises for items that it cannot encode."""

    def count(self, batch: _BatchT) -> int:
        """Return how many items (spans, log records, data points) are in the batch."""

    def halve(self, batch: _BatchT) -> tuple[_BatchT, _BatchT] | None:
        """Return two batches with all items of this one between them, or None for a batch of one item."""


@dataclasses.dataclass
class EncodedBatch:
    """What became of one batch.

    Attributes:
        payloads: serialized requests, in order; several if the batch was halved, none if it is empty or nothing of it
            could be encoded.
        unencodable_items: items left out because the encoder refused them.
        unencodable_attributes: attributes that the encoder left out of items that it did encode.
        first_error: what the encoder said of the first item left out.
    """

    payloads: list[bytes] = dataclasses.field(default_factory=list)
    unencodable_items: int = 0
    unencodable_attributes: int = 0
    first_error: Exception | None = None


def encode_parts(codec: Codec[_BatchT], batch: _BatchT, part_bytes_max: int = PART_BYTES_UNLIMITED) -> EncodedBatch:
    """Encode a batch as a whole if that works, and otherwise in halves of halves.

    Args:
        codec: the signal's codec.
        batch: what to encode; its items keep their order.
        part_bytes_max: payloads larger than this are halved down to single items. One item that is larger still is
            one payload, to be refused or not by whoever stores it.
    """
    result = EncodedBatch()
    waiting = [batch]
    with _attribute_failures.counted() as attribute_failures:
        while waiting:
            part = waiting.pop()
            halves: tuple[_BatchT, _BatchT] | None = None
            attribute_failures_before = attribute_failures.count
            try:
                payload = codec.encode(part)
            except Exception as error:  # noqa: BLE001 - a foreign attribute value may raise anything when looked at
                halves = codec.halve(part)
                if halves is None:
                    result.unencodable_items += max(1, codec.count(part))
                    result.first_error = result.first_error or error
            else:
                if len(payload) > part_bytes_max:
                    halves = codec.halve(part)
                if halves is None and payload:
                    result.payloads.append(payload)
            if halves is not None:
                waiting += (halves[1], halves[0])
                attribute_failures.count = attribute_failures_before  # the halves will tell of them again
    result.unencodable_attributes = attribute_failures.count
    return result


class _SequenceCodec(Generic[_ItemT]):
    """Codec of the signals whose batches are sequences of items."""

    def count(self, batch: Sequence[_ItemT]) -> int:
        return len(batch)

    def halve(self, batch: Sequence[_ItemT]) -> tuple[Sequence[_ItemT], Sequence[_ItemT]] | None:
        middle = len(batch) // 2
        return (batch[:middle], batch[middle:]) if middle else None


class _SpanCodec(_SequenceCodec[ReadableSpan]):
    def encode(self, batch: Sequence[ReadableSpan]) -> bytes:
        return trace_encoder.encode_spans(batch).SerializeToString()


class _LogRecordCodec(_SequenceCodec[ReadableLogRecord]):
    def encode(self, batch: Sequence[ReadableLogRecord]) -> bytes:
        return _log_encoder.encode_logs(batch).SerializeToString()


class _MetricsCodec:
    """Codec of metrics, whose batch is a tree: resource, scope, metric, data point."""

    def encode(self, batch: MetricsData) -> bytes:
        return metrics_encoder.encode_metrics(batch).SerializeToString()

    def count(self, batch: MetricsData) -> int:
        return sum(len(metric.data.data_points) for _, _, metric in _leaves(batch))

    def halve(self, batch: MetricsData) -> tuple[MetricsData, MetricsData] | None:
        leaves = list(_leaves(batch))
        if len(leaves) > 1:
            middle = len(leaves) // 2
            return _tree(leaves[:middle]), _tree(leaves[middle:])
        if not leaves:
            return None
        resource_metrics, scope_metrics, metric = leaves[0]
        points = metric.data.data_points
        middle = len(points) // 2
        if not middle:
            return None
        first, second = (_with_points(metric, half) for half in (points[:middle], points[middle:]))
        return _tree([(resource_metrics, scope_metrics, first)]), _tree([(resource_metrics, scope_metrics, second)])


def _leaves(batch: MetricsData) -> Iterator[tuple[ResourceMetrics, ScopeMetrics, Metric]]:
    for resource_metrics in batch.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                yield resource_metrics, scope_metrics, metric


def _tree(leaves: Sequence[tuple[ResourceMetrics, ScopeMetrics, Metric]]) -> MetricsData:
    """Put metrics back under their resources and scopes, which stay in the order of first sight."""
    resources: dict[int, tuple[ResourceMetrics, dict[int, tuple[ScopeMetrics, list[Metric]]]]] = {}
    for resource_metrics, scope_metrics, metric in leaves:
        _, scopes = resources.setdefault(id(resource_metrics), (resource_metrics, {}))
        scopes.setdefault(id(scope_metrics), (scope_metrics, []))[1].append(metric)
    return MetricsData(
        resource_metrics=[
            dataclasses.replace(
                resource_metrics,
                scope_metrics=[dataclasses.replace(scope, metrics=metrics) for scope, metrics in scopes.values()],
            )
            for resource_metrics, scopes in resources.values()
        ]
    )


def _with_points(metric: Metric, points: Sequence[Any]) -> Metric:
    data: Any = metric.data  # one of four classes, each with points of its own class
    return dataclasses.replace(metric, data=dataclasses.replace(data, data_points=points))


class _AttributeFailures(logging.Filter):
    """Counts the attributes that the stock encoder leaves out, and keeps its log lines about them to itself.

    It logs each with a traceback, from inside the export. Where every log record carries such an attribute (a logging
    filter that adds an object to each is enough), each line would make the next one, for ever. Only lines of a thread
    that is encoding for this package are kept; another exporter's use of the encoder is not touched.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.local()

    def counted(self) -> _AttributeFailureCount:
        return _AttributeFailureCount(self._thread)

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the signature of logging.Filter
        counter: _AttributeFailureCount | None = getattr(self._thread, "counter", None)
        if counter is None:
            return True
        counter.count += 1
        return False


class _AttributeFailureCount:
    """While entered, takes what `_AttributeFailures` filters in this thread; may be entered within another one."""

    def __init__(self, thread: threading.local) -> None:
        self.count = 0
        self._thread = thread
        self._outer: _AttributeFailureCount | None = None

    def __enter__(self) -> Self:
        self._outer = getattr(self._thread, "counter", None)
        self._thread.counter = self
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.counter = self._outer


_attribute_failures: Final = _AttributeFailures()
logging.getLogger("opentelemetry.exporter.otlp.proto.common._internal").addFilter(_attribute_failures)

SPANS: Final = _SpanCodec()
LOG_RECORDS: Final = _LogRecordCodec()
METRICS: Final = _MetricsCodec()
