"""Metrics as ``Metric`` messages. Specification: opentelemetry/proto/metrics/v1/metrics.proto."""

from __future__ import annotations

import dataclasses
import operator
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)

from comet_otel.encoding import _budget
from comet_otel.encoding._attributes import AttributeFields, check_containers, contents
from comet_otel.encoding._batch import PART_BYTES_UNLIMITED, EncodedBatch
from comet_otel.encoding._fields import check_dataclass
from comet_otel.encoding._tree import FRAMING_BYTES_MAX, Tree, resource_frame, scope_frame
from comet_otel.encoding._wire import (
    MISSES_FORGOTTEN,
    MISSES_STORED,
    Heads,
    TextFields,
    delimited,
    enum_field,
    fixed64_field,
    int64,
    integer,
    optional_double_field,
    pack_double,
    pack_sfixed64,
    sint32_field,
    uint32_field,
    varint,
)

_NUMBER_ATTRIBUTES: Final = AttributeFields(b"\x3a", 8)
_HISTOGRAM_ATTRIBUTES: Final = AttributeFields(b"\x4a", 8)
_EXPONENTIAL_ATTRIBUTES: Final = AttributeFields(b"\x0a", 8)
_EXEMPLAR_ATTRIBUTES: Final = AttributeFields(b"\x3a", 9)

_NAMES: Final = TextFields(b"\x0a")
_DESCRIPTIONS: Final = TextFields(b"\x12")
_UNITS: Final = TextFields(b"\x1a")
_POINT_HEADS: Final = Heads(b"\x0a")

_BUCKETS_CACHED_MAX: Final = 1000

_pack_integer_point: Final = struct.Struct("<BQBQBq").pack
_pack_double_point: Final = struct.Struct("<BQBQBd").pack
_pack_extremes: Final = struct.Struct("<BdBd").pack


class UnsupportedDataError(TypeError):
    """A metric's data are of a class that OTLP has no message for."""


class _Kind(NamedTuple):
    """How one kind of metric data is encoded: its tag in ``Metric``, its data points, and what stands behind them."""

    tag: bytes
    point: Callable[[Any, EncodedBatch], bytes]
    tail: Callable[[Any], bytes]


class MetricsCodec:
    """Codec of metrics, whose batch is a tree: resource, scope, metric, data point; data points are the items."""

    def count(self, batch: MetricsData) -> int:
        """Return how many data points there are; data of an unknown class count as one."""
        return sum(map(_count_of_resource, batch.resource_metrics))

    def encode(self, batch: MetricsData, part_bytes_max: int = PART_BYTES_UNLIMITED) -> EncodedBatch:
        """Encode metrics; the parameters and the result are those of `encode_parts`."""
        tally = EncodedBatch()
        tree = Tree(tally)
        for resource_metrics in batch.resource_metrics:
            _add_resource(tree, resource_metrics, tally, part_bytes_max)
        tally.payloads = tree.payloads(part_bytes_max)
        return tally


def _count_of_resource(resource_metrics: Any) -> int:
    return sum(map(_count_of_scope, resource_metrics.scope_metrics))


def _count_of_scope(scope_metrics: Any) -> int:
    return sum(map(_count_of_metric, scope_metrics.metrics))


def _count_of_metric(metric: Any) -> int:
    try:
        return 1 if _kind(metric.data) is None else len(metric.data.data_points)
    except Exception:  # noqa: BLE001 - a foreign object may raise anything when looked at
        return 1


def _add_resource(tree: Tree, resource_metrics: Any, tally: EncodedBatch, part_bytes_max: int) -> None:
    attributes_before = tally.unencodable_attributes
    try:
        frame = resource_frame(resource_metrics.resource)
    except Exception as error:  # noqa: BLE001 - a foreign object may raise anything when looked at
        tally.leave_out(_count_of_resource(resource_metrics), error, attributes_before)
        return
    room = part_bytes_max - frame.size
    scopes = []
    for scope_metrics in resource_metrics.scope_metrics:
        attributes_before = tally.unencodable_attributes
        try:
            own_frame = scope_frame(scope_metrics.scope)
        except Exception as error:  # noqa: BLE001 - as above
            tally.leave_out(_count_of_scope(scope_metrics), error, attributes_before)
            continue
        encoded = [
            content for metric in scope_metrics.metrics for content in _metric(metric, tally, room - own_frame.size)
        ]
        if encoded or not scope_metrics.metrics:
            scopes.append((scope_metrics.scope, own_frame, encoded))
    if scopes or not resource_metrics.scope_metrics:
        resource_items = tree.new_resource(resource_metrics.resource, frame)
        for scope, own_frame, encoded in scopes:
            scope_items = tree.new_scope(resource_items, scope, own_frame)
            for content in encoded:
                scope_items.add(content)


def _metric(metric: Any, tally: EncodedBatch, room: int) -> Sequence[bytes]:
    """Return the content of a ``Metric``; of several, if it is larger than `room`; of none if nothing could be kept."""
    attributes_before = tally.unencodable_attributes
    try:
        header = _NAMES[metric.name] + _DESCRIPTIONS[metric.description] + _UNITS[metric.unit]
        data = metric.data
        kind = _kind(data)
        if kind is None:
            tally.leave_out(
                1, UnsupportedDataError(f"{type(data).__name__} is no kind of metric data"), attributes_before
            )
            return (header,)
        if not data.data_points:
            return (header,)
        tail = kind.tail(data)
    except Exception as error:  # noqa: BLE001 - a foreign object may raise anything when looked at
        tally.leave_out(_count_of_metric(metric), error, attributes_before)
        return ()
    points = _points(kind, data.data_points, tally)
    room -= len(header) + len(tail) + 2 * FRAMING_BYTES_MAX
    return [header + delimited(kind.tag, b"".join(part) + tail) for part in _parts(points, room)]


def _points(kind: _Kind, data_points: Sequence[Any], tally: EncodedBatch) -> list[bytes]:
    """Return the fields of the data points that can be encoded."""
    point = kind.point
    points = []
    for data_point in data_points:
        attributes_before = tally.unencodable_attributes
        try:
            content = point(data_point, tally)
        except Exception as error:  # noqa: BLE001 - a foreign object may raise anything when looked at
            tally.leave_out(1, error, attributes_before)
        else:
            points.append(_POINT_HEADS[len(content)] + content)
    return points


def _parts(points: list[bytes], room: int) -> Iterator[list[bytes]]:
    """Cut a metric's points so that each part takes at most `room`, or is a single point."""
    if sum(map(len, points)) <= room:
        if points:
            yield points
        return
    part: list[bytes] = []
    size = 0
    for point in points:
        if part and size + len(point) > room:
            yield part
            part, size = [], 0
        part.append(point)
        size += len(point)
    yield part


def _gauge_point(point: Any, tally: EncodedBatch) -> bytes:
    """As `_number_point`, but an odd start costs no more than itself, as the stock encoder never looks at it."""
    start = point.start_time_unix_nano
    if start is not None and not (type(start) is int and 0 <= start < 2**64):
        point = dataclasses.replace(point, start_time_unix_nano=None)
    return _number_point(point, tally)


def _number_point(point: Any, tally: EncodedBatch) -> bytes:
    start, time, value = point.start_time_unix_nano, point.time_unix_nano, point.value
    kind = type(value)
    if type(start) is int and type(time) is int and (kind is int or kind is float):
        if kind is int:
            pieces = [_pack_integer_point(0x11, start, 0x19, time, 0x31, value)]
        else:
            pieces = [_pack_double_point(0x11, start, 0x19, time, 0x21, value)]
    else:
        pieces = [fixed64_field(b"\x11", start), fixed64_field(b"\x19", time), _number(value, b"\x31", b"\x21")]
    for exemplar in point.exemplars:
        pieces.append(delimited(b"\x2a", _exemplar(exemplar, tally)))
    _NUMBER_ATTRIBUTES.append_to(pieces, contents(point.attributes)[0], tally)
    return b"".join(pieces)


def _number(value: Any, integer_tag: bytes, double_tag: bytes) -> bytes:
    if isinstance(value, int):
        return integer_tag + pack_sfixed64(int64(value))
    return double_tag + pack_double(value)


def _histogram_point(point: Any, tally: EncodedBatch) -> bytes:
    start, time, count, total = point.start_time_unix_nano, point.time_unix_nano, point.count, point.sum
    counts = point.bucket_counts
    if type(start) is int and type(time) is int and type(count) is int and type(counts) is tuple and total is not None:
        head, pack = _HISTOGRAM_PACKERS[len(counts)]
        pieces = [pack(0x11, start, 0x19, time, 0x21, count, 0x29, total, head, *counts)]
    else:
        pieces = [
            fixed64_field(b"\x11", start),
            fixed64_field(b"\x19", time),
            fixed64_field(b"\x21", count),
            optional_double_field(b"\x29", total),
            _packed(b"\x32", "Q", counts),
        ]
    pieces.append(_BOUNDS_FIELDS.of(point.explicit_bounds))
    for exemplar in point.exemplars:
        pieces.append(delimited(b"\x42", _exemplar(exemplar, tally)))
    _HISTOGRAM_ATTRIBUTES.append_to(pieces, contents(point.attributes)[0], tally)
    lowest, highest = point.min, point.max
    if lowest is not None and highest is not None:
        pieces.append(_pack_extremes(0x59, lowest, 0x61, highest))
    else:
        pieces += (optional_double_field(b"\x59", lowest), optional_double_field(b"\x61", highest))
    return b"".join(pieces)


class _HistogramPackers(dict[int, tuple[bytes, Callable[..., bytes]]]):
    """What packs the numbers of a histogram's data point, and what stands before its counts, by their number."""

    def __init__(self) -> None:
        super().__init__()
        _budget.register(self)

    def __missing__(self, buckets: int) -> tuple[bytes, Callable[..., bytes]]:
        head = b"\x32" + varint(8 * buckets) if buckets else b""
        known = head, struct.Struct(f"<BQBQBQBd{len(head)}s{buckets}Q").pack
        if buckets <= _BUCKETS_CACHED_MAX:
            _budget.charge(4 * _budget.ENTRY_BYTES + 32 * buckets)
            self[buckets] = known
        return known


_HISTOGRAM_PACKERS: Final = _HistogramPackers()


def _packed(tag: bytes, kind: str, values: Any) -> bytes:
    """Return a repeated field of numbers of eight bytes, left out if there are none."""
    if values is None:
        return b""
    numbers = tuple(values)
    return delimited(tag, struct.pack(f"<{len(numbers)}{kind}", *numbers)) if numbers else b""


class _BoundsFields(dict[int, tuple[Any, bytes]]):
    """The bounds of histograms, which points of one histogram share, by the identity of their tuple.

    By identity and not by value, because 0.0 and -0.0 are equal; each is kept together with its tuple, so that no other
    object can have the same identity.
    """

    def __init__(self) -> None:
        super().__init__()
        self._misses = 0
        _budget.register(self)

    def of(self, bounds: Any) -> bytes:
        known = self.get(id(bounds))
        if known is not None:
            return known[1]
        field = _packed(b"\x3a", "d", bounds)
        if type(bounds) is tuple and len(bounds) <= _BUCKETS_CACHED_MAX:
            self._misses += 1
            if self._misses <= MISSES_STORED:
                _budget.charge(_budget.ENTRY_BYTES + 3 * len(field))
                self[id(bounds)] = (bounds, field)
            elif self._misses > MISSES_FORGOTTEN:
                self.clear()
                self._misses = 0
        return field


_BOUNDS_FIELDS: Final = _BoundsFields()


def _exponential_point(point: Any, tally: EncodedBatch) -> bytes:
    pieces: list[bytes] = []
    _EXPONENTIAL_ATTRIBUTES.append_to(pieces, contents(point.attributes)[0], tally)
    pieces += (
        fixed64_field(b"\x11", point.start_time_unix_nano),
        fixed64_field(b"\x19", point.time_unix_nano),
        fixed64_field(b"\x21", point.count),
        optional_double_field(b"\x29", point.sum),
        sint32_field(b"\x30", point.scale),
        fixed64_field(b"\x39", point.zero_count),
        _buckets(b"\x42", point.positive),
        _buckets(b"\x4a", point.negative),
        uint32_field(b"\x50", point.flags),
    )
    for exemplar in point.exemplars:
        pieces.append(delimited(b"\x5a", _exemplar(exemplar, tally)))
    pieces += (optional_double_field(b"\x61", point.min), optional_double_field(b"\x69", point.max))
    return b"".join(pieces)


def _buckets(tag: bytes, buckets: Any) -> bytes:
    counts = buckets.bucket_counts
    if not counts:
        return b""
    packed = b"".join([varint(integer(count, 0, 2**64 - 1)) for count in counts])
    return delimited(tag, sint32_field(b"\x08", buckets.offset) + delimited(b"\x12", packed))


def _exemplar(exemplar: Any, tally: EncodedBatch) -> bytes:
    value = exemplar.value
    if not isinstance(value, float | int):
        raise TypeError("the value of an exemplar must be an integer or a floating-point number")
    pieces = [fixed64_field(b"\x11", exemplar.time_unix_nano), _number(value, b"\x31", b"\x19")]
    if exemplar.span_id is not None and exemplar.trace_id is not None:
        pieces += (b"\x22\x08", exemplar.span_id.to_bytes(8, "big"), b"\x2a\x10", exemplar.trace_id.to_bytes(16, "big"))
    _EXEMPLAR_ATTRIBUTES.append_to(pieces, contents(exemplar.filtered_attributes)[0], tally)
    return b"".join(pieces)


def _no_tail(data: Any) -> bytes:  # noqa: ARG001 - one of the tails
    return b""


def _temporality(data: Any) -> bytes:
    return _required_enum(data.aggregation_temporality)


def _temporality_and_monotonicity(data: Any) -> bytes:
    return _required_enum(data.aggregation_temporality) + (b"\x18\x01" if operator.index(data.is_monotonic) else b"")


def _required_enum(value: Any) -> bytes:
    if value is None:
        raise TypeError("a metric needs an aggregation temporality")
    return enum_field(b"\x10", value)


_KINDS: Final = {
    Gauge: _Kind(b"\x2a", _gauge_point, _no_tail),
    Histogram: _Kind(b"\x4a", _histogram_point, _temporality),
    Sum: _Kind(b"\x3a", _number_point, _temporality_and_monotonicity),
    ExponentialHistogram: _Kind(b"\x52", _exponential_point, _temporality),
}


def _kind(data: Any) -> _Kind | None:
    known = _KINDS.get(type(data))
    if known is not None:
        return known
    return next((kind for data_type, kind in _KINDS.items() if isinstance(data, data_type)), None)


def check() -> None:
    """Compare the fields of the SDK's classes with those that are encoded.

    Raises:
        Exception: the classes are not those that this module reads.
    """
    times = ("attributes", "start_time_unix_nano", "time_unix_nano", "exemplars")
    values = (*times, "count", "sum", "min", "max")
    check_containers()
    check_dataclass(Metric, "name", "description", "unit", "data")
    check_dataclass(Gauge, "data_points")
    check_dataclass(Sum, "data_points", "aggregation_temporality", "is_monotonic")
    check_dataclass(Histogram, "data_points", "aggregation_temporality")
    check_dataclass(ExponentialHistogram, "data_points", "aggregation_temporality")
    check_dataclass(NumberDataPoint, *times, "value")
    check_dataclass(HistogramDataPoint, *values, "bucket_counts", "explicit_bounds")
    check_dataclass(ExponentialHistogramDataPoint, *values, "scale", "zero_count", "positive", "negative", "flags")
    check_dataclass(Buckets, "offset", "bucket_counts")
    check_dataclass(Exemplar, "filtered_attributes", "value", "time_unix_nano", "span_id", "trace_id")


CODEC: Final = MetricsCodec()
