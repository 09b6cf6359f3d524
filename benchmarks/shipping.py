"""What shipping costs, against a loop that sends requests that lie ready in memory, over the same window.

A collector in a process of its own takes and forgets. In turns, a shipping process drains a log to it, and another one
sends requests of the same size and number that it put together beforehand. What is counted on both sides is the
processor time of the whole process, gRPC's threads and the kernel's part of sending included, between the moment when
channel and log are open and the answer to the last request. ``--memory`` drains 2 GiB instead, and looks at the
shipper's anonymous memory.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from isal import igzip
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.measure import scratch_directory, table
from comet_otel.streams import Signal, route_of_signal
from comet_storage import Client, CometConfig, CompressionConfig, RetentionConfig
from shipper.delivery.clock import SystemClock
from shipper.delivery.dead_letters import DeadLetters
from shipper.delivery.pace import Pace
from shipper.delivery.pipeline import Pipeline
from shipper.endpoint import parse_endpoint
from shipper.sending.grpc_sender import takes_compressed
from shipper.sending.protocol import create_sender
from shipper.settings import MAX_REQUEST_BYTES_DEFAULT, DestinationConfig, PacingConfig, SignalConfig

MIB = 2**20
BACKLOG_BYTES = 1024 * MIB
"""So much that what happens once in a run is small beside it."""
READY_BYTES = 256 * MIB
"""What the loop holds ready; more than any processor's cache. It sends it over and over."""
MEMORY_BACKLOG_BYTES = 2048 * MIB
SHARDS = 4
WINDOW = 4
LEVEL = 1
ROUNDS = 5
SPANS_PER_ENTRY = 512
ENTRY_KINDS = 16
ROUTE = route_of_signal(Signal.TRACES)

SPEED_BOUND = 0.7
CPU_BOUND = 2.0
MEMORY_BOUND_MIB = 150.0


def entry(seed: int) -> bytes:
    """Return a request as an exporter stores it: a batch of a web server's spans, as instrumentation makes them."""
    chance = random.Random(seed)
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    for key, value in (("service.name", "checkout"), ("host.name", "shop-17"), ("deployment.environment", "prod")):
        attribute = resource_spans.resource.attributes.add()
        attribute.key, attribute.value.string_value = key, value
    scope = resource_spans.scope_spans.add()
    scope.scope.name = "bench"
    now = 1_700_000_000_000_000_000
    for _ in range(SPANS_PER_ENTRY):
        now += chance.randrange(1_000_000)
        method, path = chance.choice((("GET", "/cart"), ("POST", "/order"), ("GET", "/price"), ("PUT", "/cart")))
        span = scope.spans.add(
            trace_id=chance.randbytes(16),
            span_id=chance.randbytes(8),
            parent_span_id=chance.randbytes(8),
            name=f"{method} {path}",
            kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=now,
            end_time_unix_nano=now + chance.randrange(100_000_000),
        )
        for key, text in (
            ("http.request.method", method),
            ("url.scheme", "https"),
            ("url.path", f"{path}/{chance.randrange(1_000_000)}"),
            ("server.address", "shop-17.example.com"),
            ("client.address", f"10.0.{chance.randrange(4)}.{chance.randrange(256)}"),
            ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ):
            attribute = span.attributes.add()
            attribute.key, attribute.value.string_value = key, text
        for key, number in (
            ("http.response.status_code", chance.choice((200, 200, 200, 404))),
            ("client.port", chance.randrange(30_000, 65_000)),
        ):
            attribute = span.attributes.add()
            attribute.key, attribute.value.int_value = key, number
    return request.SerializeToString()


def fill(directory: Path, size: int, codec: str) -> None:
    """Write a backlog."""
    config = CometConfig(
        retention=RetentionConfig(max_total_size=8 * 1024 * MIB), compression=CompressionConfig(codec=codec)
    )
    entries = [entry(seed) for seed in range(ENTRY_KINDS)]
    with Client(directory, config) as client:
        written = number = 0
        while written < size:
            data = entries[number % ENTRY_KINDS]
            client.append(f"traces:v1:shard:{number % SHARDS:04d}", [data])
            written += len(data)
            number += 1


def serve(pipe: Connection) -> None:
    """Be a collector that takes everything, until the other end is closed."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:  # noqa: ARG002
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")

    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(WINDOW),
        handlers=[Handler()],
        options=[("grpc.max_receive_message_length", -1)],
    )
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    try:
        pipe.recv()
    except EOFError:
        server.stop(None)


def ship(directory: Path, port: int, compression: str) -> dict[str, float]:
    """Drain the log by a group that is new each time, and return how that went."""
    group = f"bench-{os.getpid()}"
    signal = SignalConfig(
        signal=Signal.TRACES,
        endpoint=parse_endpoint(f"http://127.0.0.1:{port}"),
        compression=compression,
        compression_level=LEVEL,
        timeout=60.0,
    )
    destination = DestinationConfig(name="bench", group=group, signals=(signal,), window=WINDOW)
    sender = create_sender(signal)
    sender.send(ROUTE, b"", "warm up")
    with Client(directory) as client:
        clock = SystemClock()
        begun, used = time.perf_counter(), time.process_time()
        pipeline = Pipeline(
            client,
            destination,
            ROUTE,
            sender,
            Pace(PacingConfig(), clock),
            DeadLetters(client, 64 * MIB),
            threading.Event(),
            once=True,
        )
        pipeline.start()
        peak = 0.0
        while pipeline.is_alive():
            pipeline.join(0.2)
            peak = max(peak, anonymous_mib())
        seconds, cpu = time.perf_counter() - begun, time.process_time() - used
        state = pipeline.state()
        assert pipeline.drained, state
        client.delete_group("traces:v1", group)
    sender.close()
    return result(state.delivered_bytes, state.delivered_requests, seconds, cpu, peak)


def loop(directory: Path, port: int, compression: str) -> dict[str, float]:
    """Send as many requests of the same bytes that lie ready, and return how that went."""
    bodies: list[bytes] = []
    requests = 0

    def ready(parts: list[bytes]) -> None:
        nonlocal requests
        requests += 1
        if len(bodies) * MAX_REQUEST_BYTES_DEFAULT < READY_BYTES:
            bodies.append(b"".join(parts))

    with Client(directory) as client:
        for shard in client.shards("traces:v1"):
            parts: list[bytes] = []
            size = 0
            for message in client.scan(f"traces:v1:shard:{shard:04d}"):
                if size + len(message.data) > MAX_REQUEST_BYTES_DEFAULT:
                    ready(parts)
                    parts, size = [], 0
                parts.append(message.data)
                size += len(message.data)
            ready(parts)
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)])
    method = channel.unary_unary(ROUTE.grpc_method)
    method(b"")

    if compression == "gzip":
        takes_compressed(method)

    def send(body: bytes) -> int:
        if compression == "gzip":
            method(igzip.compress(body, LEVEL), timeout=60.0, compression=grpc.Compression.Gzip)
        else:
            method(body, timeout=60.0)
        return len(body)

    begun, used = time.perf_counter(), time.process_time()
    with concurrent.futures.ThreadPoolExecutor(WINDOW) as threads:
        total = sum(threads.map(send, itertools.islice(itertools.cycle(bodies), requests)))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    channel.close()
    return result(total, requests, seconds, cpu, 0.0)


def result(size: int, requests: int, seconds: float, cpu: float, peak: float) -> dict[str, float]:
    """Return the figures of one run."""
    return {
        "mib_per_second": size / MIB / seconds,
        "cpu_ms_per_mib": 1000 * cpu / (size / MIB),
        "mib": size / MIB,
        "requests": requests,
        "peak_anonymous_mib": peak,
    }


def anonymous_mib() -> float:
    """Return this process's resident anonymous memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def run(what: str, directory: Path, port: int, compression: str) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.shipping", "--child", what, str(directory), str(port), compression]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def compared(directory: Path, port: int, compression: str, rounds: int) -> list[list[str]]:
    """Measure both sides in turns, and return the rows of the table."""
    ships, loops = [], []
    for number in range(rounds):
        sides = [("ship", ships), ("loop", loops)]
        for what, results in sides if number % 2 else sides[::-1]:
            results.append(run(what, directory, port, compression))
    rows = []
    for name, key, bound in (
        ("MiB/s", "mib_per_second", f">= {SPEED_BOUND}"),
        ("CPU ms/MiB", "cpu_ms_per_mib", f"<= {CPU_BOUND}"),
    ):
        ours, theirs = (statistics.median(each[key] for each in side) for side in (ships, loops))
        ratio = statistics.median(a[key] / b[key] for a, b in zip(ships, loops, strict=True))
        rows.append([compression, name, f"{ours:.1f}", f"{theirs:.1f}", f"{ratio:.2f}", bound])
    rows.append([compression, "requests", f"{ships[0]['requests']}", f"{loops[0]['requests']}", "", ""])
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=4, metavar=("WHAT", "DIRECTORY", "PORT", "COMPRESSION"))
    parser.add_argument("--memory", action="store_true", help="drain 2 GiB and look at the memory")
    parser.add_argument("--codec", default="zstd", help="how the log compresses what it stores: zstd, none")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.child:
        what, directory, port, compression = options.child
        side = {"ship": ship, "loop": loop}[what]
        print(json.dumps(side(Path(directory), int(port), compression)))
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    collector = context.Process(target=serve, args=(theirs,), daemon=True)
    collector.start()
    port = ours.recv()
    with scratch_directory() as scratch:
        directory = scratch / "log"
        fill(directory, MEMORY_BACKLOG_BYTES if options.memory else BACKLOG_BYTES, options.codec)
        if options.memory:
            rows = []
            for compression in ("none", "gzip"):
                figures = run("ship", directory, port, compression)
                rows.append(
                    [
                        compression,
                        f"{figures['mib']:.0f}",
                        f"{figures['peak_anonymous_mib']:.0f}",
                        f"<= {MEMORY_BOUND_MIB:.0f}",
                    ]
                )
            table("Draining a backlog", ["compression", "MiB", "peak anonymous MiB", "bound"], rows)
        else:
            rows = [
                row
                for compression in ("none", "gzip")
                for row in compared(directory, port, compression, options.rounds)
            ]
            table(
                f"Shipping {BACKLOG_BYTES // MIB} MiB over gRPC, window {WINDOW}, {SHARDS} shards, log {options.codec}",
                ["compression", "what", "shipper", "ready requests", "ratio", "bound"],
                rows,
            )
    ours.close()
    collector.join(10)


if __name__ == "__main__":
    main()
