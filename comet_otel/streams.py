"""The wire-level facts that the writing and the forwarding side share: which signal is where, and its OTLP names.

Depends on nothing, so that the shipper can use it without the OpenTelemetry SDK.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

TRACES: Final = "traces:v1"
METRICS: Final = "metrics:v1"
LOGS: Final = "logs:v1"


class Signal(Enum):
    """One of OpenTelemetry's signals; the value is its name in paths, options and log lines."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


@dataclass(frozen=True)
class Route:
    """Where one signal's requests are stored and how OTLP names their destination.

    Attributes:
        signal: the signal.
        stream: the stream of the log whose entries are serialized ``Export*ServiceRequest`` messages of the signal.
        http_path: what OTLP/HTTP appends to the base URL, without a leading slash.
        grpc_method: the full gRPC method name.
    """

    signal: Signal
    stream: str
    http_path: str
    grpc_method: str


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        Signal.TRACES,
        TRACES,
        "v1/traces",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ),
    Route(
        Signal.METRICS,
        METRICS,
        "v1/metrics",
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    ),
    Route(
        Signal.LOGS,
        LOGS,
        "v1/logs",
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    ),
)

_ROUTE_OF_SIGNAL: Final = {route.signal: route for route in ROUTES}
_ROUTE_OF_STREAM: Final = {route.stream: route for route in ROUTES}


def route_of_signal(signal: Signal) -> Route:
    """Return the route of a signal."""
    return _ROUTE_OF_SIGNAL[signal]


def route_of_stream(stream: str) -> Route:
    """Return the route of a stream such as ``traces:v1``.

    Raises:
        KeyError: the stream does not hold OTLP requests.
    """
    return _ROUTE_OF_STREAM[stream]
