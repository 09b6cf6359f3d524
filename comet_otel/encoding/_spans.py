"""Spans as ``Span`` messages. Specification: opentelemetry/proto/trace/v1/trace.proto.

Reads the private fields of the SDK's own classes, recognised by their exact type, because each public property costs a
call; `check` tells whether they are there. Spans of other classes are read by their properties.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, _Span
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from comet_otel.encoding._attributes import AttributeFields, Counted, check_containers, contents, span_contents
from comet_otel.encoding._batch import EncodedBatch
from comet_otel.encoding._fields import check_fields
from comet_otel.encoding._sequence import SequenceCodec
from comet_otel.encoding._wire import (
    Heads,
    TextFields,
    delimited,
    enum_field,
    fixed64_field,
    text_field,
    uint32_field,
)

_ATTRIBUTES: Final = AttributeFields(b"\x4a", 6)
_EVENT_ATTRIBUTES: Final = AttributeFields(b"\x1a", 7)
_LINK_ATTRIBUTES: Final = AttributeFields(b"\x22", 7)
_NAMES: Final = TextFields(b"\x2a")
_EVENT_NAMES: Final = TextFields(b"\x12")
_EVENT_HEADS: Final = Heads(b"\x5a")
_LINK_HEADS: Final = Heads(b"\x6a")

_KINDS: Final = {id(kind): kind.value + 1 for kind in SpanKind}  # members live for ever, and hash slowly
_pack_kind_and_times: Final = struct.Struct("<BBBQBQ").pack
_pack_event_time: Final = struct.Struct("<BQ").pack

# Bits 8 and 9 of the flags: it is known whether the parent (or link) is remote, and it is. Bits 0 to 7, the W3C flags,
# are left empty, as the stock encoder does.
_FLAGS: Final = b"\x85\x01\x00\x01\x00\x00"
_FLAGS_REMOTE: Final = b"\x85\x01\x00\x03\x00\x00"
_LINK_FLAGS: Final = b"\x35\x00\x01\x00\x00"
_LINK_FLAGS_REMOTE: Final = b"\x35\x00\x03\x00\x00"
_STATUSES: Final = {
    id(code): delimited(b"\x7a", bytes((0x18, code.value)) if code.value else b"") for code in StatusCode
}


def _span(span: Any, tally: EncodedBatch) -> bytes:
    """Return the content of a ``Span``; raises whatever makes it unencodable."""
    kind = type(span)
    if kind is not ReadableSpan and kind is not _Span:
        span = _AnySpan(span)
    context = span._context
    if type(context) is SpanContext:
        trace_id, span_id, _, _, trace_state, _ = context
    else:
        trace_id, span_id, trace_state = context.trace_id, context.span_id, context.trace_state
    pieces = [b"\x0a\x10", trace_id.to_bytes(16, "big"), b"\x12\x08", span_id.to_bytes(8, "big")]
    if trace_state is not DEFAULT_TRACE_STATE:
        pieces.append(_trace_state(trace_state))
    parent = span._parent
    flags = _FLAGS
    if parent:
        pieces += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
        if parent.is_remote:
            flags = _FLAGS_REMOTE
    pieces.append(_NAMES[span._name])
    start, end = span._start_time, span._end_time
    if type(start) is int and type(end) is int:
        pieces.append(_pack_kind_and_times(0x30, _KINDS[id(span._kind)], 0x39, start, 0x41, end))
    else:
        pieces += (bytes((0x30, _KINDS[id(span._kind)])), fixed64_field(b"\x39", start), fixed64_field(b"\x41", end))
    attributes = span._attributes
    fields: Mapping[str, Any]
    if type(attributes) is BoundedAttributes and attributes._immutable:
        fields, dropped = attributes._dict, attributes.dropped
    else:
        fields, dropped = span_contents(attributes)
    _ATTRIBUTES.append_to(pieces, fields, tally)
    if dropped:
        pieces.append(uint32_field(b"\x50", dropped))
    _append_members(pieces, span._events, _event, _EVENT_HEADS, b"\x60", tally)
    _append_members(pieces, span._links, _link, _LINK_HEADS, b"\x70", tally)
    pieces.append(_status(span._status))
    pieces.append(flags)
    return b"".join(pieces)


def _append_members(
    pieces: list[bytes],
    container: Any,
    message: Callable[[Any, EncodedBatch], bytes],
    heads: Heads,
    dropped_tag: bytes,
    tally: EncodedBatch,
) -> None:
    """Append the events or the links of a span, and how many of them were dropped."""
    if type(container) is BoundedList:
        members = container._dq  # type: ignore[attr-defined]  # private, so the SDK's stub does not list it
        dropped = container.dropped
    elif type(container) is Counted:
        members, dropped = container
    else:
        members, dropped = container, container.dropped if isinstance(container, BoundedList) else 0
    for member in tuple(members):  # a copy, so that another thread may add one meanwhile
        content = message(member, tally)
        pieces.append(heads[len(content)])
        pieces.append(content)
    if dropped:
        pieces.append(uint32_field(dropped_tag, dropped))


def _event(event: Any, tally: EncodedBatch) -> bytes:
    if type(event) is Event:
        name, timestamp, attributes = event._name, event._timestamp, event._attributes
        fields: Mapping[str, Any]
        if type(attributes) is BoundedAttributes and attributes._immutable:
            fields, dropped = attributes._dict, attributes.dropped
        else:
            fields, dropped = contents(attributes)
    else:
        name, timestamp = event.name, event.timestamp
        fields, dropped = contents(Counted(event.attributes, event.dropped_attributes))
    if type(timestamp) is int:
        pieces = [_pack_event_time(0x09, timestamp), _EVENT_NAMES[name]]
    else:
        pieces = [fixed64_field(b"\x09", timestamp), _EVENT_NAMES[name]]
    _EVENT_ATTRIBUTES.append_to(pieces, fields, tally)
    if dropped:
        pieces.append(uint32_field(b"\x20", dropped))
    return b"".join(pieces)


def _link(link: Any, tally: EncodedBatch) -> bytes:
    context = link.context
    pieces = [
        b"\x0a\x10",
        context.trace_id.to_bytes(16, "big"),
        b"\x12\x08",
        context.span_id.to_bytes(8, "big"),
        _link_trace_state(context),
    ]
    attributes, dropped = contents(Counted(link.attributes, link.dropped_attributes))
    _LINK_ATTRIBUTES.append_to(pieces, attributes, tally)
    pieces.append(uint32_field(b"\x28", dropped))
    pieces.append(_LINK_FLAGS_REMOTE if context and context.is_remote else _LINK_FLAGS)
    return b"".join(pieces)


def _link_trace_state(context: Any) -> bytes:
    """Return the trace state of a link; an odd one costs no more than itself, as the stock encoder never reads it."""
    try:
        return _trace_state(context.trace_state)
    except Exception:  # noqa: BLE001 - a foreign trace state may raise anything when looked at
        return b""


def _trace_state(trace_state: Any) -> bytes:
    if trace_state is None:
        return b""
    return text_field(b"\x1a", ",".join([f"{key}={value}" for key, value in trace_state.items()]))


def _status(status: Any) -> bytes:
    if status is None:
        return b""
    if type(status) is Status:
        code, description = status._status_code, status._description
    else:
        code, description = status.status_code, status.description
    if description is None:
        known = _STATUSES.get(id(code))
        if known is not None:
            return known
    return delimited(b"\x7a", text_field(b"\x12", description) + enum_field(b"\x18", code.value))


class _AnySpan:
    """A span of a foreign class, read by its public properties."""

    __slots__ = (
        "_attributes",
        "_context",
        "_end_time",
        "_events",
        "_kind",
        "_links",
        "_name",
        "_parent",
        "_start_time",
        "_status",
    )

    def __init__(self, span: Any) -> None:
        self._name = span.name
        self._context = span.get_span_context()
        self._parent = span.parent
        self._kind = span.kind
        self._start_time = span.start_time
        self._end_time = span.end_time
        self._status = span.status
        self._attributes = Counted(span.attributes, span.dropped_attributes)
        self._events = Counted(span.events, span.dropped_events)
        self._links = Counted(span.links, span.dropped_links)


def check() -> None:
    """Compare the private fields of the SDK's classes with what they offer in public, on a sample.

    Raises:
        Exception: the classes are not those that this module reads.
    """
    check_containers()
    span = _sample(ReadableSpan)
    check_fields(
        span,
        "_name",
        "_context",
        "_kind",
        "_instrumentation_info",
        "_instrumentation_scope",
        "_parent",
        "_start_time",
        "_end_time",
        "_attributes",
        "_events",
        "_links",
        "_resource",
        "_status",
    )
    check_fields(span.events[0], "_name", "_timestamp", "_attributes")
    check_fields(span.links[0], "_context", "_attributes")
    check_fields(span.status, "_status_code", "_description")
    if not issubclass(_Span, ReadableSpan):
        raise TypeError("spans are not readable any more")
    # A subclass is read by its public properties.
    if _span(span, EncodedBatch()) != _span(_sample(type("PublicSpan", (ReadableSpan,), {})), EncodedBatch()):
        raise TypeError("ReadableSpan differs")


def _sample(span_type: type[ReadableSpan]) -> ReadableSpan:
    """Return a span with something in every field."""
    attributes = BoundedAttributes(attributes={"a": 1, "b": "text"})
    attributes.dropped = 7  # by filling it up it would log a warning
    events: BoundedList[Event] = BoundedList(1)
    events.extend([Event("one", attributes, 1), Event("two", attributes, 2)])
    links: BoundedList[Link] = BoundedList(1)
    links.extend([Link(SpanContext(5, 6, is_remote=True), attributes)] * 2)
    return span_type(
        name="name",
        context=SpanContext(1, 2, is_remote=False, trace_state=TraceState([("a", "b")])),
        parent=SpanContext(3, 4, is_remote=True),
        resource=Resource({}),
        attributes=attributes,
        events=events,
        links=links,
        kind=SpanKind.CLIENT,
        status=Status(StatusCode.ERROR, "text"),
        start_time=7,
        end_time=8,
    )


CODEC: Final[SequenceCodec[ReadableSpan]] = SequenceCodec(_span)
