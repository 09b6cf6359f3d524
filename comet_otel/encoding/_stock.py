"""The stock encoder of the OpenTelemetry project, for versions of the SDK whose private fields nobody has looked at.

It does the work through the SDK's public properties. This module adds what it lacks: an item that cannot be encoded
costs itself and not its batch, and a batch that is too large for a collector's default limit is encoded in parts. Both
are the same step, halving the batch, and joining the parts' bytes is again a valid request.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from comet_otel.encoding._batch import PART_BYTES_UNLIMITED, Codec, EncodedBatch

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
    from typing_extensions import Self

_BatchT = TypeVar("_BatchT")


def codec(name: str) -> Codec[Any]:
    """Return the codec of one signal by its public name."""
    return _CODECS[name]()


class _HalvingCodec(ABC, Generic[_BatchT]):
    """Encodes a batch as a whole if that works, and otherwise in halves of halves."""

    def encode(self, batch: _BatchT, part_bytes_max: int = PART_BYTES_UNLIMITED) -> EncodedBatch:
        """Encode a batch; the parameters and the result are those of `encode_parts`."""
        result = EncodedBatch()
        waiting = [batch]
        with _attribute_failures.counted() as attribute_failures:
            while waiting:
                part = waiting.pop()
                halves: tuple[_BatchT, _BatchT] | None = None
                attribute_failures_before = attribute_failures.count
                try:
                    payload = self._request(part)
                except Exception as error:  # noqa: BLE001 - a foreign attribute value may raise anything
                    halves = self._halves(part)
                    if halves is None:
                        result.leave_out(max(1, self.count(part)), error, 0)
                else:
                    if len(payload) > part_bytes_max:
                        halves = self._halves(part)
                    if halves is None and payload:
                        result.payloads.append(payload)
                if halves is not None:
                    waiting += (halves[1], halves[0])
                    attribute_failures.count = attribute_failures_before  # the halves will tell of them again
        result.unencodable_attributes = attribute_failures.count
        return result

    @abstractmethod
    def count(self, batch: _BatchT) -> int:
        """Return how many items are in the batch."""

    @abstractmethod
    def _request(self, batch: _BatchT) -> bytes:
        """Return the serialized request; raises whatever the encoder raises for items that it cannot encode."""

    @abstractmethod
    def _halves(self, batch: _BatchT) -> tuple[_BatchT, _BatchT] | None:
        """Return two batches with all items of this one between them, or None for a batch of one item."""


class _SequenceCodec(_HalvingCodec[Sequence[Any]]):
    """Codec of the signals whose batches are sequences of items."""

    def __init__(self, module: str, function: str) -> None:
        self._message = _stock_function(module, function)

    def count(self, batch: Sequence[Any]) -> int:
        return len(batch)

    def _request(self, batch: Sequence[Any]) -> bytes:
        payload: bytes = self._message(batch).SerializeToString()
        return payload

    def _halves(self, batch: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]] | None:
        middle = len(batch) // 2
        return (batch[:middle], batch[middle:]) if middle else None


class _MetricsCodec(_HalvingCodec["MetricsData"]):
    """Codec of metrics, whose batch is a tree: resource, scope, metric, data point."""

    def __init__(self) -> None:
        self._message = _stock_function("metrics_encoder", "encode_metrics")

    def count(self, batch: MetricsData) -> int:
        return sum(len(metric.data.data_points) for _, _, metric in _leaves(batch))

    def _request(self, batch: MetricsData) -> bytes:
        payload: bytes = self._message(batch).SerializeToString()
        return payload

    def _halves(self, batch: MetricsData) -> tuple[MetricsData, MetricsData] | None:
        leaves = list(_leaves(batch))
        if len(leaves) > 1:
            middle = len(leaves) // 2
            return _tree(batch, leaves[:middle]), _tree(batch, leaves[middle:])
        if not leaves:
            return None
        resource_metrics, scope_metrics, metric = leaves[0]
        points = metric.data.data_points
        middle = len(points) // 2
        if not middle:
            return None
        first, second = (_with_points(metric, half) for half in (points[:middle], points[middle:]))
        return (
            _tree(batch, [(resource_metrics, scope_metrics, first)]),
            _tree(batch, [(resource_metrics, scope_metrics, second)]),
        )


def _stock_function(module: str, function: str) -> Any:
    return getattr(importlib.import_module(f"opentelemetry.exporter.otlp.proto.common.{module}"), function)


def _leaves(batch: MetricsData) -> Iterator[tuple[ResourceMetrics, ScopeMetrics, Metric]]:
    for resource_metrics in batch.resource_metrics:
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                yield resource_metrics, scope_metrics, metric


def _tree(batch: MetricsData, leaves: Sequence[tuple[ResourceMetrics, ScopeMetrics, Metric]]) -> MetricsData:
    """Put metrics back under their resources and scopes, which stay in the order of first sight."""
    resources: dict[int, tuple[ResourceMetrics, dict[int, tuple[ScopeMetrics, list[Metric]]]]] = {}
    for resource_metrics, scope_metrics, metric in leaves:
        _, scopes = resources.setdefault(id(resource_metrics), (resource_metrics, {}))
        scopes.setdefault(id(scope_metrics), (scope_metrics, []))[1].append(metric)
    return dataclasses.replace(
        batch,
        resource_metrics=[
            dataclasses.replace(
                resource_metrics,
                scope_metrics=[dataclasses.replace(scope, metrics=metrics) for scope, metrics in scopes.values()],
            )
            for resource_metrics, scopes in resources.values()
        ],
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

_CODECS: Final[Mapping[str, Callable[[], Codec[Any]]]] = {
    "SPANS": lambda: _SequenceCodec("trace_encoder", "encode_spans"),
    "LOG_RECORDS": lambda: _SequenceCodec("_log_encoder", "encode_logs"),
    "METRICS": _MetricsCodec,
}
