"""What compression costs an append, and saves on the disk: telemetry-like text and random bytes, 115 per entry."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import interleaved, scratch_directory, table, warm_memory
from comet_storage import Client, CometConfig, CompressionConfig

SHARD = "bench:v1:shard:0000"
ENTRY_BYTES = 115
CALLS = {1: 5_000, 40: 500, 100: 300, 1_000: 50, 10_000: 6}
ROUNDS = 7
LEVELS = (1, 3)


def line(number: int) -> bytes:
    """One line of a log in JSON."""
    seed = random.Random(number)
    words = seed.choices(("request", "completed", "checkout", "cart", "GET", "POST", "200", "404", "eu-west"), k=8)
    record = {"t": 1_700_000_000_000 + number * 13, "level": seed.choice(("info", "warn")), "message": " ".join(words)}
    return f"{json.dumps(record)[: ENTRY_BYTES - 16]}{seed.getrandbits(64):016x}".ljust(ENTRY_BYTES).encode()


def main() -> None:
    """Measure and print."""
    warm_memory()
    rows = []
    with scratch_directory() as directory:
        for content in ("text", "random"):
            for count, calls in CALLS.items():
                rows.append(_measured(directory, content, count, calls))
    table(
        "Append: microseconds per call, median of interleaved rounds (stored size)",
        ["content", "entries per call", "codec none", *(f"zstd, level {level}" for level in LEVELS)],
        rows,
    )


def _measured(directory: Path, content: str, count: int, calls: int) -> list[str]:
    entries = [line(number) if content == "text" else os.urandom(ENTRY_BYTES) for number in range(count)]
    clients = {
        name: Client(directory / f"{content}-{count}-{name}", CometConfig(compression=compression))
        for name, compression in {
            "none": CompressionConfig(codec="none"),
            **{str(level): CompressionConfig(level=level) for level in LEVELS},
        }.items()
    }
    found = interleaved(ROUNDS, {name: _round(client, entries, calls) for name, client in clients.items()})
    row = [content, f"{count:,}", f"{found['none']:.1f}"]
    for level in LEVELS:
        counters = clients[str(level)]._settings.compression  # noqa: SLF001
        part = counters.stored_bytes / counters.content_bytes if counters.content_bytes else 1.0
        row.append(f"{found[str(level)]:.1f} ({part:.0%})")
    for client in clients.values():
        client.close()
    return row


def _round(client: Client, entries: list[bytes], calls: int) -> Callable[[], float]:
    def run() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            client.append(SHARD, entries)
        return (time.perf_counter() - start) / calls * 1e6

    return run


if __name__ == "__main__":
    main()
