"""What ``copy=False`` is worth: reading a log with and without copying, stored as it is and compressed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import interleaved, scratch_directory, table, verdict, warm_memory
from comet_storage import Client, CometConfig, CompressionConfig, Consumer, StorageConfig

STREAM = "bench:v1"
SHARD = "bench:v1:shard:0000"
LOG_BYTES = 32 << 20
ROUNDS = 7
SHAPES = ((115, 1000), (4096, 100), (64 * 1024, 1), (1 << 20, 1))
"""Bytes of an entry, and entries of an append call."""
LARGE_ENTRY_BYTES = 64 * 1024
BOUND = 1.0
"""Large entries are read without copying at least as fast as with. Compressed ones are copied in both ways."""


def main() -> None:
    """Measure and print."""
    warm_memory()
    with scratch_directory() as directory:
        rows = [_measured(directory, size, count, codec) for codec in ("none", "zstd") for size, count in SHAPES]
    table(
        "Reading through a consumer, messages built: microseconds per MiB, median of interleaved rounds",
        ["entry bytes", "per call", "codec", "copy=True", "copy=False", "ratio", "bound"],
        rows,
    )


def _measured(directory: Path, size: int, count: int, codec: str) -> list[str]:
    config = CometConfig(
        compression=CompressionConfig(codec=codec), storage=StorageConfig(max_pinned_bytes=4 * LOG_BYTES)
    )
    with Client(directory / f"{codec}-{size}", config) as client:
        # Half of each entry compresses, as telemetry does.
        batch = [os.urandom(size // 2) + bytes(size - size // 2) for _ in range(count)]
        for _ in range(LOG_BYTES // (size * count)):
            client.append(SHARD, batch)
        with Consumer(client, "readers", stream=STREAM) as consumer:
            found = interleaved(ROUNDS, {"copies": _round(consumer, copy=True), "views": _round(consumer, copy=False)})
    ratio = found["views"] / found["copies"]
    bound = f"{BOUND} {verdict(ratio, BOUND)}" if size >= LARGE_ENTRY_BYTES and codec == "none" else ""
    return [f"{size:,}", f"{count:,}", codec, f"{found['copies']:.0f}", f"{found['views']:.0f}", f"{ratio:.2f}", bound]


def _round(consumer: Consumer, *, copy: bool) -> Callable[[], float]:
    def run() -> float:
        total = 0
        consumer.reset_offset(0, 0)
        start = time.perf_counter()
        while messages := consumer.read(count=1000, max_bytes=4 << 20, copy=copy):
            total += sum(len(message.data) for message in messages)
            consumer.ack_range(0, messages[0].id.entry_number, messages[-1].id.entry_number)
        return (time.perf_counter() - start) / total * 2**20 * 1e6

    return run


if __name__ == "__main__":
    main()
