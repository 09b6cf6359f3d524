"""OTLP requests for tests of the receiver, and the smallest clients that can send them, or anything else."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
TRACES_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def trace_request(spans: int = 1, name: str = "checkout", padding: int = 0) -> bytes:
    """Return a request with some spans, whose ids are random, of which each has so many bytes more."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add()
    scope.scope.name = "tests"
    for number in range(spans):
        span = scope.spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), name=f"{name} {number}", kind=2)
        span.start_time_unix_nano = 1_700_000_000_000_000_000 + number
        span.end_time_unix_nano = span.start_time_unix_nano + 1_000_000
        if padding:
            span.attributes.add(key="padding").value.bytes_value = os.urandom(padding)
    return request.SerializeToString()


def trace_request_of(size: int) -> bytes:
    """Return a request of exactly so many bytes."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for _ in range(8):  # the lengths of the lengths settle
        missing = size - len(request.SerializeToString())
        if not missing:
            break
        if missing < 0:
            scope.schema_url = scope.schema_url[:missing]
        else:
            scope.schema_url += "x" * max(1, missing - 12 if missing > 40 and not scope.schema_url else missing)
    found = request.SerializeToString()
    assert len(found) == size
    return found


def metric_request() -> bytes:
    """Return a request with one data point."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="sales")
    metric.sum.data_points.add(as_int=7)
    return request.SerializeToString()


def log_request(body: str = "sold") -> bytes:
    """Return a request with one log record."""
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = body
    return request.SerializeToString()


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytes


def port_of(endpoint: str) -> int:
    """Return the port of an endpoint such as ``127.0.0.1:4318``."""
    return int(endpoint.rpartition(":")[2])


def post(endpoint: str, path: str, body: bytes, content_type: str | None = PROTOBUF, **headers: str) -> Answer:
    """Send one request by POST, on a connection of its own; underscores in names of headers stand for dashes."""
    return ask(endpoint, "POST", path, body, content_type=content_type, **headers)


def ask(
    endpoint: str, method: str, path: str, body: bytes = b"", *, content_type: str | None = None, **headers: str
) -> Answer:
    """Send one request, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(endpoint), timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        given["content-type"] = content_type
    try:
        connection.request(method, path, body, given)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


class RawConnection:
    """A connection that sends exactly what it is told to."""

    def __init__(self, endpoint: str) -> None:
        """Connect."""
        self.socket = socket.create_connection(("127.0.0.1", port_of(endpoint)), timeout=60)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def read_answer(self) -> Answer:
        """Read one answer with a Content-Length, or an interim one."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return Answer(status, headers, self._file.read(int(headers.get("content-length", "0"))))

    def at_end(self) -> bool:
        """Wait for the server's next byte, and say whether it closed the connection instead."""
        try:
            return not self._file.read(1)
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Close it."""
        self._file.close()
        self.socket.close()


@contextlib.contextmanager
def raw_connection(endpoint: str) -> Iterator[RawConnection]:
    """Return a raw connection that is closed at the end."""
    connection = RawConnection(endpoint)
    try:
        yield connection
    finally:
        connection.close()
