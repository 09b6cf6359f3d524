"""One line for people per span, log record, data point, dead letter, or entry of another kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from comet_cli.opening import moment_text
from comet_cli.otlp_json import NotTelemetryError, parse_request
from comet_otel.streams import Signal, route_of_stream
from comet_otel.wire.levels import METRIC_DATA
from comet_storage import StreamMessage
from shipper.delivery.dead_letters import STREAM as DEAD_LETTERS
from shipper.delivery.dead_letters import NotADeadLetterError, decode

_TEXT_CHARACTERS = 500
_STATUS_ERROR = 2
_SERVICE = "service.name"


def message_lines(message: StreamMessage) -> Iterator[str]:
    """The lines of one entry; nothing in them controls a terminal."""
    stream = message.stream.partition(":shard:")[0]
    prefix = f"{stream} {message.id}"
    try:
        if stream == DEAD_LETTERS:
            letter = decode(message.data)
            found = [f"{moment_text(message.timestamp)} {prefix} {letter.destination} {letter.signal} {letter.code}"]
            found[0] += f": {letter.reason}: {letter.message}"
        else:
            signal = route_of_stream(stream).signal
            found = [f"{line[0]} {prefix} {line[1]}" for line in _items(message, signal)]
    except (KeyError, NotTelemetryError, NotADeadLetterError):
        found = [f"{moment_text(message.timestamp)} {prefix} {len(message.data):,} bytes {message.data[:80]!r}"]
    yield from map(printable, found)


def printable(text: str) -> str:
    """Text of at most one line, with escapes for what would move a cursor or change colours."""
    text = text if len(text) <= _TEXT_CHARACTERS else f"{text[:_TEXT_CHARACTERS]}…"
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _items(message: StreamMessage, signal: Signal) -> Iterator[tuple[str, str]]:
    """When each item was, and what it is."""
    request = parse_request(message.data, signal)
    resources = getattr(request, request.DESCRIPTOR.fields[0].name)
    for resource in resources:
        service = next((_value(each.value) for each in resource.resource.attributes if each.key == _SERVICE), "-")
        for scope in getattr(resource, resource.DESCRIPTOR.fields_by_number[2].name):
            for item in getattr(scope, scope.DESCRIPTOR.fields_by_number[2].name):
                for at, text in _ITEM_LINES[signal](item):
                    yield moment_text(at or message.timestamp), f"{service} {text}"


def _span(span: Any) -> Iterator[tuple[int, str]]:
    text = f"{span.name} {(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6:.3f} ms"
    if span.status.code == _STATUS_ERROR:
        text += f" ERROR {span.status.message}".rstrip()
    yield span.start_time_unix_nano, f"{text} trace={span.trace_id.hex()} span={span.span_id.hex()}"


def _log_record(record: Any) -> Iterator[tuple[int, str]]:
    severity = record.severity_text or f"severity {record.severity_number}"
    trace = f" trace={record.trace_id.hex()}" if record.trace_id else ""
    yield record.time_unix_nano or record.observed_time_unix_nano, f"{severity} {_value(record.body)}{trace}"


def _metric(metric: Any) -> Iterator[tuple[int, str]]:
    for number in METRIC_DATA:
        field = metric.DESCRIPTOR.fields_by_number[number]
        if not metric.HasField(field.name):
            continue
        for point in getattr(metric, field.name).data_points:
            attributes = ", ".join(f"{each.key}={_value(each.value)}" for each in point.attributes)
            unit = f" {metric.unit}" if metric.unit else ""
            yield point.time_unix_nano, f"{metric.name}{{{attributes}}} {_point(point)}{unit}"


def _point(point: Any) -> str:
    fields = point.DESCRIPTOR.fields_by_name
    if "as_int" in fields:
        return str(point.as_int if point.HasField("as_int") else point.as_double)
    return f"count={point.count} sum={point.sum:g}"


def _value(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    found = getattr(value, kind)
    if kind == "array_value":
        return f"[{', '.join(map(_value, found.values))}]"
    if kind == "kvlist_value":
        return f"{{{', '.join(f'{each.key}={_value(each.value)}' for each in found.values)}}}"
    return found.hex() if kind == "bytes_value" else str(found)


_ITEM_LINES = {Signal.TRACES: _span, Signal.LOGS: _log_record, Signal.METRICS: _metric}
