"""What reading and acknowledging costs, against a walk of LMDB's cursor that keeps the values: 115-byte entries."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

import lmdb

from benchmarks.measure import interleaved, scratch_directory, table, verdict, warm_memory
from comet_storage import Client, Consumer

ENTRY_BYTES = 115
ENTRIES = 200_000
BATCH = 1_000
ROUNDS = 9
STREAM = "bench:v1"
SHARD = "bench:v1:shard:0000"
MAP_BYTES = 1 << 30

WALK_BOUND = 3.0
ACKNOWLEDGE_BOUND = 0.15
PLACE_BOUND = 1.5
PLACE_ENTRY = 199_000


def main() -> None:
    """Measure and print."""
    warm_memory()
    with scratch_directory() as directory:
        environment = lmdb.open(str(directory / "lmdb"), map_size=MAP_BYTES, sync=False, writemap=True)
        with environment:
            _fill_lmdb(environment)
            walks, parts = [], []
            for per_call in (1, BATCH):
                walk, part = _measured(directory, environment, per_call)
                walks.append(walk)
                parts += part
    table(
        f"Read and acknowledge {BATCH:,} at a time: nanoseconds per entry, median of interleaved rounds",
        ["entries per append call", "LMDB cursor, values kept", "Consumer", "ratio", "bound"],
        walks,
    )
    table(
        f"Parts of it: microseconds per read or acknowledgement of {BATCH:,}, median",
        ["entries per append call", "what", "of", "us", "against", "us", "ratio", "bound"],
        parts,
    )


def _measured(directory: Path, environment: lmdb.Environment, per_call: int) -> tuple[list[str], list[list[str]]]:
    with Client(directory / f"log-{per_call}") as client:
        payloads = [os.urandom(ENTRY_BYTES) for _ in range(per_call)]
        for _ in range(ENTRIES // per_call):
            client.append(SHARD, payloads)
        with Consumer(client, "bench", stream=STREAM) as consumer:
            walk = interleaved(
                ROUNDS, {"lmdb": lambda: _lmdb_walk(environment), "consumer": lambda: _consume(consumer)}
            )
            place = interleaved(
                ROUNDS * 10, {"first": _reading_at(consumer, 0), "far": _reading_at(consumer, PLACE_ENTRY)}
            )
            read, acknowledge = _read_and_acknowledge(consumer)
        fresh = interleaved(ROUNDS, {"first": _opening_at(client, 0), "far": _opening_at(client, PLACE_ENTRY)})
    name = f"{per_call:,}"
    ratio = walk["consumer"] / walk["lmdb"]
    row = [name, f"{walk['lmdb']:.0f}", f"{walk['consumer']:.0f}", f"{ratio:.2f}", _judged(ratio, WALK_BOUND)]
    return row, [
        [
            name,
            "acknowledging the ids",
            "",
            f"{acknowledge:.1f}",
            "reading them",
            f"{read:.1f}",
            f"{acknowledge / read:.3f}",
            _judged(acknowledge / read, ACKNOWLEDGE_BOUND),
        ],
        *(
            [
                name,
                what,
                f"entry {PLACE_ENTRY:,}",
                f"{found['far']:.1f}",
                "entry 0",
                f"{found['first']:.1f}",
                f"{found['far'] / found['first']:.2f}",
                _judged(found["far"] / found["first"], PLACE_BOUND),
            ]
            for what, found in (("a read after a reset", place), ("the first read of a consumer", fresh))
        ),
    ]


def _judged(ratio: float, bound: float) -> str:
    return f"{bound} {verdict(ratio, bound)}"


def _fill_lmdb(environment: lmdb.Environment) -> None:
    payloads = [os.urandom(ENTRY_BYTES) for _ in range(BATCH)]
    for first in range(0, ENTRIES, BATCH):
        with environment.begin(write=True) as transaction:
            for index, payload in enumerate(payloads):
                transaction.put((first + index).to_bytes(8, "big"), payload)


def _lmdb_walk(environment: lmdb.Environment) -> float:
    gc.collect()
    start = time.perf_counter()
    with environment.begin() as transaction:
        values = [value for _, value in transaction.cursor()]
    spent = time.perf_counter() - start
    assert len(values) == ENTRIES
    return spent / ENTRIES * 1e9


def _consume(consumer: Consumer) -> float:
    """Read and acknowledge everything, batch by batch."""
    consumer.reset_offset(0, 0)
    total = 0
    gc.collect()
    start = time.perf_counter()
    while messages := consumer.read(count=BATCH):
        total += len(messages)
        consumer.ack(*[message.id for message in messages])
    spent = time.perf_counter() - start
    assert total == ENTRIES
    return spent / ENTRIES * 1e9


def _reading_at(consumer: Consumer, number: int) -> Callable[[], float]:
    def run() -> float:
        consumer.reset_offset(0, number)
        start = time.perf_counter()
        messages = consumer.read(count=BATCH)
        spent = time.perf_counter() - start
        assert messages[0].id.entry_number == number
        assert len(messages) == BATCH
        return spent * 1e6

    return run


def _opening_at(client: Client, number: int) -> Callable[[], float]:
    """The first read of a consumer, which knows nothing of where entries are."""

    def run() -> float:
        with Consumer(client, "bench", stream=STREAM) as consumer:
            consumer.reset_offset(0, number)
            start = time.perf_counter()
            messages = consumer.read(count=BATCH)
            spent = time.perf_counter() - start
        assert messages[0].id.entry_number == number
        return spent * 1e6

    return run


def _read_and_acknowledge(consumer: Consumer) -> tuple[float, float]:
    """Medians of a read, and of acknowledging its ids."""
    consumer.reset_offset(0, 0)
    reads, acknowledgements = [], []
    while True:
        start = time.perf_counter()
        messages = consumer.read(count=BATCH)
        reads.append(time.perf_counter() - start)
        if not messages:
            break
        ids = [message.id for message in messages]
        start = time.perf_counter()
        consumer.ack(*ids)
        acknowledgements.append(time.perf_counter() - start)
    reads.pop()
    middle = len(acknowledgements) // 2
    return sorted(reads)[middle] * 1e6, sorted(acknowledgements)[middle] * 1e6


if __name__ == "__main__":
    main()
