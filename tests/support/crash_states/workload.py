"""What users of a log do, recorded: appends of all sizes, rotations, flushes, groups, acknowledgements, eviction."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from comet_storage import (
    Client,
    CometConfig,
    CometError,
    ConcurrencyConfig,
    Consumer,
    RetentionConfig,
    StorageConfig,
)
from comet_storage._os.door import Door
from tests.support.crash_states.trace import Mark, RecordingDoor
from tests.support.entries import KEY_BYTES, make_entry
from tests.support.small_log import GROUP, SHARD, STREAM, crash

LOG = "log"
"""The log's directory, in the one that is recorded."""

BALLAST = "ballast"
"""A file in the log's directory that takes most of its bound, so that a few segments are enough to be evicted."""

_AFTER_CRASH = 1 << 20
"""Sequence number of the first entry after a crash, so that none looks like one from before."""
_BOUND = 600 * 1024
_SEGMENTS_KEPT = 6
_SMALL_FILES = 176 * 1024
"""What is kept aside, and what page, records and prepared segments take."""


@dataclass(frozen=True)
class Setting:
    """One way to use a log."""

    name: str
    shared: bool = False
    always: bool = False
    pwrite: bool = False
    knows_boot: bool = True
    segment_bytes: int = 4096
    entry_bytes: int = 12
    """The least; a batch has entries of up to 24 bytes more."""
    counts: tuple[int, ...] = (1, 1, 1, 2, 5, 40)
    """Entries of an append."""
    evicting: bool = False
    failing: bool = False
    """Some syncs fail."""
    turns: int = 24

    def config(self) -> CometConfig:
        """As the log's configuration."""
        return CometConfig(
            storage=StorageConfig(
                max_file_size=self.segment_bytes,
                sync_interval=300,
                durability="always" if self.always else "process",
                write_method="pwrite" if self.pwrite else "mmap",
            ),
            concurrency=ConcurrencyConfig(multi_process=self.shared),
            retention=RetentionConfig(max_total_size=_BOUND) if self.evicting else RetentionConfig(),
        )

    @property
    def boot(self) -> int:
        """The boot that it is used in."""
        return 1 if self.knows_boot else 0


class StillFlusher:
    """Does nothing by itself, so that a run can be repeated; the workload has it work."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take whatever the real one takes."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_arguments, **_options: True


@contextmanager
def still_flusher() -> Iterator[None]:
    """Clients made within have no flusher thread."""
    with mock.patch("comet_storage._upkeep.Flusher", StillFlusher):
        yield


def make_ballast(directory: Path) -> None:
    """Leave room for a few segments."""
    size = _BOUND - _SMALL_FILES - _SEGMENTS_KEPT * 4096
    (directory / LOG / BALLAST).write_bytes(bytes(size))


class Workload:
    """One run. What it did is in the door's trace."""

    def __init__(self, directory: Path, setting: Setting, door: RecordingDoor, seed: int) -> None:
        self.setting = setting
        self.door = door
        self.chance = random.Random(f"{setting.name} {seed}")
        self._directory = directory
        self._sequence = 0
        self._clients: list[Client] = []
        self._consumer: Consumer | None = None
        self._registered = self._leased = self._wrote = False
        self._acknowledged: set[int] = set()

    def run(self) -> None:
        """Do a little of everything, in an order that the seed decides."""
        actions = [self.append] * 9 + [self.acknowledge] * 4 + [self.sync] * 2
        actions += [self.sync_offsets, self.work_ahead, self.reopen, self.crash]
        with still_flusher():
            self._open()
            if self.setting.evicting:
                make_ballast(self._directory)
            register_at = self.chance.choice((0, 3))
            for turn in range(self.setting.turns):
                if turn == register_at:
                    self.register()
                action = self.chance.choice(actions)
                action()
                # Far enough for the space in use to be measured anew.
                self.door.now += 60
            self.append()
            self.acknowledge()
            self._close()

    def run_on(self, turns: int, *, after_power_cut: bool) -> None:
        """Go on with what a crash left."""
        self._sequence = _AFTER_CRASH
        with still_flusher():
            self._open()
            client = self._clients[0]
            served = frozenset(message.id.entry_number for message in client.scan(SHARD))
            if after_power_cut:
                self.door.record(Mark("recovered", served))
            self._registered = GROUP in client.groups(STREAM)
            for _ in range(turns):
                self.door.now += 60
                self.append()
                self.acknowledge()
            self.sync()
            self._close()

    def append(self) -> None:
        """A few appends, by either client."""
        for _ in range(self.chance.randrange(1, 6)):
            self._append(self.chance.choice(self.setting.counts))

    def append_large(self) -> None:
        """One append that is stored in pieces, to a segment that is larger than the others."""
        self._append(2, size=34_000)

    def _append(self, count: int, *, size: int | None = None, client: Client | None = None) -> None:
        client = client or self.chance.choice(self._clients)
        least = size or max(self.setting.entry_bytes, KEY_BYTES)
        entries = tuple(
            make_entry(1, number, least + number % 24) for number in range(self._sequence, self._sequence + count)
        )
        self._sequence += count
        begin = Mark("append", entries=entries)
        self.door.record(begin)
        ids = client.append(SHARD, entries)
        begin.first, begin.position = ids[0].entry_number, self.door.published
        self.door.record(Mark("appended"))
        self._wrote = True

    def sync(self) -> None:
        """Make everything durable."""
        # A client makes durable what it has a writer and a consumer for, so it is the consumer's, and appends before.
        client = self._clients[-1]
        self._append(1, client=client)
        self._promise("sync", client.sync)

    def _promise(self, kind: str, make_durable: Callable[[], object], *, closing: bool = False) -> None:
        # Acknowledgements of a consumer that died are made durable by whoever leases its shard next.
        self.door.record(Mark(kind, frozenset(self._acknowledged if self._leased else ())))
        if self.setting.failing and not closing:
            self.door.refused = self.chance.choice((None, ".segment", "/state", "/group-"))
        try:
            make_durable()
        except CometError:
            return
        finally:
            self.door.refused = None
        self.door.record(Mark(kind + " done"))

    def sync_offsets(self) -> None:
        """Make acknowledgements durable."""
        if self._consumer is not None:
            self._promise("sync offsets", self._consumer.sync)

    def work_ahead(self) -> None:
        """What the flusher does when an append asks for it."""
        for client in self._clients:
            client._grow_ahead()

    def register(self) -> None:
        """Make the group, and consume as it."""
        if self._consumer is None:
            self.door.record(Mark("register"))
            self._consumer = Consumer(self._clients[-1], GROUP, stream=STREAM)
            self.door.record(Mark("registered"))
            self._registered = True

    def acknowledge(self) -> None:
        """Read a few, and acknowledge most of them, also out of order."""
        if self._consumer is None and self._registered:
            self.register()
        if self._consumer is None:
            return
        self._leased = True
        messages = self._consumer.read(count=self.chance.randrange(1, 12))
        chosen = [message.id for message in messages if self.chance.random() < 0.9]
        if chosen:
            numbers = frozenset(found.entry_number for found in chosen)
            self.door.record(Mark("acknowledge", numbers))
            self._consumer.ack(*chosen)
            self.door.record(Mark("acknowledged", numbers))
            self._acknowledged |= numbers

    def reopen(self) -> None:
        """Close, and open again."""
        self._close()
        self._open()

    def crash(self) -> None:
        """Die, and be started again in the same boot."""
        for client in self._clients:
            crash(client)
        self._open()

    def _open(self) -> None:
        self._consumer, self._leased, self._wrote = None, False, False
        config = self.setting.config()
        door: Door = self.door
        self._clients = [Client(self._directory / LOG, config, _door=door) for _ in range(1 + self.setting.shared)]

    def _close(self) -> None:
        """What was done with a client is durable when it has closed."""
        # A client that wrote to no shard makes none durable; and one that is closed does not say what failed.
        kind = "sync" if self._wrote else "sync offsets"
        self._promise(kind, lambda: [client.close() for client in self._clients], closing=True)
