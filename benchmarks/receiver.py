"""Requests a second that the receiver stores, against servers of the same libraries that throw the bodies away.

The clients are processes of their own that send prepared bytes. Two ratios are printed: of requests a second, and of
the servers' processor time per request; on a machine that is busy with other things only the second one means much.

Where the difference comes from is shown by a receiver that does everything but check and store what it gets, and by the
time that checking, compressing and appending take, one after the other, in a process of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import grpc.aio
import uvicorn
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.measure import scratch_directory, table
from comet_otel.receiver import OTLPReceiver
from comet_otel.receiver.storing import Stored, Storing
from comet_otel.receiver.wellformed import check
from comet_otel.streams import Signal
from comet_storage import Client, CometConfig, CompressionConfig
from demo.processes import free_port, listens, wait_until

SPANS = 512
CLIENTS = 3
ROUNDS = 7
ROUND_SECONDS = 2.0
STEP_ROUNDS = 500
BOUND = 0.8
METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
HOST = "127.0.0.1"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="?", choices=["discard-http", "discard-grpc", "answer", "http", "grpc"])
    parser.add_argument("port", nargs="*", type=int)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if arguments.role is None:
        _compare(arguments.rounds)
        _show_steps()
    elif arguments.role == "answer":
        _answer(*arguments.port)
    elif arguments.role == "discard-http":
        _discard_http(*arguments.port)
    elif arguments.role == "discard-grpc":
        asyncio.run(_discard_grpc(*arguments.port))
    else:
        print((_send_by_http if arguments.role == "http" else _send_by_grpc)(*arguments.port))


def _compare(rounds: int) -> None:
    with scratch_directory() as directory, ExitStack() as stack:
        kinds = ("", "answer-", "discard-")
        ports = {f"{kind}{protocol}": free_port() for kind in kinds for protocol in ("http", "grpc")}
        ours = ["comet_otel.receiver", "--data-dir", str(directory / "log")]
        ours += ["--http-endpoint", f"{HOST}:{ports['http']}", "--grpc-endpoint", f"{HOST}:{ports['grpc']}"]
        receiver = stack.enter_context(_server(ours, ports["http"]))
        both = [str(ports["answer-http"]), str(ports["answer-grpc"])]
        answering = stack.enter_context(_server(["benchmarks.receiver", "answer", *both], ports["answer-http"]))
        pids = {"http": receiver, "grpc": receiver, "answer-http": answering, "answer-grpc": answering}
        for name in ("discard-http", "discard-grpc"):
            pids[name] = stack.enter_context(_server(["benchmarks.receiver", name, str(ports[name])], ports[name]))
        rates: dict[str, list[float]] = {name: [] for name in ports}
        costs: dict[str, list[float]] = {name: [] for name in ports}
        for _ in range(rounds):
            for name, port in ports.items():
                before = _processor_seconds(pids[name])
                requests = _run_clients(name.rpartition("-")[2], port)
                rates[name].append(requests / ROUND_SECONDS)
                costs[name].append((_processor_seconds(pids[name]) - before) / max(1, requests) * 1e6)
    rows = []
    for name in ("grpc", "http"):
        rate = statistics.median(a / b for a, b in zip(rates[name], rates[f"discard-{name}"], strict=True))
        cost = statistics.median(b / a for a, b in zip(costs[name], costs[f"discard-{name}"], strict=True))
        kept = "[green]kept[/]" if rate >= BOUND else "[red]missed[/]"
        figures = [statistics.median(found[f"{kind}{name}"]) for found in (rates, costs) for kind in kinds]
        rows.append([name, *(f"{figure:,.0f}" for figure in figures), f"{rate:.2f}", f"{BOUND} {kept}", f"{cost:.2f}"])
    table(
        f"Requests of {SPANS} spans, {len(_request()):,} bytes; {CLIENTS} clients; {rounds} interleaved rounds",
        ["", "stored/s", "answered", "discarded", "us each", "us answering", "discarding", "ratio", "bound", "of us"],
        rows,
    )


def _show_steps() -> None:
    body = _request()
    compressor = zstandard.ZstdCompressor(level=CompressionConfig().level)
    with scratch_directory() as directory, ExitStack() as stack:
        plain = CometConfig(compression=CompressionConfig(codec="none"))
        lanes = [
            stack.enter_context(Client(directory / name, config)).lanes("traces:v1")
            for name, config in (("plain", plain), ("compressed", None))
        ]
        steps: dict[str, Callable[[], Any]] = {
            "check that it is a request": lambda: check(Signal.TRACES, body),
            "compress it": lambda: compressor.compress(body),
            "append it without compression": lambda: lanes[0].append([body]),
            "append it": lambda: lanes[1].append([body]),
        }
        found: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(STEP_ROUNDS):
            for name, step in steps.items():
                begin = time.perf_counter_ns()
                step()
                found[name].append((time.perf_counter_ns() - begin) / 1e3)
    rows = [[name, f"{min(times):,.0f}", f"{statistics.median(times):,.0f}"] for name, times in found.items()]
    table("What a request costs besides, in microseconds of one thread", ["", "best", "median"], rows)


def _answer(http_port: int, grpc_port: int) -> None:
    """Serve as the receiver does, and store nothing."""
    with scratch_directory() as directory, Client(directory) as client:
        receiver = OTLPReceiver(client, f"{HOST}:{grpc_port}", f"{HOST}:{http_port}")
        with mock.patch.object(Storing, "store", lambda _, _signal, requests: [Stored(entries=1)] * len(requests)):
            receiver.start()
            signal.sigwait({signal.SIGTERM})
        receiver.stop()


@contextmanager
def _server(module: list[str], port: int) -> Iterator[int]:
    root = str(Path(__file__).resolve().parents[1])
    process = subprocess.Popen([sys.executable, "-m", *module], env={**os.environ, "PYTHONPATH": root})
    try:
        wait_until(lambda: listens(port), module[0])
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _run_clients(protocol: str, port: int) -> int:
    command = [sys.executable, "-m", "benchmarks.receiver", protocol, str(port)]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(CLIENTS)]
    return sum(int(client.communicate()[0]) for client in clients)


def _request() -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add()
    scope.scope.name = "benchmark"
    for number in range(SPANS):
        span = scope.spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), parent_span_id=os.urandom(8))
        span.name, span.kind, span.flags = f"GET /items/{number % 10}", 2, 0x100
        span.start_time_unix_nano = 1_700_000_000_000_000_000 + number * 1000
        span.end_time_unix_nano = span.start_time_unix_nano + 5_000_000
        texts = {"http.request.method": "GET", "url.path": f"/items/{number}", "http.route": "/items/{id}"}
        for key, text in {**texts, "server.address": "shop-17.example.com"}.items():
            span.attributes.add(key=key).value.string_value = text
        for key, value in {"http.response.status_code": 200, "server.port": 8080, "item": number}.items():
            span.attributes.add(key=key).value.int_value = value
        span.attributes.add(key="cached").value.bool_value = True
        event = span.events.add(name="cache.miss", time_unix_nano=span.start_time_unix_nano)
        event.attributes.add(key="cache.key").value.string_value = f"item-{number}"
        event.attributes.add(key="cache.tier").value.string_value = "memory"
        span.status.SetInParent()
    return request.SerializeToString()


def _send_by_http(port: int) -> int:
    body = _request()
    head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: {len(body)}"
    request = head.encode() + b"\r\n\r\n" + body
    count, end = 0, time.monotonic() + ROUND_SECONDS
    with socket.create_connection((HOST, port)) as connection:
        while time.monotonic() < end:
            connection.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200 ")
            count += 1
    return count


def _send_by_grpc(port: int) -> int:
    body = _request()
    count, end = 0, time.monotonic() + ROUND_SECONDS
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        method = channel.unary_unary(METHOD)
        while time.monotonic() < end:
            method(body)
            count += 1
    return count


def _discard_http(port: int) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"application/x-protobuf"), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    uvicorn.run(app, host=HOST, port=port, http="h11", ws="none", lifespan="off", log_level="error", access_log=False)


async def _discard_grpc(port: int) -> None:
    async def export(_request: bytes, _context: Any) -> bytes:
        return b""

    class Methods(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(export)

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers((Methods(),))
    server.add_insecure_port(f"{HOST}:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    main()
