"""OTLP endpoints in a process of their own, built on `opentelemetry-proto`, that write down each request that arrives.

    python -m tests.support.telemetry_recorder --record FILE --grpc-port N --http-port N [--work-seconds S]

One line of JSON per request: signal, digests of its items, its id, and when it came; written before it is answered.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gzip
import http.server
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.support.telemetry_digests import DIGESTS

HOST = "127.0.0.1"
REQUEST_ID = "comet-request-id"
REQUEST_BYTES_MAX = 64 * 1024 * 1024

REQUESTS = {
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
}
RESPONSES = {
    "traces": trace_service_pb2.ExportTraceServiceResponse,
    "logs": logs_service_pb2.ExportLogsServiceResponse,
    "metrics": metrics_service_pb2.ExportMetricsServiceResponse,
}


class Recorder:
    """Appends to one file."""

    def __init__(self, path: Path, work_seconds: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._file, b"\n")  # a predecessor killed in the middle of a write may have left half a line
        self._work_seconds = work_seconds

    def __call__(self, signal: str, request: Any, request_id: str) -> None:
        """Write down one request."""
        time.sleep(self._work_seconds)
        note = {"signal": signal, "items": DIGESTS[signal](request), "id": request_id, "time": time.time()}
        os.write(self._file, json.dumps(note).encode() + b"\n")


def servicer(signal: str, base: type, record: Recorder) -> Any:
    """Return the gRPC service of a signal."""

    def export(self, request: Any, context: Any) -> Any:
        metadata = dict(context.invocation_metadata())
        record(signal, request, str(metadata.get(REQUEST_ID, "")))
        return RESPONSES[signal]()

    return type("Servicer", (base,), {"Export": export})()


def http_handler(record: Recorder) -> type[http.server.BaseHTTPRequestHandler]:
    """Return the handler of the HTTP endpoint."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            signal = self.path.rpartition("/")[2]
            record(signal, REQUESTS[signal].FromString(body), self.headers.get(REQUEST_ID, ""))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface of http.server
            """Stay silent."""

    return Handler


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--work-seconds", type=float, default=0.0)
    arguments = parser.parse_args()
    record = Recorder(arguments.record, arguments.work_seconds)
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(8),
        options=[("grpc.max_receive_message_length", REQUEST_BYTES_MAX), ("grpc.so_reuseport", 0)],
    )
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(
        servicer("traces", trace_service_pb2_grpc.TraceServiceServicer, record), server
    )
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(
        servicer("logs", logs_service_pb2_grpc.LogsServiceServicer, record), server
    )
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(
        servicer("metrics", metrics_service_pb2_grpc.MetricsServiceServicer, record), server
    )
    server.add_insecure_port(f"{HOST}:{arguments.grpc_port}")
    server.start()
    http_server = http.server.ThreadingHTTPServer((HOST, arguments.http_port), http_handler(record))
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
