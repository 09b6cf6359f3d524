"""The table of signals, streams and OTLP names."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from comet_otel import streams
from comet_otel.streams import LOGS, METRICS, ROUTES, TRACES, Signal, route_of_signal, route_of_stream


def test_every_signal_has_one_route() -> None:
    """The table is complete, and both ways of looking something up agree."""
    assert {route.signal for route in ROUTES} == set(Signal)
    assert [route.stream for route in ROUTES] == [TRACES, METRICS, LOGS]
    for route in ROUTES:
        assert route_of_signal(route.signal) is route
        assert route_of_stream(route.stream) is route
        assert route.http_path == f"v1/{route.signal.value}"


def test_streams_of_other_content_have_no_route() -> None:
    """A stream that holds something else is not taken for telemetry."""
    with pytest.raises(KeyError):
        route_of_stream("deadletter:v1")


@pytest.mark.parametrize(
    ("signal", "module", "service"),
    [
        (Signal.TRACES, trace_service_pb2, "TraceService"),
        (Signal.METRICS, metrics_service_pb2, "MetricsService"),
        (Signal.LOGS, logs_service_pb2, "LogsService"),
    ],
)
def test_grpc_methods_are_those_of_the_generated_services(signal, module, service) -> None:
    """The method names match what opentelemetry-proto declares."""
    declared = module.DESCRIPTOR.services_by_name[service].full_name
    assert streams.route_of_signal(signal).grpc_method == f"/{declared}/Export"
