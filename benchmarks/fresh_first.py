"""How soon new spans arrive while a backlog drains behind them under a speed limit: ``order = "fresh-first"``.

A collector in a process of its own notes when each new span arrives. With the defaults it takes nine minutes: 1 GiB
at 2 MiB/s.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import random
import re
import threading
import time
from multiprocessing.connection import Connection

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.measure import quantile, scratch_directory, table
from comet_otel.streams import Signal, route_of_signal
from comet_storage import Client, CometConfig, RetentionConfig
from shipper.delivery.clock import SystemClock
from shipper.delivery.dead_letters import DeadLetters
from shipper.delivery.pace import Pace
from shipper.delivery.pipeline import Pipeline
from shipper.endpoint import parse_endpoint
from shipper.sending.protocol import create_sender
from shipper.settings import DestinationConfig, PacingConfig, SignalConfig

MIB = 2**20
SHARDS = 4
ENTRY_BYTES = 200_000
EXPORT_SECONDS = 0.1
BOUND_SECONDS = 5.0
ROUTE = route_of_signal(Signal.TRACES)


def span(name: str, padding: str = "") -> bytes:
    """Return a request with one span."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name=name, trace_state=padding)
    return request.SerializeToString()


def serve(pipe: Connection) -> None:
    """Be a collector that notes which spans came, and when; tells it when it is asked."""
    arrived: dict[str, float] = {}
    sizes: list[int] = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:  # noqa: ARG002
            def answer(request: bytes, _: grpc.ServicerContext) -> bytes:
                now = time.time()
                sizes.append(len(request))
                for name in re.findall(rb"<(\w+-\d+)>", request):
                    arrived.setdefault(name.decode(), now)
                return b""

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(8),
        handlers=[Handler()],
        options=[("grpc.max_receive_message_length", -1)],
    )
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    pipe.recv()
    pipe.send((arrived, sum(sizes)))
    server.stop(None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the backlog")
    parser.add_argument("--cap", type=int, default=2 * MIB, help="bytes per second")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    collector = context.Process(target=serve, args=(theirs,), daemon=True)
    collector.start()
    port = ours.recv()
    exported: dict[str, float] = {}
    chance = random.Random(1)
    with scratch_directory() as scratch:
        config = CometConfig(retention=RetentionConfig(max_total_size=2 * options.mib * MIB + 256 * MIB))
        with Client(scratch / "log", config) as client:
            old = options.mib * MIB // ENTRY_BYTES
            for number in range(old):
                entry = span(f"<old-{number}>", chance.randbytes(ENTRY_BYTES // 2).hex())
                client.append(f"traces:v1:shard:{number % SHARDS:04d}", [entry])
            signal = SignalConfig(signal=Signal.TRACES, endpoint=parse_endpoint(f"http://127.0.0.1:{port}"))
            destination = DestinationConfig(
                name="bench",
                group="bench",
                signals=(signal,),
                order="fresh-first",
                pacing=PacingConfig(max_bytes_per_second=options.cap),
            )
            sender, clock, stop = create_sender(signal), SystemClock(), threading.Event()
            pipeline = Pipeline(
                client, destination, ROUTE, sender, Pace(destination.pacing, clock), DeadLetters(client, 64 * MIB), stop
            )
            begun = time.time()
            pipeline.start()
            while pipeline.state().delivered_requests == 0:
                time.sleep(0.01)  # what was exported before it looked would belong to the backlog
            while client.accounting("traces:v1", "bench").pending > 2 * SHARDS:
                until = time.monotonic() + 1.0
                while time.monotonic() < until:
                    name = f"<fresh-{len(exported)}>"
                    exported[name] = time.time()
                    client.append(f"traces:v1:shard:{len(exported) % SHARDS:04d}", [span(name)])
                    time.sleep(EXPORT_SECONDS)
            seconds = time.time() - begun
            while client.accounting("traces:v1", "bench").pending:
                time.sleep(0.1)
            stop.set()
            pipeline.join()
            sender.close()
            total = client.accounting("traces:v1", "bench")
    ours.send("tell")
    arrived, size = ours.recv()
    collector.join(10)
    delays = [arrived[name.strip("<>")] - at for name, at in exported.items()]
    table(
        f"{options.mib} MiB of backlog at {options.cap / MIB:g} MiB/s, a new span every {EXPORT_SECONDS} s",
        ["what", "value", "bound"],
        [
            ["new spans", f"{len(delays)}", ""],
            ["seconds until they arrive, p50", f"{quantile(delays, 0.5):.2f}", ""],
            ["p95", f"{quantile(delays, 0.95):.2f}", f"<= {BOUND_SECONDS:g}"],
            ["largest", f"{max(delays):.2f}", ""],
            ["old entries arrived", f"{sum(name.startswith('old') for name in arrived)} of {old}", ""],
            ["MiB/s", f"{size / MIB / seconds:.2f}", f"<= {options.cap / MIB:g}"],
            ["accounting", f"{total}", ""],
        ],
    )


if __name__ == "__main__":
    main()
