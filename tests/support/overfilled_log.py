"""Several processes append many times what a log may hold, while its blocks are watched and its losses are counted.

Nothing here believes the log: what was stored, delivered and rejected is noted by whoever did it, what is held is read.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from comet_storage import (
    Accounting,
    Client,
    CometConfig,
    CompressionConfig,
    Consumer,
    RetentionConfig,
    StorageConfig,
)
from comet_storage._format.segment_header import decode_segment_header
from tests.support.children import Child

STREAM = "flood:v1"
GROUP = "slow"
ENTRY_BYTES = 1000
BATCH = 100
WRITERS = 4


def flood_config(bound: int, *, protect: bool) -> CometConfig:
    """What all processes of a run are given."""
    return CometConfig(
        # Entries that are all alike would take no room.
        compression=CompressionConfig(codec="none"),
        storage=StorageConfig(sync_interval=0.5),
        retention=RetentionConfig(max_total_size=bound, protect_unconsumed=protect),
    )


def shard_name(writer: int) -> str:
    """Every writer has a shard."""
    return f"{STREAM}:shard:{writer:04d}"


def flood(out: Connection, into: Connection, directory: str, writer: int, config: CometConfig, batches: int) -> None:
    """A writer: append, and say how many entries and how long the slowest calls took."""
    batch = [writer.to_bytes(1, "little") * ENTRY_BYTES] * BATCH
    stored, times = 0, []
    with Client(directory, config) as client:
        name = shard_name(writer)
        for _ in range(batches):
            started = time.perf_counter()
            stored += len(client.append(name, batch))
            times.append(time.perf_counter() - started)
    times.sort()
    out.send((stored, times[len(times) // 2], times[int(len(times) * 0.999)], times[-1]))


@dataclass
class Peaks:
    """The most, and the least after the log had once been nearly full, that a watcher ever saw."""

    samples: int = 0
    linked: int = 0
    """Blocks of every file and directory that has a name, measured while no process may allocate."""
    ledger: int = 0
    volume: int = 0
    """What the volume lost, measured at any instant; unlinked files that somebody has open count as well."""
    least_data: int = 1 << 62
    """Bytes of published frames that were held."""


def watch(out: Connection, into: Connection, directory: str, bound: int, empty: int) -> None:
    """A watcher: look all the time until told to stop, then tell what was seen."""
    peaks = Peaks()
    root = Path(directory)
    with (root / "log.lock").open("rb") as lock:
        while not into.poll():
            peaks.samples += 1
            volume = os.statvfs(root)
            peaks.volume = max(peaks.volume, empty - volume.f_bfree * volume.f_frsize)
            # Otherwise a walk counts a file that goes and the one that takes its place.
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                linked, data = allocated(root), held_bytes(root)
                ledger = int.from_bytes(os.pread(lock.fileno(), 8, 1024), "little")
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)
            peaks.linked = max(peaks.linked, linked)
            peaks.ledger = max(peaks.ledger, ledger)
            if peaks.linked > bound * 0.8:
                peaks.least_data = min(peaks.least_data, data)
            time.sleep(0.002)
    out.send(peaks)


def allocated(directory: Path) -> int:
    """Blocks of everything below a directory, as du counts them."""
    total = os.lstat(directory).st_blocks
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            total += _blocks(f"{parent}/{name}")
    return total * 512


def _blocks(path: str) -> int:
    try:
        return os.lstat(path).st_blocks
    except FileNotFoundError:
        return 0


def held_bytes(root: Path) -> int:
    """Bytes between the first segment's first frame and what is published, over all shards."""
    total = 0
    for shard in root.glob("*/*/shard-*"):
        segments = sorted(shard.glob("*.segment"))
        if segments:
            header = decode_segment_header(segments[0].read_bytes()[:1024])
            published = int.from_bytes((shard / "state").read_bytes()[:8], "little")
            total += published - header.base_position if header is not None else 0
    return total


@dataclass
class Noted:
    """An independent ledger: what was stored and what became of it, per shard."""

    stored: dict[int, int] = field(default_factory=dict)
    slowest: list[tuple[float, float, float]] = field(default_factory=list)
    """Median, 99.9th percentile and maximum of the calls of each writer, in seconds."""
    delivered: Counter[int] = field(default_factory=Counter)
    rejected: Counter[int] = field(default_factory=Counter)
    pending: Counter[int] = field(default_factory=Counter)
    done: dict[int, set[int]] = field(default_factory=dict)
    """Numbers that the consumer is done with."""

    def expected(self, shard: int) -> Accounting:
        """The classes: what is neither delivered, nor rejected, nor pending was evicted."""
        parts = self.delivered[shard], self.rejected[shard], self.pending[shard]
        return Accounting(
            total=self.stored[shard],
            delivered=parts[0],
            rejected=parts[1],
            pending=parts[2],
            evicted=self.stored[shard] - sum(parts),
        )


def consume(consumer: Consumer, noted: Noted) -> None:
    """Acknowledge a little of everything, and reject some of it."""
    messages = consumer.read(count=200)
    keep = [message.id for message in messages if message.id.entry_number % 10]
    refuse = [message.id for message in messages if message.id.entry_number % 10 == 0]
    consumer.ack(*keep)
    if refuse:
        consumer.reject(*refuse, reason="every tenth")
    for ids, counter in ((keep, noted.delivered), (refuse, noted.rejected)):
        for shard_id, number in ids:
            counter[shard_id] += 1
            noted.done.setdefault(shard_id, set()).add(number)


def overfill(
    directory: Path, bound: int, total_bytes: int, *, protect: bool, empty: int, consuming: bool
) -> tuple[Peaks, Noted]:
    """Run the writers and the watcher, with a consumer that cannot keep up; return what both saw."""
    config = flood_config(bound, protect=protect)
    batches = total_bytes // (WRITERS * BATCH * ENTRY_BYTES)
    noted = Noted()
    with Client(directory, config) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        with Child(watch, str(directory), bound, empty) as watcher:
            writers = [Child(flood, str(directory), writer, config, batches) for writer in range(WRITERS)]
            while any(writer.process.is_alive() for writer in writers):
                if consuming:
                    consume(consumer, noted)
                writers[0].process.join(0.02)
            for number, writer in enumerate(writers):
                with writer:
                    stored, *times = writer.hear()
                    noted.stored[number] = stored
                    noted.slowest.append((times[0], times[1], times[2]))
            peaks = watcher.ask("stop")
        for writer_number in range(WRITERS):
            consumed = noted.done.get(writer_number, set())
            for message in client.scan(shard_name(writer_number)):
                noted.pending[writer_number] += message.id.entry_number not in consumed
    return peaks, noted


def check_accounting(directory: Path, noted: Noted) -> None:
    """The log's own classes are, number for number, those of the independent ledger, and so are its histories."""
    with Client(directory, read_only=True) as client:
        for shard, stored in noted.stored.items():
            found = client.shard_accounting(STREAM, shard, GROUP)
            assert found == noted.expected(shard), shard
            history = client.evictions(shard_name(shard))
            first_held = next(iter(client.scan(shard_name(shard)))).id.entry_number
            assert sum(each.count for each in history) == first_held
            assert (history[0].first, history[-1].last) == (0, first_held - 1)
            lost = sum(each.count for each in client.evictions(shard_name(shard), GROUP))
            # What was read before it went, and acknowledged behind that, was not acknowledged when it went.
            assert found.evicted <= lost <= found.evicted + found.delivered + found.rejected
            assert stored > first_held > 0
