"""What memory `comet-shipper` takes that drains spans, log records and metrics at once, as its operator runs it."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from benchmarks.measure import scratch_directory, table
from benchmarks.shipping import ENTRY_KINDS, MEMORY_BOUND_MIB, MIB, SHARDS, entry, serve
from comet_storage import Client, CometConfig, RetentionConfig

RECORDS_PER_ENTRY = 512
METRICS_PER_ENTRY = 100
SERIES_PER_METRIC = 10


def log_entry(seed: int) -> bytes:
    """Return a batch of log records."""
    chance = random.Random(seed)
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for _ in range(RECORDS_PER_ENTRY):
        record = scope.log_records.add(time_unix_nano=chance.getrandbits(60), trace_id=chance.randbytes(16))
        record.body.string_value = f"order {chance.getrandbits(32)} of customer {chance.getrandbits(20)} has been paid"
        attribute = record.attributes.add()
        attribute.key, attribute.value.int_value = "code.line.number", chance.randrange(1000)
    return request.SerializeToString()


def metric_entry(seed: int) -> bytes:
    """Return what a reader exports at one time."""
    chance = random.Random(seed)
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for number in range(METRICS_PER_ENTRY):
        metric = scope.metrics.add(name=f"shop.metric.{number}", unit="1")
        for series in range(SERIES_PER_METRIC):
            point = metric.sum.data_points.add(as_int=chance.getrandbits(40), time_unix_nano=chance.getrandbits(60))
            attribute = point.attributes.add()
            attribute.key, attribute.value.string_value = "route", f"/route/{series}"
    return request.SerializeToString()


def fill(directory: Path, size: int) -> None:
    """Write a backlog with a third of each signal."""
    config = CometConfig(retention=RetentionConfig(max_total_size=8 * 1024 * MIB))
    makers = {"traces:v1": entry, "logs:v1": log_entry, "metrics:v1": metric_entry}
    with Client(directory, config) as client:
        for stream, make in makers.items():
            entries = [make(seed) for seed in range(ENTRY_KINDS)]
            written = number = 0
            while written < size // len(makers):
                data = entries[number % ENTRY_KINDS]
                client.append(f"{stream}:shard:{number % SHARDS:04d}", [data])
                written += len(data)
                number += 1


def drained(directory: Path, options: list[str]) -> tuple[float, float]:
    """Run the shipper until all is delivered; return its largest anonymous memory in MiB, and the seconds."""
    command = [sys.executable, "-m", "shipper", "run", "--once", "--data-dir", str(directory), *options]
    begun, peak = time.monotonic(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            _, found, value = status.partition("RssAnon:")
            peak = max(peak, int(value.split()[0]) / 1024 if found else 0.0)
            time.sleep(0.02)
    assert process.returncode == 0, process.returncode
    return peak, time.monotonic() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048, help="size of the backlog")
    options = parser.parse_args()
    os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "60000"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    collector = context.Process(target=serve, args=(theirs,), daemon=True)
    collector.start()
    endpoint = f"http://127.0.0.1:{ours.recv()}"
    rows = []
    with scratch_directory() as scratch:
        fill(scratch / "log", options.mib * MIB)
        for compression in ("none", "gzip"):
            arguments = ["--endpoint", endpoint, "--compression", compression, "--group", f"bench-{compression}"]
            peak, seconds = drained(scratch / "log", arguments)
            rows.append([compression, f"{options.mib / seconds:.0f}", f"{peak:.0f}", f"<= {MEMORY_BOUND_MIB:.0f}"])
    table(
        f"Draining {options.mib} MiB of three signals at once",
        ["compression", "MiB/s", "peak anonymous MiB", "bound"],
        rows,
    )
    ours.close()
    collector.join(10)


if __name__ == "__main__":
    main()
