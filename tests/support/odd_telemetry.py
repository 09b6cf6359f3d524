"""Hypothesis strategies for the SDK's telemetry objects: mostly ordinary, sometimes odd in every way there is."""

from __future__ import annotations

import collections
import contextlib
import decimal
import enum
import types
import warnings
from collections.abc import Iterator, Sequence
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


def mostly(ordinary: st.SearchStrategy[Any], odd: st.SearchStrategy[Any], share: int = 40) -> st.SearchStrategy[Any]:
    """Draw from `odd` once in `share` times."""
    return st.integers(1, share).flatmap(lambda number: odd if number == share else ordinary)


INT64 = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(0, 300)
DROPPED = st.sampled_from([0, 0, 0, 1, 127, 128, 2**32 - 1])
TEXT = st.one_of(
    st.sampled_from(["GET", "http.method", "käse", "\U0001f4a9" * 40, "x" * 127, "x" * 128, "y" * 20_000, "\0"]),
    st.text(max_size=8),
)
SURROGATES = st.sampled_from(["\ud800", "a\udfff", "\udc80b"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    SMALL,
    INT64,
    st.floats(),
    TEXT,
    st.binary(max_size=8),
    st.sampled_from([0, 1, 0.0, -0.0, 1.0, True, False, -1, 2**63 - 1, -(2**63), 127, 128, 16383, 16384, 2**21, 2**28]),
    st.sampled_from([Colour.RED, Size.SMALL, Size.NEGATIVE, Text("x"), Ratio(0.5), Blob(b"x"), TraceFlags(1)]),
)
UNENCODABLE = st.one_of(
    SURROGATES,
    st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**30]),
    st.builds(object),
    st.sampled_from([decimal.Decimal(1), 1j, {1}, frozenset("a"), int, ...]),
)


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(values, max_size=3)
    keys = st.one_of(TEXT, SMALL, st.none(), st.booleans())
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(collections.deque),
        st.lists(TEXT, max_size=3).map(tuple),
        st.dictionaries(keys, values, max_size=3),
        st.dictionaries(TEXT, values, max_size=3).map(types.MappingProxyType),
        st.dictionaries(TEXT, values, max_size=3).map(lambda items: BoundedAttributes(attributes=items)),
    )


ODD_CONTAINERS = st.sampled_from(
    [
        range(3),
        bytearray(b"ab"),
        memoryview(b"ab"),
        Point(1, "a"),
        (True, 1, 1.0),
        (1, True),
        (1.0,),
        collections.Counter("a"),
    ]
)
VALUES = st.one_of(SCALARS, SCALARS, TEXT, st.recursive(SCALARS, _containers, max_leaves=6), ODD_CONTAINERS)
ANY_VALUES = mostly(VALUES, st.one_of(UNENCODABLE, st.recursive(UNENCODABLE, _containers, max_leaves=3)))
KEYS = mostly(
    TEXT,
    st.one_of(SURROGATES, st.sampled_from([None, 1, True, b"bytes", b"\xff", "", Colour.RED, Text("a")])),
)
CLEANABLE_ATTRIBUTES = st.dictionaries(KEYS, ANY_VALUES, max_size=5)
PLAIN_ATTRIBUTES = st.dictionaries(KEYS, mostly(ANY_VALUES, st.builds(FailsWhenLookedAt), 80), max_size=5)


def _bounded(attributes: dict[Any, Any], dropped: int, immutable: bool) -> BoundedAttributes:
    container = BoundedAttributes(attributes=attributes, immutable=immutable)
    container.dropped = dropped
    return container


BOUNDED_ATTRIBUTES = st.builds(_bounded, CLEANABLE_ATTRIBUTES, DROPPED, st.booleans())
ATTRIBUTES = mostly(
    st.one_of(PLAIN_ATTRIBUTES, BOUNDED_ATTRIBUTES, st.none()),
    st.one_of(
        PLAIN_ATTRIBUTES.map(types.MappingProxyType),
        st.sampled_from([[], (), [("a", 1)], "text", 5]),
        st.builds(_bounded, CLEANABLE_ATTRIBUTES, st.sampled_from([-1, 2**32]), st.just(True)),
    ),
)

TIMES = mostly(
    st.one_of(st.integers(1, 2**63), st.sampled_from([0, 1, 2**64 - 1, 1_700_000_000_000_000_000])),
    st.sampled_from([None, -1, 2**64, 1.5, "now", Size.SMALL]),
)
TRACE_IDS = mostly(st.integers(1, 2**128 - 1), st.sampled_from([0, -1, 2**128]))
SPAN_IDS = mostly(st.integers(1, 2**64 - 1), st.sampled_from([0, -1, 2**64]))
NAMES = mostly(
    TEXT, st.one_of(SURROGATES, st.sampled_from([None, b"bytes", b"\xff", 5, Colour.RED, Text("x"), "", object()]))
)
TRACE_STATES = st.one_of(
    st.none(),
    st.just(TraceState()),
    st.lists(st.tuples(st.sampled_from(["a", "b", "c@d"]), st.sampled_from(["1", "two"])), max_size=2).map(TraceState),
)
CONTEXTS = mostly(
    st.builds(
        SpanContext,
        TRACE_IDS,
        SPAN_IDS,
        is_remote=st.booleans(),
        trace_flags=st.sampled_from([TraceFlags(0), TraceFlags(1)]),
        trace_state=TRACE_STATES,
    ),
    st.sampled_from([SpanContext(1, 2, is_remote=True, trace_state={"odd": "\ud800"})]),  # type: ignore[arg-type]
)
RESOURCE_ATTRIBUTES = st.sampled_from(
    [{}, {"service.name": "a"}, {"a": 1}, {"a": True}, {"a": 1.0}, {"b": "x", "a": 1}]
)
RESOURCES = mostly(
    st.one_of(
        st.sampled_from(
            [Resource({"service.name": "shop"}), Resource({"a": 1, "b": "x"}), Resource({"b": "x", "a": 1})]
        ),
        st.builds(Resource, RESOURCE_ATTRIBUTES, st.sampled_from([None, "", "https://schema"])),
    ),
    st.builds(Resource, CLEANABLE_ATTRIBUTES, NAMES),
)
SCOPES = mostly(
    st.one_of(
        st.sampled_from([InstrumentationScope("scope", "1"), InstrumentationScope("other")]),
        st.builds(
            InstrumentationScope,
            st.sampled_from(["scope", "a", ""]),
            st.sampled_from([None, "1"]),
            st.sampled_from([None, "https://schema"]),
            RESOURCE_ATTRIBUTES,
        ),
    ),
    st.one_of(st.none(), st.builds(InstrumentationScope, NAMES, NAMES, NAMES, CLEANABLE_ATTRIBUTES)),
)


def _bounded_list(members: Sequence[Any], dropped: int) -> BoundedList[Any]:
    container: BoundedList[Any] = BoundedList.from_seq(None, members)
    container.dropped = dropped
    return container


def _members(members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(members, max_size=2)
    return mostly(
        st.one_of(st.just(()), several, several.map(tuple), st.builds(_bounded_list, several, DROPPED)),
        st.sampled_from([None, 5, [None]]),
    )


EVENTS = st.builds(Event, NAMES, ATTRIBUTES, TIMES)
LINKS = st.builds(Link, CONTEXTS, ATTRIBUTES)
STATUSES = mostly(
    st.one_of(st.builds(Status, st.sampled_from(StatusCode)), st.builds(Status, st.just(StatusCode.ERROR), TEXT)),
    st.sampled_from([None, Status(StatusCode.ERROR, "\ud800"), Status(StatusCode.ERROR, 5), "ok"]),  # type: ignore[arg-type]
)


def _spans(span_type: type[ReadableSpan]) -> st.SearchStrategy[ReadableSpan]:
    return st.builds(
        span_type,
        name=NAMES,
        context=mostly(CONTEXTS, st.none(), 80),
        parent=st.one_of(st.none(), CONTEXTS),
        resource=RESOURCES,
        attributes=ATTRIBUTES,
        events=_members(EVENTS),
        links=_members(LINKS),
        kind=mostly(st.sampled_from(SpanKind), st.sampled_from([None, 1, StatusCode.OK]), 80),
        status=STATUSES,
        start_time=TIMES,
        end_time=TIMES,
        instrumentation_scope=SCOPES,
    )


SPANS = mostly(_spans(ReadableSpan), _spans(PublicSpan))
SPAN_BATCHES = st.lists(SPANS, max_size=4)


@st.composite
def log_records(draw: st.DrawFn) -> ReadableLogRecord | ReadWriteLogRecord:
    """Give log records as processors and as exporters get them."""
    record = LogRecord(
        timestamp=draw(TIMES),
        observed_timestamp=draw(TIMES),
        context=Context(),
        severity_text=draw(NAMES),
        severity_number=draw(mostly(st.one_of(st.none(), st.sampled_from(SeverityNumber)), st.sampled_from([5, "x"]))),
        body=draw(ANY_VALUES),
        attributes=draw(ATTRIBUTES),
        event_name=draw(st.one_of(st.none(), NAMES)),
    )
    record.trace_id = draw(st.one_of(st.just(0), TRACE_IDS))
    record.span_id = draw(st.one_of(st.just(0), SPAN_IDS, mostly(st.just(0), st.none())))
    record.trace_flags = draw(
        mostly(st.sampled_from([TraceFlags(0), TraceFlags(1)]), st.sampled_from([-1, 2**32, "2"]))
    )
    resource, scope = draw(RESOURCES), draw(SCOPES)
    if isinstance(record.attributes, dict) and draw(st.booleans()):
        # Attributes that cannot be looked at cannot be cleaned; those that are too many are worth a warning.
        with contextlib.suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ReadWriteLogRecord(record, resource, scope, LogRecordLimits(max_attributes=3))
    return ReadableLogRecord(record, resource, scope)


LOG_BATCHES = st.lists(log_records(), max_size=4)

COUNTS = mostly(st.one_of(SMALL, st.sampled_from([0, 127, 128, 2**64 - 1])), st.sampled_from([None, -1, 2**64, 1.5]))
NUMBERS = mostly(
    st.one_of(SMALL, INT64, st.floats(), st.sampled_from([0, 0.0, -0.0])),
    st.sampled_from([None, True, 2**63, "1", decimal.Decimal("1.5"), Size.SMALL, Ratio(0.5), 10**400]),
)
EXTREMES = mostly(st.one_of(st.none(), st.floats(), SMALL), st.sampled_from(["1", 10**400]))
EXEMPLARS = st.builds(
    Exemplar,
    ATTRIBUTES,
    NUMBERS,
    TIMES,
    st.one_of(st.none(), SPAN_IDS),
    st.one_of(st.none(), TRACE_IDS),
)
EXEMPLAR_LISTS = mostly(st.lists(EXEMPLARS, max_size=2), st.sampled_from([None, (), [None]]))
COUNT_LISTS = mostly(
    st.one_of(st.lists(SMALL, max_size=4), st.lists(SMALL, max_size=4).map(tuple), st.just([0, 2**64 - 1, 2**35])),
    st.sampled_from([None, [-1], [2**64], ["a"], 5]),
)
BOUND_LISTS = mostly(
    st.one_of(st.just((0.0, 5.0, 10.0)), st.lists(st.floats(), max_size=4).map(tuple), st.lists(SMALL, max_size=4)),
    st.sampled_from([None, ["a"], (None,), 5]),
)
POINT_ATTRIBUTES = mostly(st.dictionaries(TEXT, SCALARS, max_size=3), ATTRIBUTES)
NUMBER_POINTS = st.builds(NumberDataPoint, POINT_ATTRIBUTES, TIMES, TIMES, NUMBERS, EXEMPLAR_LISTS)
HISTOGRAM_POINTS = st.builds(
    HistogramDataPoint,
    POINT_ATTRIBUTES,
    TIMES,
    TIMES,
    COUNTS,
    mostly(NUMBERS, st.none()),
    COUNT_LISTS,
    BOUND_LISTS,
    EXTREMES,
    EXTREMES,
    EXEMPLAR_LISTS,
)
OFFSETS = mostly(
    st.one_of(st.integers(-300, 300), st.sampled_from([2**31 - 1, -(2**31)])), st.sampled_from([None, 2**31])
)
BUCKETS = mostly(st.builds(Buckets, OFFSETS, COUNT_LISTS), st.none(), 80)
EXPONENTIAL_POINTS = st.builds(
    ExponentialHistogramDataPoint,
    POINT_ATTRIBUTES,
    TIMES,
    TIMES,
    COUNTS,
    mostly(NUMBERS, st.none()),
    OFFSETS,
    COUNTS,
    BUCKETS,
    BUCKETS,
    DROPPED,
    EXTREMES,
    EXTREMES,
    EXEMPLAR_LISTS,
)
TEMPORALITIES = mostly(st.sampled_from(AggregationTemporality), st.sampled_from([None, "DELTA", 2**31]), 80)
DATA = st.one_of(
    st.builds(Gauge, st.lists(NUMBER_POINTS, max_size=3)),
    st.builds(
        Sum, st.lists(NUMBER_POINTS, max_size=3), TEMPORALITIES, mostly(st.booleans(), st.sampled_from([None, 1]), 80)
    ),
    st.builds(Histogram, st.lists(HISTOGRAM_POINTS, max_size=3), TEMPORALITIES),
    st.builds(ExponentialHistogram, st.lists(EXPONENTIAL_POINTS, max_size=3), TEMPORALITIES),
)
METRICS = st.builds(Metric, NAMES, NAMES, NAMES, mostly(DATA, st.just("no data"), 80))
SCOPE_METRICS = st.builds(
    ScopeMetrics, SCOPES.filter(lambda scope: scope is not None), st.lists(METRICS, max_size=2), st.just("")
)


def _unique(owner: str) -> Any:
    """Keep the first of equal owners: the stock encoder loses all but the last, which the SDK never hands out."""

    def keep(members: list[Any]) -> list[Any]:
        by_value: dict[Any, Any] = {}
        for member in members:
            by_value.setdefault(getattr(member, owner), member)
        return list(by_value.values())

    return keep


RESOURCE_METRICS = st.builds(
    ResourceMetrics, RESOURCES, st.lists(SCOPE_METRICS, max_size=2).map(_unique("scope")), st.just("")
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
