"""Encoding of batches, by either encoder: one bad item costs only itself, and large batches are cut."""

from __future__ import annotations

import dataclasses
import logging
import threading
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common import _log_encoder, metrics_encoder, trace_encoder
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics.export import MetricsData, Sum
from opentelemetry.trace import Status, StatusCode

from comet_otel.encoding import (
    _choice,
    _stock,
    encode_logs,
    encode_metrics,
    encode_parts,
    encode_spans,
)
from tests.unit.comet_otel.telemetry import log_record, metrics_data, span

UNENCODABLE = object()
NAMES = ("SPANS", "LOG_RECORDS", "METRICS")


@pytest.fixture(params=["direct", "stock"])
def codecs(request) -> dict[str, Any]:
    """The codecs of all signals, by their public names: ours, and those for an SDK that ours does not know."""
    if request.param == "stock":
        return {name: _stock.codec(name) for name in NAMES}
    return {name: _choice.codec(name) for name in NAMES}


def span_numbers(payload: bytes) -> list[int]:
    """Return the numbers that the spans of a request were made from."""
    request = ExportTraceServiceRequest.FromString(payload)
    return [
        int.from_bytes(one.span_id, "big")
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for one in scope_spans.spans
    ]


def point_values(payload: bytes) -> list[tuple[str, str, int]]:
    """Return scope, metric and value of each data point of a request."""
    request = ExportMetricsServiceRequest.FromString(payload)
    return [
        (scope_metrics.scope.name, metric.name, point.as_int)
        for resource_metrics in request.resource_metrics
        for scope_metrics in resource_metrics.scope_metrics
        for metric in scope_metrics.metrics
        for point in metric.sum.data_points
    ]


def test_requests_are_those_of_the_stock_encoder() -> None:
    """A batch without oddities is encoded exactly as the OpenTelemetry project does it."""
    spans = [span(number) for number in range(1, 20)]
    assert encode_spans(spans) == trace_encoder.encode_spans(spans).SerializeToString()
    records = [log_record(f"line {number}") for number in range(20)]
    assert encode_logs(records) == _log_encoder.encode_logs(records).SerializeToString()
    metrics = metrics_data(5, 3)
    assert encode_metrics(metrics) == metrics_encoder.encode_metrics(metrics).SerializeToString()


def test_empty_batches_are_empty_requests() -> None:
    """Nothing becomes nothing, which need not be stored."""
    assert encode_spans([]) == b""
    assert encode_logs(()) == b""
    assert encode_metrics(MetricsData(resource_metrics=[])) == b""


def test_an_unencodable_span_costs_only_itself(codecs) -> None:
    """All other spans of its batch are encoded, in order, and the loss is counted with its reason."""
    spans = [span(number, name=UNENCODABLE if number in {3, 200} else None) for number in range(1, 301)]
    encoded = encode_parts(codecs["SPANS"], spans)
    assert span_numbers(b"".join(encoded.payloads)) == [number for number in range(1, 301) if number not in {3, 200}]
    assert encoded.unencodable_items == 2
    assert isinstance(encoded.first_error, TypeError)


def test_an_unencodable_log_body_costs_only_its_record(codecs) -> None:
    """The stock encoder loses the whole batch to one body that it does not know."""
    encoded = encode_parts(codecs["LOG_RECORDS"], (log_record("one"), log_record(UNENCODABLE), log_record("three")))
    request = ExportLogsServiceRequest.FromString(b"".join(encoded.payloads))
    bodies = [
        record.body.string_value
        for resource_logs in request.resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]
    assert bodies == ["one", "three"]
    assert encoded.unencodable_items == 1


def test_an_unencodable_data_point_costs_only_itself(codecs) -> None:
    """Neither the other points of its metric nor other metrics, scopes and resources are lost with it."""
    data = metrics_data(3, 8, meters=2)
    metric = data.resource_metrics[0].scope_metrics[1].metrics[2]
    assert isinstance(metric.data, Sum)
    points = list(metric.data.data_points)
    points[5] = dataclasses.replace(points[5], value=2**70)
    object.__setattr__(metric, "data", dataclasses.replace(metric.data, data_points=points))

    encoded = encode_parts(codecs["METRICS"], data)

    assert encoded.unencodable_items == 1
    expected = [
        (f"meter {meter}", f"counter.{counter}", 1 + point)
        for meter in range(2)
        for counter in range(3)
        for point in range(8)
        if (meter, counter, point) != (1, 2, 5)
    ]
    assert point_values(b"".join(encoded.payloads)) == expected


@pytest.mark.parametrize("description", [[], {}, 0.0, ""])
def test_a_status_is_described_by_text_or_not_at_all(codecs, description) -> None:
    """The SDK lets empty values of other types through."""
    one = span(1)
    one._status = Status(StatusCode.ERROR, description)
    assert encode_parts(codecs["SPANS"], [one]).unencodable_items == (description != "")


def test_what_is_no_metric_costs_itself() -> None:
    """It has no data points that could be counted; it counts as one."""
    data = metrics_data(2, 1)
    data.resource_metrics[0].scope_metrics[0].metrics.insert(1, object())  # type: ignore[arg-type, attr-defined]
    codec = _choice.codec("METRICS")

    encoded = encode_parts(codec, data)

    assert (codec.count(data), encoded.unencodable_items) == (3, 1)
    assert [metric for _, metric, _ in point_values(b"".join(encoded.payloads))] == ["counter.0", "counter.1"]


def test_a_batch_of_nothing_but_unencodable_items_is_empty(codecs) -> None:
    """What is lost is counted even if nothing is left."""
    encoded = encode_parts(codecs["SPANS"], [span(number, name=UNENCODABLE) for number in range(1, 6)])
    assert encoded.payloads == []
    assert encoded.unencodable_items == 5


def test_large_batches_are_encoded_in_parts_that_keep_every_item_in_order(codecs) -> None:
    """No part is larger than the limit, and joined they hold the whole batch."""
    spans = [span(number, attributes={"text": "x" * 1000}) for number in range(1, 101)]
    encoded = encode_parts(codecs["SPANS"], spans, 10_000)
    assert all(len(payload) <= 10_000 for payload in encoded.payloads)
    assert span_numbers(b"".join(encoded.payloads)) == list(range(1, 101))
    assert encoded.unencodable_items == 0

    data = metrics_data(4, 100)
    parts = encode_parts(codecs["METRICS"], data, 3_000)
    assert all(len(payload) <= 3_000 for payload in parts.payloads)
    assert point_values(b"".join(parts.payloads)) == point_values(encode_metrics(data))


def test_one_item_over_the_limit_is_one_part(codecs) -> None:
    """It cannot be halved; whoever stores it decides."""
    encoded = encode_parts(codecs["SPANS"], [span(1), span(2, attributes={"text": "x" * 5000}), span(3)], 1_000)
    assert sorted(len(payload) > 1_000 for payload in encoded.payloads) == [False, False, True]


def test_unencodable_attributes_are_counted_and_not_logged(codecs, caplog) -> None:
    """The stock encoder writes a traceback for each, from inside the export; here it is a number."""
    encoded = encode_parts(codecs["LOG_RECORDS"], [log_record("x", attributes={"good": 1, "bad": 2**70})] * 3)
    assert encoded.unencodable_attributes == 3
    assert encoded.unencodable_items == 0
    assert caplog.records == []


def test_attributes_are_counted_once_even_if_their_batch_is_halved(codecs) -> None:
    """Encoding a batch a second time in halves does not double what it leaves out."""
    spans = [span(number, name=UNENCODABLE if number == 2 else None) for number in range(1, 9)]
    spans.append(span(9, attributes={"bad": 2**70}))
    assert encode_parts(codecs["SPANS"], spans).unencodable_attributes == 1


def test_the_encoder_s_lines_of_other_threads_are_left_alone(caplog) -> None:
    """Another exporter in the same process that uses the stock encoder keeps its log lines."""
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.common._internal")
    with _stock._attribute_failures.counted() as count:
        other = threading.Thread(target=logger.error, args=("from another thread",))
        other.start()
        other.join()
        logger.error("from this thread")
    logger.error("afterwards")
    assert caplog.messages == ["from another thread", "afterwards"]
    assert count.count == 1
