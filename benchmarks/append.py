"""What one append call costs, against LMDB without syncs: 115-byte entries, microseconds per call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import lmdb

from benchmarks.measure import interleaved, scratch_directory, table, verdict, warm_memory
from comet_storage import Client, CometConfig, ConcurrencyConfig, RetentionConfig

ENTRY_BYTES = 115
ROUNDS = 9
STREAM = "bench:v1:shard:0000"
LOG_BYTES = 4 << 30

CALLS = {1: 20_000, 10: 5_000, 100: 1_000, 1_000: 100, 10_000: 12}
"""Entries per call, and calls per round."""

OWNED_BOUNDS = {1: 0.9, 100: 0.25, 1_000: 0.3, 10_000: 0.2}
SHARED_BOUNDS = {1: 2.0}


def main() -> None:
    """Measure and print."""
    warm_memory()
    with scratch_directory() as directory:
        rows = [_measured(directory, entries, calls) for entries, calls in CALLS.items()]
    table(
        "Append: microseconds per call, median of interleaved rounds (ratio to LMDB, sync=False, writemap=True)",
        ["entries per call", "LMDB", "owned shard", "ratio", "bound", "shared shard", "ratio", "bound"],
        rows,
    )


def _measured(directory: Path, entries: int, calls: int) -> list[str]:
    retention = RetentionConfig(max_total_size=LOG_BYTES)
    owned = Client(directory / f"owned-{entries}", CometConfig(retention=retention))
    shared = Client(
        directory / f"shared-{entries}",
        CometConfig(retention=retention, concurrency=ConcurrencyConfig(multi_process=True)),
    )
    environment = lmdb.open(str(directory / f"lmdb-{entries}"), map_size=LOG_BYTES, sync=False, writemap=True)
    payloads = [os.urandom(ENTRY_BYTES) for _ in range(entries)]
    with owned, shared, environment:
        found = interleaved(
            ROUNDS,
            {
                "lmdb": _lmdb_round(environment, payloads, calls),
                "owned": _comet_round(owned, payloads, calls),
                "shared": _comet_round(shared, payloads, calls),
            },
        )
    row = [f"{entries:,}", f"{found['lmdb']:.2f}"]
    for name, bounds in (("owned", OWNED_BOUNDS), ("shared", SHARED_BOUNDS)):
        ratio = found[name] / found["lmdb"]
        bound = bounds.get(entries)
        row += [f"{found[name]:.2f}", f"{ratio:.2f}", "" if bound is None else f"{bound} {verdict(ratio, bound)}"]
    return row


def _lmdb_round(environment: lmdb.Environment, payloads: list[bytes], calls: int) -> Callable[[], float]:
    key = 0

    def run() -> float:
        nonlocal key
        start = time.perf_counter()
        for _ in range(calls):
            with environment.begin(write=True) as transaction:
                for payload in payloads:
                    transaction.put(key.to_bytes(8, "big"), payload)
                    key += 1
        return (time.perf_counter() - start) / calls * 1e6

    return run


def _comet_round(client: Client, payloads: list[bytes], calls: int) -> Callable[[], float]:
    def run() -> float:
        append = client.append
        start = time.perf_counter()
        for _ in range(calls):
            append(STREAM, payloads)
        return (time.perf_counter() - start) / calls * 1e6

    return run


if __name__ == "__main__":
    main()
