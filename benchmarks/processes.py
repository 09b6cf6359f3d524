"""Several processes that append at once: to one shared shard, and each to a shard of its own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.measure import scratch_directory, table, warm_memory
from comet_storage import Client, CometConfig, ConcurrencyConfig, RetentionConfig

ENTRY_BYTES = 115
PER_CALL = 100
ROUNDS = 9
ROUND_SECONDS = 1.0
LOG_BYTES = 8 << 30

SHARED_BOUND = 0.5
OWNED_BOUND = 1.6


def main() -> None:
    """Measure and print."""
    warm_memory()
    with scratch_directory() as directory:
        shared = _medians(directory, shared=True, crowds=(1, 2))
        owned = _medians(directory, shared=False, crowds=(1, 4))
    table(
        f"Entries per second of all processes together, {PER_CALL} per call, median of {ROUNDS} interleaved rounds",
        ["shards", "1 process", "several", "ratio", "bound"],
        [_row("one shared by 2", shared, SHARED_BOUND), _row("4 owned, on 2 cores", owned, OWNED_BOUND)],
    )


def _row(name: str, found: list[float], bound: float) -> list[str]:
    ratio = found[1] / found[0]
    kept = "[green]kept[/]" if ratio >= bound else "[red]missed[/]"
    return [name, f"{found[0]:,.0f}", f"{found[1]:,.0f}", f"{ratio:.2f}", f"{bound} {kept}"]


def _medians(directory: Path, *, shared: bool, crowds: tuple[int, int]) -> list[float]:
    rates: dict[int, list[float]] = {crowd: [] for crowd in crowds}
    for number in range(ROUNDS):
        for crowd in crowds:
            log = directory / f"{shared}-{crowd}-{number}"
            rates[crowd].append(_rate(log, crowd, shared=shared))
            # So that the next round gets memory that the host of a virtual machine has in place.
            shutil.rmtree(log)
    return [statistics.median(rates[crowd]) for crowd in crowds]


def _rate(directory: Path, crowd: int, *, shared: bool) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(crowd)
    with context.Pool(crowd, initializer=_remember, initargs=(barrier,)) as pool:
        tasks = [(str(directory), 0 if shared else index, shared) for index in range(crowd)]
        return sum(pool.starmap(_append, tasks, chunksize=1)) * PER_CALL / ROUND_SECONDS


_barrier: Barrier


def _remember(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - a pool hands a barrier over in no other way
    _barrier = barrier


def _append(directory: str, shard: int, shared: bool) -> int:  # noqa: FBT001 - starmap passes by position
    config = CometConfig(
        retention=RetentionConfig(max_total_size=LOG_BYTES), concurrency=ConcurrencyConfig(multi_process=shared)
    )
    entries = [os.urandom(ENTRY_BYTES) for _ in range(PER_CALL)]
    stream = f"bench:v1:shard:{shard:04d}"
    with Client(directory, config) as client:
        client.append(stream, entries)
        _barrier.wait()
        end = time.monotonic() + ROUND_SECONDS
        calls = 0
        while time.monotonic() < end:
            client.append(stream, entries)
            calls += 1
    return calls


if __name__ == "__main__":
    main()
