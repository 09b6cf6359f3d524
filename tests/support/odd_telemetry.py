"""Makers of the SDK's telemetry objects: mostly ordinary, sometimes odd in every way there is."""

from __future__ import annotations

import collections
import contextlib
import decimal
import enum
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common import _internal as stock
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from tests.support.makers import (
    FLOATS,
    SHORT_BYTES,
    SHORT_TEXT,
    Maker,
    built,
    integers,
    lists,
    one_of,
    pool,
    tuples,
)


class Colour(str, enum.Enum):
    """Text that is an enumeration."""

    RED = "red"


class Size(enum.IntEnum):
    """Integers that are an enumeration."""

    SMALL = 1
    NEGATIVE = -5


class Text(str):
    """A kind of text with a mind of its own about how it is shown and encoded."""

    __slots__ = ()

    def __str__(self) -> str:
        return "shown otherwise"

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return something else."""
        return b"encoded otherwise"


class Ratio(float):
    """A kind of floating-point number."""

    __slots__ = ()


class Blob(bytes):
    """A kind of bytes with a mind of its own about what they are."""

    __slots__ = ()

    def __bytes__(self) -> bytes:
        return b"otherwise"


class PublicSpan(ReadableSpan):
    """A span of a foreign class, which tells by its properties other things than by its private fields."""

    @property
    def name(self) -> str:
        """The name."""
        return f"public {self._name!r}"

    @property
    def dropped_events(self) -> int:
        """How many events were dropped."""
        return 77


class Point(collections.namedtuple("Point", ["x", "y"])):  # noqa: PYI024 - a plain one is what users have
    """A kind of tuple."""

    __slots__ = ()


class FailsWhenLookedAt(collections.abc.Sequence):
    """A sequence whose elements cannot be had."""

    def __getitem__(self, index: Any) -> Any:
        raise RuntimeError("out of order")

    def __len__(self) -> int:
        return 1


INT64 = integers(-(2**63), 2**63 - 1)
SMALL = integers(0, 300)
TEXT = one_of(
    pool("GET", "http.method", "käse", "\U0001f4a9" * 40, "x" * 127, "x" * 128, "y" * 300, "\0", "a", "b", "c"),
    SHORT_TEXT,
)
SURROGATES = pool("\ud800", "a\udfff", "\udc80b")
SCALARS = one_of(
    INT64,
    FLOATS,
    TEXT,
    SHORT_BYTES,
    pool(None, 0, 1, 0.0, -0.0, 1.0, True, False, -1, 2**63 - 1, -(2**63), 127, 128, 16383, 16384, 2**21, 2**28, 2**35),
    pool(Colour.RED, Size.SMALL, Size.NEGATIVE, Text("x"), Ratio(0.5), Blob(b"x"), TraceFlags(1)),
)
UNENCODABLE = pool(
    *("\ud800", 2**63, -(2**63) - 1, 2**64, 10**30, object(), decimal.Decimal(1), 1j, {1}, frozenset("a"), int, ...)
)


def _containers(values: Maker) -> Maker:
    members = lists(values, 3)
    maps = lists(tuples(one_of(TEXT, pool(None, 1, True, 1.5)), values), 3).map(dict)
    return one_of(
        members,
        members.map(tuple),
        members.map(collections.deque),
        maps,
        maps.map(types.MappingProxyType),
        maps.map(lambda items: BoundedAttributes(attributes=items)),
    )


CONTAINERS = one_of(
    _containers(SCALARS),
    _containers(one_of(SCALARS, _containers(one_of(SCALARS, _containers(SCALARS))))),
    lists(TEXT, 3).map(tuple),
    pool(range(3), bytearray(b"ab"), memoryview(b"ab"), Point(1, "a"), collections.Counter("a"), (), [], {}),
    pool((True, 1, 1.0), (1, True), (1.0,), (1,), (True,), ("a",), ("a", "b"), (Text("a"),), ("a", None)),
    pool({"a": {"b": (1,)}}, {"": [None, [], {}]}),
)
VALUES = one_of(SCALARS, SCALARS, CONTAINERS)
ODD_VALUES = one_of(UNENCODABLE, _containers(one_of(SCALARS, UNENCODABLE)))
ODD_KEYS = pool("\ud800", None, 1, True, b"bytes", b"\xff", "", Colour.RED, Text("a"), 1.0)


def _attributes(keys: Maker, values: Maker) -> Maker:
    return lists(tuples(keys, values), 3).map(dict)


def _bounded(attributes: dict[Any, Any], dropped: int = 0, immutable: bool = True) -> BoundedAttributes:
    container = BoundedAttributes(attributes=attributes, immutable=immutable)
    container.dropped = dropped
    return container


PLAIN = _attributes(TEXT, VALUES)
ODD = one_of(_attributes(TEXT, ODD_VALUES), _attributes(ODD_KEYS, VALUES))
DROPPED = pool(0, 1, 127, 128, 2**32 - 1)
ATTRIBUTES = one_of(PLAIN, PLAIN.map(_bounded), pool(None))
ODD_ATTRIBUTES = one_of(
    ODD,
    ODD.map(_bounded),
    PLAIN.map(types.MappingProxyType),
    tuples(PLAIN, one_of(DROPPED, pool(-1, 2**32)), pool(False, True)).map(lambda parts: _bounded(*parts)),
    pool([], (), [("a", 1)], "text", 5, {"a": FailsWhenLookedAt(), "b": 1}),
)

TIMES = integers(1, 2**64 - 1)
ODD_TIMES = pool(0, None, -1, 2**64, 1.5, "now", Size.SMALL)
TRACE_IDS, ODD_TRACE_IDS = integers(1, 2**128 - 1), pool(0, -1, 2**128, 1)
SPAN_IDS, ODD_SPAN_IDS = integers(1, 2**64 - 1), pool(0, -1, 2**64, 1)
ODD_TEXT = pool("\ud800", None, b"bytes", b"\xff", 5, Colour.RED, Text("x"), "", object())
TRACE_STATES = pool(None, TraceState(), TraceState([("a", "1"), ("c@d", "two")]))
NAMES = pool("GET", "GET /items/{id}", "käse", "\U0001f4a9" * 40, "x" * 127, "x" * 128, "y" * 300, "\0", "a", "b", "c")
CONTEXTS = pool(
    *(
        SpanContext(trace_id, span_id, is_remote, trace_flags, trace_state)
        for trace_id, span_id in (
            (1, 2**64 - 1),
            (2**128 - 1, 1),
            (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331),
        )
        for is_remote, trace_flags in ((False, TraceFlags(1)), (True, TraceFlags(0)))
        for trace_state in (None, TraceState(), TraceState([("a", "1"), ("c@d", "two")]))
    )
)
ODD_CONTEXTS = one_of(
    built(
        SpanContext,
        trace_id=(TRACE_IDS, ODD_TRACE_IDS),
        span_id=(SPAN_IDS, ODD_SPAN_IDS),
        is_remote=(pool(False, True), pool(None, 1)),
        trace_flags=(pool(TraceFlags(0), TraceFlags(1)), pool(None)),
        trace_state=(TRACE_STATES, pool({"odd": "\ud800"}, {1: 2})),
    ),
    pool(None),
)
URLS = pool(None, "", "https://schema")
# Some are equal, some nearly so, and all are different objects.
RESOURCES = pool(
    *(
        Resource(attributes, url)
        for attributes in (
            *({}, {"service.name": "a"}, {"a": 1}, {"a": True}, {"a": 1.0}, {"b": "x", "a": 1}, {"a": 1, "b": "x"}),
            *({"service.name": "a"}, {"a": 1}),
        )
        for url in (None, "https://schema")
    )
)
SCOPES = pool(
    *(
        InstrumentationScope(name, version, url, attributes)
        for name in ("scope", "a", "")
        for version, url in ((None, None), ("1", "https://schema"), ("1", "https://schema"))
        for attributes in (None, {"a": 1}, {"a": True})
    )
)
ODD_RESOURCES = built(Resource, attributes=(PLAIN, ODD), schema_url=(URLS, ODD_TEXT))
ODD_SCOPES = built(
    InstrumentationScope,
    name=(TEXT, ODD_TEXT),
    version=(TEXT, ODD_TEXT),
    schema_url=(URLS, ODD_TEXT),
    attributes=(PLAIN, ODD),
)


def _bounded_list(members: Sequence[Any], dropped: int) -> BoundedList[Any]:
    container: BoundedList[Any] = BoundedList.from_seq(None, members)
    container.dropped = dropped
    return container


def _members(members: Maker) -> tuple[Maker, Maker]:
    several = lists(members, 2)
    usual = one_of(
        pool((), BoundedList(1)), several.map(tuple), tuples(several, DROPPED).map(lambda parts: _bounded_list(*parts))
    )
    return usual, one_of(
        pool(None, 5, [None], BoundedList(0)), several, several.map(lambda members: _bounded_list(members, -1))
    )


EVENTS = built(Event, name=(NAMES, ODD_TEXT), attributes=(ATTRIBUTES, ODD_ATTRIBUTES), timestamp=(TIMES, ODD_TIMES))
LINKS = built(Link, context=(CONTEXTS, ODD_CONTEXTS), attributes=(ATTRIBUTES, ODD_ATTRIBUTES))
STATUSES = pool(*map(Status, StatusCode), Status(StatusCode.ERROR, "käse"), Status(StatusCode.ERROR, "x" * 128))
ODD_STATUSES = pool(None, Status(StatusCode.ERROR, "\ud800"), Status(StatusCode.ERROR, 5), "ok")  # type: ignore[arg-type]


def _spans(span_type: type[ReadableSpan]) -> Any:
    return built(
        span_type,
        name=(NAMES, one_of(TEXT, ODD_TEXT)),
        context=(CONTEXTS, ODD_CONTEXTS),
        parent=(one_of(CONTEXTS, pool(None)), one_of(ODD_CONTEXTS, pool((), 5))),
        resource=(RESOURCES, ODD_RESOURCES),
        attributes=(ATTRIBUTES, ODD_ATTRIBUTES),
        events=_members(EVENTS),
        links=_members(LINKS),
        kind=(pool(*SpanKind), pool(None, 1, StatusCode.OK)),
        status=(STATUSES, ODD_STATUSES),
        start_time=(TIMES, ODD_TIMES),
        end_time=(TIMES, ODD_TIMES),
        instrumentation_scope=(SCOPES, one_of(pool(None), ODD_SCOPES)),
    )


SPAN_BATCHES = lists(one_of(_spans(ReadableSpan), _spans(PublicSpan)), 4)


def _log_record(
    *,
    resource: Resource,
    scope: InstrumentationScope,
    written: bool,
    ids: Sequence[Any],
    trace_flags: Any,
    **fields: Any,
) -> ReadableLogRecord | ReadWriteLogRecord:
    """Make a log record as exporters or, `written`, as processors get it."""
    record = LogRecord(context=Context(), **fields)
    record.trace_id, record.span_id = ids
    record.trace_flags = trace_flags
    if written and isinstance(record.attributes, dict):
        # Attributes that cannot be looked at cannot be cleaned; those that are too many are worth a warning.
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ReadWriteLogRecord(record, resource, scope, LogRecordLimits(max_attributes=3))
    return ReadableLogRecord(record, resource, scope)


LOG_RECORDS = built(
    _log_record,
    resource=(RESOURCES, ODD_RESOURCES),
    scope=(SCOPES, one_of(pool(None), ODD_SCOPES)),
    written=(pool(False, True), pool(False, True)),
    ids=(
        one_of(pool((0, 0)), tuples(TRACE_IDS, SPAN_IDS)),
        tuples(one_of(pool(None), ODD_TRACE_IDS), one_of(pool(None), ODD_SPAN_IDS)),
    ),
    trace_flags=(pool(TraceFlags(0), TraceFlags(1)), pool(-1, 2**32, "2", None, True)),
    timestamp=(TIMES, ODD_TIMES),
    observed_timestamp=(TIMES, ODD_TIMES),
    severity_text=(pool(None, "INFO", "käse", ""), one_of(TEXT, ODD_TEXT)),
    severity_number=(pool(None, *SeverityNumber), pool(5, "x", StatusCode.OK)),
    body=(VALUES, ODD_VALUES),
    attributes=(ATTRIBUTES, ODD_ATTRIBUTES),
    event_name=(pool(None, "event", "käse", ""), one_of(TEXT, ODD_TEXT)),
)
LOG_BATCHES = lists(LOG_RECORDS, 4)

COUNTS, ODD_COUNTS = integers(0, 2**64 - 1), pool(None, -1, 2**64, 1.5, True)
NUMBERS = one_of(INT64, FLOATS, pool(0, 0.0, -0.0, 1, 200))
ODD_NUMBERS = pool(None, True, 2**63, "1", decimal.Decimal("1.5"), Size.SMALL, Ratio(0.5), 10**400)
SUMS, ODD_SUMS = one_of(NUMBERS, pool(None)), pool("1", 10**400, decimal.Decimal("1.5"))
EXEMPLARS = built(
    Exemplar,
    filtered_attributes=(ATTRIBUTES, ODD_ATTRIBUTES),
    value=(NUMBERS, ODD_NUMBERS),
    time_unix_nano=(TIMES, ODD_TIMES),
    span_id=(one_of(pool(None), SPAN_IDS), ODD_SPAN_IDS),
    trace_id=(one_of(pool(None), TRACE_IDS), ODD_TRACE_IDS),
)
EXEMPLAR_LISTS = (one_of(pool([]), lists(EXEMPLARS, 2)), pool(None, (), [None]))
COUNT_LISTS = (
    one_of(lists(SMALL, 4).map(tuple), pool((0, 2**64 - 1), [2**35, 3], (), [])),
    pool(None, [-1], (-1,), [2**64], ("a",), 5, (1.5,)),
)
BOUND_LISTS = (
    one_of(pool((0.0, 5.0, 10.0), (), [1, 2.5]), lists(FLOATS, 4).map(tuple)),
    pool(None, ["a"], (None,), 5),
)
POINT_ATTRIBUTES = _attributes(TEXT, SCALARS)
POINT = {
    "attributes": (POINT_ATTRIBUTES, one_of(ATTRIBUTES, ODD_ATTRIBUTES)),
    "start_time_unix_nano": (TIMES, ODD_TIMES),
    "time_unix_nano": (TIMES, ODD_TIMES),
    "exemplars": EXEMPLAR_LISTS,
}
SUMMARY = {
    "count": (COUNTS, ODD_COUNTS),
    "sum": (SUMS, ODD_SUMS),
    "min": (SUMS, ODD_SUMS),
    "max": (SUMS, ODD_SUMS),
}
NUMBER_POINTS = built(NumberDataPoint, **POINT, value=(NUMBERS, ODD_NUMBERS))
HISTOGRAM_POINTS = built(HistogramDataPoint, **POINT, **SUMMARY, bucket_counts=COUNT_LISTS, explicit_bounds=BOUND_LISTS)
OFFSETS, ODD_OFFSETS = one_of(integers(-300, 300), pool(2**31 - 1, -(2**31), 0)), pool(None, 2**31, 1.5)
BUCKETS = built(Buckets, offset=(OFFSETS, ODD_OFFSETS), bucket_counts=COUNT_LISTS)
EXPONENTIAL_POINTS = built(
    ExponentialHistogramDataPoint,
    **POINT,
    **SUMMARY,
    scale=(OFFSETS, ODD_OFFSETS),
    zero_count=(COUNTS, ODD_COUNTS),
    positive=(BUCKETS, pool(None)),
    negative=(BUCKETS, pool(None)),
    flags=(DROPPED, pool(-1, 2**32, None)),
)
TEMPORALITY = (pool(*AggregationTemporality), pool(None, "DELTA", 2**31, -1, 2, True))
DATA = one_of(
    built(Gauge, data_points=(lists(NUMBER_POINTS, 3), pool(()))),
    built(
        Sum,
        data_points=(lists(NUMBER_POINTS, 3), pool(())),
        aggregation_temporality=TEMPORALITY,
        is_monotonic=(pool(False, True), pool(None, 1, "yes")),
    ),
    built(
        Histogram,
        data_points=(lists(HISTOGRAM_POINTS, 3), pool(())),
        aggregation_temporality=TEMPORALITY,
    ),
    built(
        ExponentialHistogram,
        data_points=(lists(EXPONENTIAL_POINTS, 3), pool(())),
        aggregation_temporality=TEMPORALITY,
    ),
)
METRICS = built(
    Metric,
    name=(NAMES, one_of(TEXT, ODD_TEXT)),
    description=(NAMES, ODD_TEXT),
    unit=(pool("", "ms", "{käse}"), ODD_TEXT),
    data=(DATA, pool("no data")),
)


def _unique(owner: str) -> Callable[[list[Any]], list[Any]]:
    """Keep the first of equal owners: the stock encoder loses all but the last, which the SDK never hands out."""

    def keep(members: list[Any]) -> list[Any]:
        by_value: dict[Any, Any] = {}
        for member in members:
            by_value.setdefault(getattr(member, owner), member)
        return list(by_value.values())

    return keep


SCOPE_METRICS = built(
    ScopeMetrics, scope=(SCOPES, ODD_SCOPES), metrics=(lists(METRICS, 2), pool([])), schema_url=(URLS, URLS)
)
RESOURCE_METRICS = built(
    ResourceMetrics,
    resource=(RESOURCES, ODD_RESOURCES),
    scope_metrics=(lists(SCOPE_METRICS, 2).map(_unique("scope")), pool([])),
    schema_url=(URLS, URLS),
)
METRIC_BATCHES = lists(RESOURCE_METRICS, 2).map(_unique("resource")).map(MetricsData)


class _CountingLogger:
    """Stands for the stock encoder's logger, which it tells of every attribute that it leaves out."""

    def __init__(self) -> None:
        self.count = 0

    def exception(self, *arguments: object) -> None:
        self.count += 1


@contextlib.contextmanager
def attribute_failures() -> Iterator[_CountingLogger]:
    """Count the attributes that the stock encoder leaves out."""
    counter = _CountingLogger()
    before = stock._logger
    stock._logger = counter  # type: ignore[assignment]
    try:
        yield counter
    finally:
        stock._logger = before
