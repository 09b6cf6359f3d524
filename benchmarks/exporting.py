"""What a whole export costs, against the stock encoder alone and the stock exporter; and what importing costs.

Every contender gets the same 512 spans, in turns: 8 attributes of mixed types, and one event with two attributes.
`CometSpanExporter.export` includes the append that survives ``kill -9``. The collector that the stock gRPC exporter
sends to is a stub in a process of its own that looks at nothing.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from benchmarks.encoding import BATCH, spans
from benchmarks.measure import interleaved, scratch_directory, table, verdict
from comet_otel import CometSpanExporter

ROUNDS = 25
CALLS = 4
IMPORTS = 7
STOCK, COMET, GRPC = "stock encode + serialize", "CometSpanExporter.export", "OTLPSpanExporter.export (gRPC)"
ENCODE_BOUND, SEND_BOUND, IMPORT_BOUND = 0.2, 0.1, 0.5

_SDK = "import opentelemetry.sdk.trace.export, opentelemetry.sdk._logs.export, opentelemetry.sdk.metrics.export"
_HTTP = "opentelemetry.exporter.otlp.proto.http"
_STOCK_IMPORT = f"import {_HTTP}.trace_exporter, {_HTTP}._log_exporter, {_HTTP}.metric_exporter"
_COMET_IMPORT = "from comet_otel import CometSpanExporter, CometLogRecordExporter, CometMetricExporter"
_COMET_MAKE = f"{_COMET_IMPORT}\nfor each in CometSpanExporter, CometLogRecordExporter, CometMetricExporter: each()"
_STOCK_MAKE = f"""{_STOCK_IMPORT}
{_HTTP}.trace_exporter.OTLPSpanExporter()
{_HTTP}._log_exporter.OTLPLogExporter()
{_HTTP}.metric_exporter.OTLPMetricExporter()"""


def main() -> None:
    """Measure and print."""
    if sys.argv[1:] == ["collector"]:
        _serve()
        return
    with scratch_directory() as directory:
        _exports(directory)
        _imports(directory)


def _exports(directory: Path) -> None:
    batch = spans()
    comet = CometSpanExporter(data_dir=directory / "log")
    with _collector() as port:
        stock = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}", insecure=True)
        contenders: dict[str, Callable[[], Any]] = {
            STOCK: lambda: encode_spans(batch).SerializeToString(),
            COMET: lambda: comet.export(batch),
            GRPC: lambda: stock.export(batch),
        }
        for call in contenders.values():
            call()
        found = interleaved(ROUNDS, {name: _timed(call) for name, call in contenders.items()})
        stock.shutdown()
    expected = BATCH * (1 + ROUNDS * CALLS)
    assert comet.counters.stored_items == expected, comet.counters
    comet.shutdown()
    rows = [[name, f"{1e6 * found[name] / BATCH:.2f}", "", "", ""] for name in (STOCK, GRPC)]
    rows.insert(1, [COMET, f"{1e6 * found[COMET] / BATCH:.2f}", *_ratio(found, STOCK, ENCODE_BOUND)])
    rows.append(["  against the stock exporter", "", *_ratio(found, GRPC, SEND_BOUND)])
    columns = [f"{BATCH} spans per call", "us per span", "ratio", "bound", ""]
    table(f"Exports, interleaved, median of {ROUNDS} rounds of {CALLS}", columns, rows)


def _ratio(found: dict[str, float], other: str, bound: float) -> list[str]:
    ratio = found[COMET] / found[other]
    return [f"{ratio:.3f}", f"<= {bound}", verdict(ratio, bound)]


def _timed(call: Callable[[], Any]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        for _ in range(CALLS):
            call()
        return (time.perf_counter() - started) / CALLS

    return run


@contextmanager
def _collector() -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.exporting", "collector"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _serve() -> None:
    """Take everything and look at nothing, as fast as gRPC in Python can, until killed."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def _imports(directory: Path) -> None:
    """Print what importing costs, each statement in processes of its own, with bytecode that is cached."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(directory / "bytecode"), "COMET_DATA_DIR": str(directory / "imported")}

    def cost(before: str, statement: str) -> Callable[[], float]:
        code = f"{before}\nimport os, time\nbegan = time.process_time()\n{statement}\n"
        code += "print(time.process_time() - began, flush=True)\nos._exit(0)"

        def run() -> float:
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            return float(done.stdout)

        run()  # fills the cache
        return run

    pairs = {
        "package": (cost("", "import comet_otel"), cost("", f"import {_HTTP}")),
        "three exporters, after the SDK": (cost(_SDK, _COMET_IMPORT), cost(_SDK, _STOCK_IMPORT)),
        "three exporters and the SDK": (cost("", _COMET_IMPORT), cost("", _STOCK_IMPORT)),
        "imported and constructed, after the SDK": (cost(_SDK, _COMET_MAKE), cost(_SDK, _STOCK_MAKE)),
    }
    rows = []
    for name, (comet, stock) in pairs.items():
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(IMPORTS):
            times[0].append(comet())
            times[1].append(stock())
        ours, theirs = map(statistics.median, times)
        rows.append([name, f"{1e3 * ours:.1f}", f"{1e3 * theirs:.1f}", f"{ours / theirs:.2f}"])
    title = f"CPU time of imports, ms (bound: {IMPORT_BOUND} for the first two)"
    table(title, ["", "comet_otel", "otlp.proto.http", "ratio"], rows)


if __name__ == "__main__":
    main()
