"""The receiver's check accepts what the generated messages accept, and nothing else."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from comet_otel.receiver.errors import UndecodableError
from comet_otel.receiver.wellformed import check
from comet_otel.streams import Signal
from tests.support.otlp_requests import log_request, metric_request, trace_request

REQUESTS = {
    Signal.TRACES: (ExportTraceServiceRequest, trace_request(2, "caf\u00e9")),
    Signal.METRICS: (ExportMetricsServiceRequest, metric_request()),
    Signal.LOGS: (ExportLogsServiceRequest, log_request("caf\u00e9")),
}


def accepted(signal: Signal, body: bytes) -> bool:
    """Tell what the check says."""
    try:
        check(signal, body)
    except UndecodableError:
        return False
    return True


def parses(signal: Signal, body: bytes) -> bool:
    """Tell what the generated message says."""
    try:
        REQUESTS[signal][0].FromString(body)
    except DecodeError:
        return False
    return True


@pytest.mark.parametrize("signal", Signal)
@given(data=st.data())
def test_mutated_requests_are_judged_as_by_the_generated_messages(signal, data) -> None:
    """Bytes cut out, put in and changed anywhere in a request lead to the same verdict."""
    body = bytearray(REQUESTS[signal][1] * data.draw(st.integers(1, 2)))
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(body)))
        body[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert accepted(signal, bytes(body)) == parses(signal, bytes(body))


@pytest.mark.parametrize("signal", Signal)
@given(body=st.binary(max_size=60))
def test_any_bytes_are_judged_as_by_the_generated_messages(signal, body) -> None:
    """Arbitrary bytes lead to the same verdict."""
    assert accepted(signal, body) == parses(signal, body)
