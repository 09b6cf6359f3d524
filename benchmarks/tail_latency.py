"""The slowest appends while two threads of the process compute: against ``os.pwrite`` of the same bytes."""

from __future__ import annotations

import os
import threading
import time

from benchmarks.measure import quantile, scratch_directory, table, verdict
from comet_storage import Client, CometConfig

BUSY_THREADS = 2
SAMPLES = {1: 3_000, 1_000: 1_500}
"""Entries per append, and how many appends are measured."""
ENTRY_BYTES = 115
BOUND = 0.05
PAUSE = 0.001
STREAM = "bench:v1:shard:0000"


def main() -> None:
    """Measure and print."""
    stop = threading.Event()
    threads = [threading.Thread(target=_compute, args=(stop,), daemon=True) for _ in range(BUSY_THREADS)]
    for thread in threads:
        thread.start()
    try:
        rows = [row for entries, samples in SAMPLES.items() for row in _measured(entries, samples)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    table(
        f"Latency with {BUSY_THREADS} computing threads, microseconds (default settings)",
        ["call", "p50", "p99", "p99.9", "p99 / pwrite p99", "bound"],
        rows,
    )


def _measured(entries: int, samples: int) -> list[list[str]]:
    payloads = [os.urandom(ENTRY_BYTES) for _ in range(entries)]
    joined = b"".join(payloads)
    appends: list[float] = []
    writes: list[float] = []
    with scratch_directory() as directory:
        config = CometConfig.default()
        fd = os.open(directory / "plain", os.O_RDWR | os.O_CREAT, 0o600)
        with Client(directory / "log", config) as client:
            for index in range(samples):
                # As an application does: something else between two exports, so that the others had their turn.
                time.sleep(PAUSE)
                start = time.perf_counter()
                client.append(STREAM, payloads)
                appends.append((time.perf_counter() - start) * 1e6)
                time.sleep(PAUSE)
                start = time.perf_counter()
                os.pwrite(fd, joined, index * len(joined))
                writes.append((time.perf_counter() - start) * 1e6)
        os.close(fd)
    ratio = quantile(appends, 0.99) / quantile(writes, 0.99)
    return [
        [f"append of {entries:,}", *_quantiles(appends), f"{ratio:.3f}", f"{BOUND} {verdict(ratio, BOUND)}"],
        [f"os.pwrite of {len(joined):,} bytes", *_quantiles(writes), "", ""],
    ]


def _quantiles(values: list[float]) -> list[str]:
    return [f"{quantile(values, share):,.0f}" for share in (0.5, 0.99, 0.999)]


def _compute(stop: threading.Event) -> None:
    value = 0
    while not stop.is_set():
        value = (value * 31 + 7) % 1_000_003


if __name__ == "__main__":
    main()
