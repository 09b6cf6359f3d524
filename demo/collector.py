"""A collector: real OTLP endpoints in a process of its own, which write down the id of every item that arrives.

    python -m demo.collector --record FILE --grpc-port 4317 --http-port 4318

The gRPC endpoint is built on the service definitions that `opentelemetry-proto` generates. A request is answered after
its ids are written, so that what was acknowledged is on record whatever happens to this process next. On its standard
output it says, as one line of JSON, on which ports it listens.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gzip
import http.server
import json
import signal
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

from demo import identity
from demo.ledger import Ledger

HOST = "127.0.0.1"
REQUEST_BYTES_MAX = 64 * 1024 * 1024
HANDLERS = 4


class Recorder:
    """Writes down what arrives, and takes its time over it."""

    def __init__(self, ledger: Ledger, work_seconds: float) -> None:
        """Write to `ledger`, and spend `work_seconds` on each request."""
        self._ledger = ledger
        self._work_seconds = work_seconds

    def __call__(self, signal_name: str, ids: list[str], **details: str) -> None:
        """Write down the ids of one request."""
        time.sleep(self._work_seconds)
        self._ledger.note(signal_name, ids, **details)


class TraceService(traces_grpc.TraceServiceServicer):
    """Takes spans."""

    def __init__(self, record: Recorder) -> None:
        self._record = record

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the generated interface
        """Write down the spans of a request."""
        self._record("traces", identity.span_ids_of_request(request), protocol="grpc")
        return traces.ExportTraceServiceResponse()


class LogsService(logs_grpc.LogsServiceServicer):
    """Takes log records."""

    def __init__(self, record: Recorder) -> None:
        self._record = record

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the generated interface
        """Write down the log records of a request."""
        self._record("logs", identity.log_ids_of_request(request), protocol="grpc")
        return logs.ExportLogsServiceResponse()


class MetricsService(metrics_grpc.MetricsServiceServicer):
    """Takes metrics."""

    def __init__(self, record: Recorder) -> None:
        self._record = record

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the generated interface
        """Write down the data points of a request."""
        self._record("metrics", identity.point_ids_of_request(request), protocol="grpc")
        return metrics.ExportMetricsServiceResponse()


HTTP_SIGNALS = {
    "/v1/traces": ("traces", traces.ExportTraceServiceRequest, identity.span_ids_of_request),
    "/v1/logs": ("logs", logs.ExportLogsServiceRequest, identity.log_ids_of_request),
    "/v1/metrics": ("metrics", metrics.ExportMetricsServiceRequest, identity.point_ids_of_request),
}


class HttpHandler(http.server.BaseHTTPRequestHandler):
    """Takes all three signals as OTLP/HTTP with protobuf bodies."""

    protocol_version = "HTTP/1.1"
    record: Recorder

    def do_POST(self) -> None:
        """Write down the items of a request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path not in HTTP_SIGNALS or self.headers.get("Content-Type") != "application/x-protobuf":
            self._answer(404 if self.path not in HTTP_SIGNALS else 415)
            return
        encoding = self.headers.get("Content-Encoding", "")
        signal_name, request_type, ids_of = HTTP_SIGNALS[self.path]
        request = request_type.FromString(gzip.decompress(body) if encoding == "gzip" else body)
        self.record(signal_name, ids_of(request), protocol="http", encoding=encoding)
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface of http.server
        """Stay silent."""


def serve_grpc(record: Recorder, arguments: argparse.Namespace) -> tuple[grpc.Server, int]:
    """Start the gRPC endpoint; return it and its port."""
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(HANDLERS),
        options=[("grpc.max_receive_message_length", REQUEST_BYTES_MAX), ("grpc.so_reuseport", 0)],
    )
    traces_grpc.add_TraceServiceServicer_to_server(TraceService(record), server)
    logs_grpc.add_LogsServiceServicer_to_server(LogsService(record), server)
    metrics_grpc.add_MetricsServiceServicer_to_server(MetricsService(record), server)
    address = f"{HOST}:{arguments.grpc_port}"
    if arguments.tls_certificate:
        pair = (arguments.tls_key.read_bytes(), arguments.tls_certificate.read_bytes())
        port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port(address)
    server.start()
    return server, port


def serve_http(record: Recorder, arguments: argparse.Namespace) -> tuple[http.server.ThreadingHTTPServer, int]:
    """Start the HTTP endpoint; return it and its port."""
    handler = type("Handler", (HttpHandler,), {"record": record})
    server = http.server.ThreadingHTTPServer((HOST, arguments.http_port), handler)
    server.daemon_threads = True
    if arguments.tls_certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.tls_certificate, arguments.tls_key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, server.server_address[1]


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, required=True, help="file to append the ids to")
    parser.add_argument("--grpc-port", type=int, default=0, help="0 takes any free one")
    parser.add_argument("--http-port", type=int, default=0, help="0 takes any free one")
    parser.add_argument("--work-seconds", type=float, default=0.0, help="how long each request takes")
    parser.add_argument("--tls-certificate", type=Path, help="PEM; with it, both endpoints speak TLS")
    parser.add_argument("--tls-key", type=Path, help="PEM")
    arguments = parser.parse_args()

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    record = Recorder(Ledger(arguments.record), arguments.work_seconds)
    grpc_server, grpc_port = serve_grpc(record, arguments)
    http_server, http_port = serve_http(record, arguments)
    print(json.dumps({"grpc": grpc_port, "http": http_port}), flush=True)
    while not stop.wait(0.2):  # in slices, since the handlers above run between two of them
        pass
    grpc_server.stop(grace=1.0).wait()
    http_server.shutdown()


if __name__ == "__main__":
    main()
