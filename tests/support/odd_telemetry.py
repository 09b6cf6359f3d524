"""Hypothesis strategies for the SDK's telemetry objects: mostly ordinary, sometimes odd in every way there is."""

from __future__ import annotations

import collections
import contextlib
import decimal
import enum
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st
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


def built(factory: Callable[..., Any], **fields: tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]) -> Any:
    """Build objects by keyword: most have ordinary values in every field, some an odd one in one of them.

    Args:
        factory: what makes an object.
        fields: the ordinary and the odd values of each field.
    """
    choices = [*[""] * (3 * len(fields)), *fields]

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        odd_field = draw(st.sampled_from(choices))
        return factory(**{name: draw(odd if name == odd_field else usual) for name, (usual, odd) in fields.items()})

    return build()


def pool(*values: Any) -> st.SearchStrategy[Any]:
    """Give one of some values."""
    return st.sampled_from(values)


INT64 = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(0, 300)
TEXT = st.one_of(
    pool("GET", "http.method", "käse", "\U0001f4a9" * 40, "x" * 127, "x" * 128, "y" * 300, "\0", "a", "b", "c"),
    st.text(max_size=6),
)
SURROGATES = pool("\ud800", "a\udfff", "\udc80b")
SCALARS = st.one_of(
    INT64,
    st.floats(),
    TEXT,
    st.binary(max_size=8),
    pool(None, 0, 1, 0.0, -0.0, 1.0, True, False, -1, 2**63 - 1, -(2**63), 127, 128, 16383, 16384, 2**21, 2**28, 2**35),
    pool(Colour.RED, Size.SMALL, Size.NEGATIVE, Text("x"), Ratio(0.5), Blob(b"x"), TraceFlags(1)),
)
UNENCODABLE = pool(
    *("\ud800", 2**63, -(2**63) - 1, 2**64, 10**30, object(), decimal.Decimal(1), 1j, {1}, frozenset("a"), int, ...)
)


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(values, max_size=3)
    maps = st.lists(st.tuples(st.one_of(TEXT, pool(None, 1, True, 1.5)), values), max_size=3).map(dict)
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(collections.deque),
        maps,
        maps.map(types.MappingProxyType),
        maps.map(lambda items: BoundedAttributes(attributes=items)),
    )


CONTAINERS = st.one_of(
    st.recursive(SCALARS, _containers, max_leaves=5),
    st.lists(TEXT, max_size=3).map(tuple),
    pool(range(3), bytearray(b"ab"), memoryview(b"ab"), Point(1, "a"), collections.Counter("a"), (), [], {}),
    pool(
        (True, 1, 1.0),
        (1, True),
        (1.0,),
        (1,),
        (True,),
        ("a",),
        ("a", "b"),
        (Text("a"),),
        ("a", None),
        {"a": {"b": (1,)}},
    ),
)
VALUES = st.one_of(SCALARS, CONTAINERS)
ODD_VALUES = st.one_of(UNENCODABLE, st.recursive(UNENCODABLE, _containers, max_leaves=2))
ODD_KEYS = pool("\ud800", None, 1, True, b"bytes", b"\xff", "", Colour.RED, Text("a"), 1.0)


def _attributes(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[Any, Any]]:
    return st.lists(st.tuples(keys, values), max_size=4).map(dict)


def _bounded(attributes: dict[Any, Any], dropped: int = 0, *, immutable: bool = True) -> BoundedAttributes:
    container = BoundedAttributes(attributes=attributes, immutable=immutable)
    container.dropped = dropped
    return container


PLAIN = _attributes(TEXT, VALUES)
ODD = st.one_of(_attributes(TEXT, ODD_VALUES), _attributes(ODD_KEYS, VALUES))
DROPPED = pool(0, 1, 127, 128, 2**32 - 1)
ATTRIBUTES = st.one_of(PLAIN, PLAIN.map(_bounded), st.none())
ODD_ATTRIBUTES = st.one_of(
    ODD,
    ODD.map(_bounded),
    PLAIN.map(types.MappingProxyType),
    st.builds(_bounded, PLAIN, st.one_of(DROPPED, pool(-1, 2**32)), immutable=st.booleans()),
    pool([], (), [("a", 1)], "text", 5, {"a": FailsWhenLookedAt(), "b": 1}),
)

TIMES = st.one_of(st.integers(1, 2**63), pool(1, 2**64 - 1, 1_700_000_000_000_000_000))
ODD_TIMES = pool(0, None, -1, 2**64, 1.5, "now", Size.SMALL)
TRACE_IDS, ODD_TRACE_IDS = st.integers(1, 2**128 - 1), pool(0, -1, 2**128, 1)
SPAN_IDS, ODD_SPAN_IDS = st.integers(1, 2**64 - 1), pool(0, -1, 2**64, 1)
ODD_TEXT = pool("\ud800", None, b"bytes", b"\xff", 5, Colour.RED, Text("x"), "", object())
TRACE_STATES = pool(None, TraceState(), TraceState([("a", "1"), ("c@d", "two")]))
CONTEXTS = built(
    SpanContext,
    trace_id=(TRACE_IDS, ODD_TRACE_IDS),
    span_id=(SPAN_IDS, ODD_SPAN_IDS),
    is_remote=(st.booleans(), pool(None, 1)),
    trace_flags=(pool(TraceFlags(0), TraceFlags(1)), pool(None)),
    trace_state=(TRACE_STATES, pool({"odd": "\ud800"}, {1: 2})),
)
FEW_ATTRIBUTES = pool(
    {}, {"service.name": "a"}, {"a": 1}, {"a": True}, {"a": 1.0}, {"b": "x", "a": 1}, {"a": 1, "b": "x"}
)
URLS = pool(None, "", "https://schema")
RESOURCES = st.one_of(
    pool(Resource({"service.name": "shop"}), Resource({"a": 1, "b": "x"}), Resource({"b": "x", "a": 1})),
    st.builds(Resource, FEW_ATTRIBUTES, URLS),
)
ODD_RESOURCES = built(Resource, attributes=(PLAIN, ODD), schema_url=(URLS, ODD_TEXT))
SCOPES = st.one_of(
    pool(InstrumentationScope("scope", "1"), InstrumentationScope("other")),
    st.builds(InstrumentationScope, pool("scope", "a", ""), pool(None, "1"), URLS, FEW_ATTRIBUTES),
)
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


def _members(members: st.SearchStrategy[Any]) -> tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]:
    several = st.lists(members, max_size=2)
    usual = st.one_of(pool((), BoundedList(1)), several.map(tuple), st.builds(_bounded_list, several, DROPPED))
    return usual, st.one_of(pool(None, 5, [None], BoundedList(0)), several, st.builds(_bounded_list, several, pool(-1)))


EVENTS = built(Event, name=(TEXT, ODD_TEXT), attributes=(ATTRIBUTES, ODD_ATTRIBUTES), timestamp=(TIMES, ODD_TIMES))
LINKS = built(Link, context=(CONTEXTS, st.none()), attributes=(ATTRIBUTES, ODD_ATTRIBUTES))
STATUSES = st.one_of(st.builds(Status, st.sampled_from(StatusCode)), st.builds(Status, st.just(StatusCode.ERROR), TEXT))
ODD_STATUSES = pool(None, Status(StatusCode.ERROR, "\ud800"), Status(StatusCode.ERROR, 5), "ok")  # type: ignore[arg-type]


def _spans(span_type: type[ReadableSpan]) -> Any:
    return built(
        span_type,
        name=(TEXT, ODD_TEXT),
        context=(CONTEXTS, st.none()),
        parent=(st.one_of(st.none(), CONTEXTS), pool((), 5)),
        resource=(RESOURCES, ODD_RESOURCES),
        attributes=(ATTRIBUTES, ODD_ATTRIBUTES),
        events=_members(EVENTS),
        links=_members(LINKS),
        kind=(st.sampled_from(SpanKind), pool(None, 1, StatusCode.OK)),
        status=(STATUSES, ODD_STATUSES),
        start_time=(TIMES, ODD_TIMES),
        end_time=(TIMES, ODD_TIMES),
        instrumentation_scope=(SCOPES, st.one_of(st.none(), ODD_SCOPES)),
    )


SPAN_BATCHES = st.lists(st.one_of(_spans(ReadableSpan), _spans(PublicSpan)), max_size=4)


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
    scope=(SCOPES, st.one_of(st.none(), ODD_SCOPES)),
    written=(st.booleans(), st.booleans()),
    ids=(
        st.one_of(pool((0, 0)), st.tuples(TRACE_IDS, SPAN_IDS)),
        st.tuples(st.one_of(st.none(), ODD_TRACE_IDS), st.one_of(st.none(), ODD_SPAN_IDS)),
    ),
    trace_flags=(pool(TraceFlags(0), TraceFlags(1)), pool(-1, 2**32, "2", None, True)),
    timestamp=(TIMES, ODD_TIMES),
    observed_timestamp=(TIMES, ODD_TIMES),
    severity_text=(st.one_of(st.none(), TEXT), ODD_TEXT),
    severity_number=(st.one_of(st.none(), st.sampled_from(SeverityNumber)), pool(5, "x", StatusCode.OK)),
    body=(VALUES, ODD_VALUES),
    attributes=(ATTRIBUTES, ODD_ATTRIBUTES),
    event_name=(st.one_of(st.none(), TEXT), ODD_TEXT),
)
LOG_BATCHES = st.lists(LOG_RECORDS, max_size=4)

COUNTS, ODD_COUNTS = st.one_of(SMALL, pool(0, 127, 128, 2**64 - 1)), pool(None, -1, 2**64, 1.5, True)
NUMBERS = st.one_of(SMALL, INT64, st.floats(), pool(0, 0.0, -0.0))
ODD_NUMBERS = pool(None, True, 2**63, "1", decimal.Decimal("1.5"), Size.SMALL, Ratio(0.5), 10**400)
SUMS, ODD_SUMS = st.one_of(NUMBERS, st.none()), pool("1", 10**400, decimal.Decimal("1.5"))
EXEMPLARS = built(
    Exemplar,
    filtered_attributes=(ATTRIBUTES, ODD_ATTRIBUTES),
    value=(NUMBERS, ODD_NUMBERS),
    time_unix_nano=(TIMES, ODD_TIMES),
    span_id=(st.one_of(st.none(), SPAN_IDS), ODD_SPAN_IDS),
    trace_id=(st.one_of(st.none(), TRACE_IDS), ODD_TRACE_IDS),
)
EXEMPLAR_LISTS = (st.one_of(pool([]), st.lists(EXEMPLARS, max_size=2)), pool(None, (), [None]))
COUNT_LISTS = (
    st.one_of(st.lists(SMALL, max_size=4).map(tuple), pool((0, 2**64 - 1), [2**35, 3], (), [])),
    pool(None, [-1], (-1,), [2**64], ("a",), 5, (1.5,)),
)
BOUND_LISTS = (
    st.one_of(pool((0.0, 5.0, 10.0), (), [1, 2.5]), st.lists(st.floats(), max_size=4).map(tuple)),
    pool(None, ["a"], (None,), 5),
)
POINT = {
    "attributes": (_attributes(TEXT, SCALARS), st.one_of(ATTRIBUTES, ODD_ATTRIBUTES)),
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
OFFSETS, ODD_OFFSETS = st.one_of(st.integers(-300, 300), pool(2**31 - 1, -(2**31), 0)), pool(None, 2**31, 1.5)
BUCKETS = built(Buckets, offset=(OFFSETS, ODD_OFFSETS), bucket_counts=COUNT_LISTS)
EXPONENTIAL_POINTS = built(
    ExponentialHistogramDataPoint,
    **POINT,
    **SUMMARY,
    scale=(OFFSETS, ODD_OFFSETS),
    zero_count=(COUNTS, ODD_COUNTS),
    positive=(BUCKETS, st.none()),
    negative=(BUCKETS, st.none()),
    flags=(DROPPED, pool(-1, 2**32, None)),
)
TEMPORALITY = (st.sampled_from(AggregationTemporality), pool(None, "DELTA", 2**31, -1, 2, True))
DATA = st.one_of(
    built(Gauge, data_points=(st.lists(NUMBER_POINTS, max_size=3), pool(()))),
    built(
        Sum,
        data_points=(st.lists(NUMBER_POINTS, max_size=3), pool(())),
        aggregation_temporality=TEMPORALITY,
        is_monotonic=(st.booleans(), pool(None, 1, "yes")),
    ),
    built(
        Histogram,
        data_points=(st.lists(HISTOGRAM_POINTS, max_size=3), pool(())),
        aggregation_temporality=TEMPORALITY,
    ),
    built(
        ExponentialHistogram,
        data_points=(st.lists(EXPONENTIAL_POINTS, max_size=3), pool(())),
        aggregation_temporality=TEMPORALITY,
    ),
)
METRICS = built(
    Metric, name=(TEXT, ODD_TEXT), description=(TEXT, ODD_TEXT), unit=(TEXT, ODD_TEXT), data=(DATA, pool("no data"))
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
    ScopeMetrics, scope=(SCOPES, ODD_SCOPES), metrics=(st.lists(METRICS, max_size=2), pool([])), schema_url=(URLS, URLS)
)
RESOURCE_METRICS = built(
    ResourceMetrics,
    resource=(RESOURCES, ODD_RESOURCES),
    scope_metrics=(st.lists(SCOPE_METRICS, max_size=2).map(_unique("scope")), pool([])),
    schema_url=(URLS, URLS),
)
METRIC_BATCHES = st.builds(MetricsData, st.lists(RESOURCE_METRICS, max_size=2).map(_unique("resource")))


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
