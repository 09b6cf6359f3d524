"""A real log with several clients beside its model: each call is made to both, and their answers are compared.

Clients of one process stand for processes of their own: locks belong to descriptors, so one client does not get in
where another one is, and a client that is let go of without being closed leaves what ``kill -9`` leaves.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from comet_storage import (
    Client,
    CometConfig,
    CometError,
    CompressionConfig,
    ConcurrencyConfig,
    Consumer,
    RetentionConfig,
    StorageConfig,
)
from comet_storage._format.segment_header import decode_segment_header
from comet_storage.types import MessageID
from tests.support.log_model import Place, ShardModel
from tests.support.machine_door import MachineDoor
from tests.support.small_log import crash

ENTRY_BYTES_MAX = 40_000
APPEND_BYTES_MAX = 200_000
LANES = 3
LONG_ENTRIES = 2_000
BLOCK_BYTES = 512
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class LogSettings:
    """What all clients of a log share."""

    segment_bytes: int
    bound: int
    when_full: str = "evict_oldest"


@dataclass(frozen=True)
class ClientSettings:
    """What each client has of its own."""

    shared: bool = False
    durability: str = "process"
    write_method: str = "auto"
    codec: str = "none"


@dataclass(eq=False)
class OpenClient:
    """One client, and what is known of it."""

    key: int
    client: Client
    settings: ClientSettings
    lane: int | None = None


@dataclass(eq=False)
class OpenConsumer:
    """One consumer: the shards that it has leased, and what it was given."""

    holder: OpenClient
    consumer: Consumer
    stream: str
    group: str
    places: dict[int, Place] = field(default_factory=dict)
    given: list[MessageID] = field(default_factory=list)


@dataclass
class Outcome:
    """What a call gave: a value, or the name of the error's type."""

    value: Any = None
    error: str | None = None


def outcome_of(call: Callable[[], Any]) -> Outcome:
    """Call, and take a typed error of the log as an answer."""
    try:
        return Outcome(call())
    except CometError as error:
        return Outcome(error=type(error).__name__)


class LogWorld:
    """One log, its clients, and the model of its shards."""

    def __init__(self, settings: LogSettings, door: type[MachineDoor] = MachineDoor) -> None:
        self.settings = settings
        self.tally: Counter[str] = Counter()
        self._directories = tempfile.TemporaryDirectory(dir=_MEMORY, prefix="comet-machine-")
        self.directory = Path(self._directories.name, "boot0")
        self.directory.mkdir(mode=0o700)
        self._door_type = door
        self.door = door(0, self.directory)
        self.shards: dict[str, ShardModel] = {}
        self.clients: list[OpenClient] = []
        self.consumers: list[OpenConsumer] = []
        self.places: dict[tuple[str, str], dict[int, list[Place]]] = {}
        """By stream and group, for each shard what is stored: the last one, and before it those that a power cut may
        bring back."""
        self.dirty: set[str] = set()
        self._bound_holds = True
        self._keys = 0
        self._headers: dict[tuple[str, int], int] = {}

    def config(self, settings: ClientSettings) -> CometConfig:
        """A client's configuration."""
        return CometConfig(
            compression=CompressionConfig(codec=settings.codec, min_compress_size=64),
            storage=StorageConfig(
                max_file_size=self.settings.segment_bytes,
                sync_interval=300,
                durability=settings.durability,
                write_method=settings.write_method,
                max_entry_bytes=ENTRY_BYTES_MAX,
                max_append_bytes=APPEND_BYTES_MAX,
            ),
            concurrency=ConcurrencyConfig(multi_process=settings.shared, lanes=LANES),
            retention=RetentionConfig(max_total_size=self.settings.bound, when_full=self.settings.when_full),
        )

    def close(self) -> None:
        """Close what is open, and remove everything."""
        for holder in self.clients:
            holder.client.close()
        self._directories.cleanup()

    # Clients.

    def open_client(self, settings: ClientSettings) -> OpenClient:
        """One more client, without a flusher: what that does is a step of its own."""
        client = Client(self.directory, self.config(settings), _door=self.door)
        client._start_flusher = lambda: None  # type: ignore[method-assign]
        self._keys += 1
        holder = OpenClient(self._keys, client, settings)
        self.clients.append(holder)
        return holder

    def read_only_client(self) -> Client:
        """A client that changes nothing."""
        return Client(self.directory, self.config(ClientSettings()), read_only=True, _door=self.door)

    def close_client(self, holder: OpenClient) -> None:
        """Close a client in the regular way: what it wrote and acknowledged is durable then."""
        reachable, _ = self._writers_of(holder)
        holder.client.close()
        for name in reachable:
            self.shards[name].make_safe()
        self._forget(holder, synced=True)

    def crash_client(self, holder: OpenClient) -> None:
        """The process of a client is killed."""
        crash(holder.client)
        self._forget(holder, synced=False)

    def _forget(self, holder: OpenClient, *, synced: bool) -> None:
        self.clients.remove(holder)
        for shard in self.shards.values():
            if shard.owner == holder.key:
                shard.owner = None
        for reader in [reader for reader in self.consumers if reader.holder is holder]:
            self.forget_consumer(reader, synced=synced)

    def forget_consumer(self, reader: OpenConsumer, *, synced: bool) -> None:
        """A consumer is gone; its acknowledgements are durable if they were synced."""
        self.consumers.remove(reader)
        for shard_id in reader.places if synced else ():
            self.stored(reader.stream, reader.group, shard_id)[:-1] = []
        reader.places = {}

    def stored(self, stream: str, group: str, shard_id: int) -> list[Place]:
        """What is stored of a group in a shard, the latest last."""
        return self.places[stream, group].setdefault(shard_id, [Place()])

    # Appending.

    def append(self, holder: OpenClient, stream: str, entries: Sequence[bytes], *, forked: bool = False) -> None:
        """One append call, also one that is refused; with ``forked`` by a child of the client's process."""
        shard = self._shard(stream) if entries else self.shards.get(stream, ShardModel())
        expected = self._refusal(holder, shard, forked=forked) if entries else None
        shaped = [_SHAPES[index % len(_SHAPES)](entry) for index, entry in enumerate(entries)]
        found = self._call(lambda: list(holder.client.append(stream, shaped)), forked=forked)
        shard_id = int(stream[-4:])
        if self._taken(stream, found, expected, shard_id, entries) and not forked and not holder.settings.shared:
            shard.owner = holder.key
        if found.error is None and entries and holder.settings.durability == "always":
            shard.safe.append((shard.next_number - len(entries), shard.next_number))

    def append_to_lane(self, holder: OpenClient, stream: str, entries: Sequence[bytes], *, forked: bool) -> None:
        """By the lane writer: the first lane that nobody else owns, or the last one, which is everybody's."""
        lanes = holder.client.lanes(stream)
        found = self._call(lambda: list(lanes.append(entries)), forked=forked)
        if found.error is not None:
            self._refused(found.error, None)
            return
        lane = found.value[0].shard_id
        name = f"{stream}:shard:{lane:04d}"
        shard = self._shard(name)
        if forked or holder.lane is None:
            owners = [self._shard(f"{stream}:shard:{index:04d}").owner for index in range(LANES - 1)]
            assert lane == LANES - 1 or owners[lane] is None, f"lane {lane} has an owner"
            assert lane == LANES - 1 or None not in owners[:lane], f"lane {lane} and not a free one before"
            if not forked:
                holder.lane = lane
                shard.owner = holder.key if lane < LANES - 1 else None
        else:
            assert lane == holder.lane
        self._taken(name, found, None, lane, entries)
        if holder.settings.durability == "always":
            shard.safe.append((shard.next_number - len(entries), shard.next_number))

    def append_badly(self, holder: OpenClient, stream: str, entries: Any, error: type[CometError]) -> None:
        """What cannot be stored is refused, and nothing is; a batch is looked into by the shard's writer."""
        with pytest.raises(error):
            holder.client.append(stream, entries)
        if stream in holder.client._writers:
            shard = self._shard(stream)
            shard.owner = None if holder.settings.shared else holder.key

    def _taken(
        self, stream: str, found: Outcome, expected: str | None, shard_id: int, entries: Sequence[bytes]
    ) -> bool:
        """Whether an append was taken; compare the ids."""
        self.dirty.add(stream)
        if found.error is not None:
            self._refused(found.error, expected)
            return False
        assert expected is None, f"{expected} was expected"
        if not entries:
            assert found.value == []
            return False
        shard = self._shard(stream)
        first = shard.next_number
        assert found.value == [MessageID(shard_id, first + index) for index in range(len(entries))]
        shard.append(entries, self.door.wall_ns)
        self.tally["entries"] += len(entries)
        return True

    def _refusal(self, holder: OpenClient, shard: ShardModel, *, forked: bool) -> str | None:
        """The error that an append has to end in, if another client owns the shard."""
        if shard.owner is None or (shard.owner == holder.key and not forked):
            return None
        return "LogBusyError" if holder.settings.shared else "ShardOwnedError"

    def _refused(self, error: str, expected: str | None) -> None:
        self.tally[error] += 1
        if error == "LogFullError" and expected is None:
            if self.settings.when_full == "evict_oldest":
                closed = {name: found[:-1] for name in self.shards if (found := self.segments(name))[:-1]}
                assert not closed, f"full, with segments that could be evicted: {closed}"
            return
        assert error == expected

    def _shard(self, stream: str) -> ShardModel:
        return self.shards.setdefault(stream, ShardModel())

    # What a client's background thread, or its caller, does now and then.

    def sync(self, holder: OpenClient) -> None:
        """Everything that the client wrote or acknowledged is durable, or the caller is told that it is not."""
        if self._synced(holder, outcome_of(holder.client.sync)):
            for reader in self.consumers:
                if reader.holder is holder:
                    for shard_id in reader.places:
                        self.stored(reader.stream, reader.group, shard_id)[:-1] = []

    def flush(self, holder: OpenClient) -> None:
        """What the flusher does every second; acknowledgements it makes durable only now and then."""
        self._synced(holder, outcome_of(holder.client._flush))
        holder.client._grow_ahead()
        self.dirty.update(self.shards)

    def _writers_of(self, holder: OpenClient) -> tuple[list[str], list[str]]:
        """The shards that a client writes, and those that it shared until another one came to own them."""
        names = list(holder.client._writers)
        owned = [name for name in names if self._refusal(holder, self.shards[name], forked=False) is not None]
        return [name for name in names if name not in owned], owned

    def _synced(self, holder: OpenClient, found: Outcome) -> bool:
        """Note that the shards of a client are durable, unless another client keeps it from some of them."""
        reachable, owned = self._writers_of(holder)
        assert found.error == ("LogBusyError" if owned else None)
        for name in reachable if not owned else ():
            self.shards[name].make_safe()
        return not owned

    def rotate(self, holder: OpenClient) -> None:
        """Close the active segments of a client."""
        for name, writer in holder.client._writers.items():
            found = outcome_of(writer.rotate)
            self.tally["rotations"] += 1
            if found.error is not None:
                self._refused(found.error, self._refusal(holder, self.shards[name], forked=False))
            self.dirty.add(name)

    def evict(self, holder: OpenClient, size: int) -> None:
        """Make room for so many bytes, and then take none of them."""

        def refuse() -> NoReturn:
            raise _NotTakenError

        try:
            holder.client._ledger.reserve(size, refuse)
        except _NotTakenError:
            pass
        except CometError as error:
            self._refused(type(error).__name__, None)
        self.dirty.update(self.shards)

    # The end of processes and machines.

    def _call(self, call: Callable[[], Any], *, forked: bool) -> Outcome:
        return self.in_child(call) if forked else outcome_of(call)

    def in_child(self, call: Callable[[], Any]) -> Outcome:
        """The call in a forked child, which ends without closing anything."""
        into, out = os.pipe()
        with warnings.catch_warnings():
            # Newer Pythons warn of threads; the child makes one call, and takes no lock that those could hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            try:
                try:
                    found = outcome_of(call)
                except BaseException as error:
                    found = Outcome(error=f"{type(error).__name__}: {error}")
                with os.fdopen(out, "wb") as pipe:
                    pickle.dump((found, self.door.memory()), pipe)
            finally:
                os._exit(0)
        os.close(out)
        with os.fdopen(into, "rb") as pipe:
            outcome, memory = pickle.load(pipe)  # noqa: S301 - from this process's own child
        os.waitpid(pid, 0)
        self.door.remember(memory)
        self.tally["forks"] += 1
        self.dirty.update(self.shards)
        assert isinstance(outcome, Outcome)
        return outcome

    def cut_power(self, chance: int, settings: ClientSettings) -> None:
        """Every process ends, the disk keeps what was synced and any part of the rest, and the machine starts again."""
        before, target = self.directory, self.directory.with_name(f"boot{self.door.boot + 1}")
        self.door.cut_power(before, target, random.Random(chance))
        for holder in list(self.clients):
            self.crash_client(holder)
        shutil.rmtree(before)
        self.directory = target
        self.door = self._door_type(self.door.boot + 1, target)
        self._bound_holds = False
        self._headers.clear()
        for name in list(self.shards):
            if not self.shard_directory(name).is_dir():
                del self.shards[name]
        self._look_before_recovery()
        holder = self.open_client(settings)
        for name, shard in self.shards.items():
            self._learn_what_was_lost(holder, name, shard)
        self._learn_what_is_stored()
        self.dirty.update(self.shards)

    def _look_before_recovery(self) -> None:
        """Who only reads finds everything that was synced, and nothing false."""
        with self.read_only_client() as client:
            for name, shard in self.shards.items():
                found = [(m.id.entry_number, m.data) for m in client.scan(name)]
                self._check_survivors(shard, found)

    def _learn_what_was_lost(self, holder: OpenClient, name: str, shard: ShardModel) -> None:
        client = holder.client
        entries: list[bytes] = []
        if not self.segments(name):
            # Only who appends finds out which number comes next.
            entries = [b"the first after a power cut"]
            evicted = not shard.numbers or shard.numbers[-1] < shard.first
            assert evicted or not shard.is_safe(shard.numbers[-1])
            client.append(name, entries)
            shard.owner = None if holder.settings.shared else holder.key
        found = [(message.id.entry_number, message.data) for message in client.scan(name)][: -1 if entries else None]
        self._check_survivors(shard, found)
        # A group without a record stands at 0, so its total is the next number.
        next_number = client.shard_accounting(*_split(name), "nobody").total - len(entries)
        assert next_number >= shard.next_number, "a number could be given out twice"
        self.look_at_segments(name)
        shard.lose([number for number, _ in found], next_number)
        shard.append(entries, self.door.wall_ns)

    def _check_survivors(self, shard: ShardModel, found: list[tuple[int, bytes]]) -> None:
        kept = dict(found)
        held = shard.held()
        known = dict(zip(shard.numbers[held], shard.data[held], strict=True))
        assert list(kept) == sorted(kept)
        assert len(kept) == len(found)
        assert kept == {number: known.get(number) for number in kept}, "something false is served"
        missing = [number for number in known if number not in kept and shard.is_safe(number)]
        assert not missing, f"synced entries are missing: {missing[:5]}"

    def _learn_what_is_stored(self) -> None:
        """Of a group any state since the last sync may be what is left."""

    # What is on the disk.

    def shard_directory(self, name: str) -> Path:
        """Where a shard is."""
        stream, shard_id = _split(name)
        return self.directory / stream.replace(":", "/") / f"shard-{shard_id:04d}"

    def segments(self, name: str) -> list[int]:
        """First numbers of a shard's segments, from the names of the files."""
        directory = self.shard_directory(name)
        if not directory.is_dir():
            return []
        return sorted(int(found.name[:20]) for found in directory.glob("*.segment"))

    def look_at_segments(self, name: str) -> None:
        """See what was evicted: the oldest segments, and no others."""
        shard = self.shards[name]
        found = self.segments(name)
        if found == shard.segments:
            return
        self.dirty.add(name)
        first = found[0] if found else 0
        if shard.segments:
            assert found or not self._bound_holds, f"all segments of {name} are gone"
            if self._bound_holds:
                assert [number for number in shard.segments if number >= first and number not in found] == []
        assert first >= shard.first or not shard.numbers
        evicted = first - shard.first
        if evicted and self._bound_holds:
            if self.settings.when_full == "reject_new":
                assert self._wanted_from(name) >= first, "evicted, although new entries were to be rejected"
            self.tally["evicted"] += evicted
        shard.segments, shard.first = found, first
        shard.first_lost_from = self._lost_from(name, first) if found else 0

    def _wanted_from(self, name: str) -> int:
        """The lowest number of a shard that a group has still to acknowledge; 0 where there is no group."""
        stream, shard_id = _split(name)
        groups = [group for known, group in self.places if known == stream]
        return min((self.stored(stream, group, shard_id)[-1].offset for group in groups), default=0)

    def _lost_from(self, name: str, first: int) -> int:
        header = decode_segment_header((self.shard_directory(name) / f"{first:020d}.segment").read_bytes()[:1024])
        return header.lost_from if header is not None else first

    def check_entries(self, client: Client, name: str, *, whole: bool) -> None:
        """From the oldest held number on, every entry is there, in order, with its bytes and its time.

        Of a long shard that did nothing, only the end is looked at, unless it has to be the ``whole``.
        """
        shard = self.shards[name]
        held = shard.held()
        count = len(shard.numbers[held])
        if count > LONG_ENTRIES and not whole and name not in self.dirty:
            held = slice(-LONG_ENTRIES // 2, None)
        start = shard.numbers[held][0] if count else 0
        found = [(message.id.entry_number, message.timestamp, message.data) for message in client.scan(name, start)]
        assert [number for number, _, _ in found] == shard.numbers[held], f"{name} does not hold what it should"
        assert [data for _, _, data in found] == shard.data[held], f"{name} holds other bytes"
        assert [stamp for _, stamp, _ in found] == shard.stamps[held], f"{name} tells other times"
        # Numbers that were lost in the middle of what a power cut left count as damaged, and those as held.
        gone = sum(end - max(first, shard.first) for first, end in shard.lost if end > shard.first)
        assert count <= client.len(name) <= count + gone

    def allocated(self) -> int:
        """Bytes of the blocks of everything in the log's directory."""
        total = self.directory.stat().st_blocks
        for folder, directories, files in os.walk(self.directory):
            total += sum(Path(folder, name).lstat().st_blocks for name in [*directories, *files])
        return total * BLOCK_BYTES

    def check_bound(self) -> None:
        """No more blocks than were allowed; what a power cut brings back of freed ones goes with the next eviction."""
        allocated = self.allocated()
        if not self._bound_holds:
            self._bound_holds = allocated <= self.settings.bound
            return
        assert allocated <= self.settings.bound, f"{allocated} bytes of {self.settings.bound}"


class _NotTakenError(Exception):
    """Room was made, and not taken."""


_SHAPES: tuple[Callable[[bytes], Any], ...] = (bytes, bytes, bytearray, memoryview, bytes)


def _split(name: str) -> tuple[str, int]:
    stream, _, shard_id = name.partition(":shard:")
    return stream, int(shard_id)
