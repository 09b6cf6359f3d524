"""``durability="always"``: appends per second of many threads that share syncs, against one thread."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measure import interleaved, scratch_directory, table
from comet_storage import Client, CometConfig, StorageConfig
from comet_storage._os.door import DOOR, Door

THREADS = 32
SYNC_SECONDS = 0.005
ROUNDS = 5
ROUND_SECONDS = 1.0
BOUND = 12
ENTRY = os.urandom(115)
STREAM = "bench:v1:shard:0000"


class SlowDoor(Door):
    """A disk whose syncs take a known time."""

    def sync_data(self, fd: int) -> None:
        """Take that time instead of the disk's."""
        del fd
        time.sleep(SYNC_SECONDS)


def main() -> None:
    """Measure and print."""
    with scratch_directory() as directory:
        rows = [
            _measured(directory / "slow", SlowDoor(), "5 ms, injected", BOUND),
            _measured(directory, DOOR, "the disk's", 0),
        ]
    table(
        f"Appends per second, durability=always, median of {ROUNDS} interleaved rounds",
        ["sync", "1 thread", f"{THREADS} threads", "ratio", "bound"],
        rows,
    )


def _measured(directory: Path, door: Door, name: str, bound: int) -> list[str]:
    config = CometConfig(storage=StorageConfig(durability="always"))
    with Client(directory / "log", config, _door=door) as client, ThreadPoolExecutor(THREADS) as pool:

        def run(threads: int) -> float:
            end = time.monotonic() + ROUND_SECONDS

            def append() -> int:
                count = 0
                while time.monotonic() < end:
                    client.append(STREAM, [ENTRY])
                    count += 1
                return count

            return sum(found.result() for found in [pool.submit(append) for _ in range(threads)]) / ROUND_SECONDS

        found = interleaved(ROUNDS, {"one": lambda: run(1), "many": lambda: run(THREADS)})
    ratio = found["many"] / found["one"]
    kept = "" if not bound else f"{bound} " + ("[green]kept[/]" if ratio >= bound else "[red]missed[/]")
    return [name, f"{found['one']:,.0f}", f"{found['many']:,.0f}", f"{ratio:.1f}", kept]


if __name__ == "__main__":
    main()
