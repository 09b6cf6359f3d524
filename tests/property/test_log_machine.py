"""Does a log behave like plain lists, whatever several processes do to it, and whenever they or the machine die?"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from comet_storage import BatchTooLarge, Client, EntryTooLarge, InvalidEntryError, ReadOnlyError
from comet_storage.types import MessageID
from tests.support.log_groups import EVERYTHING, GroupWorld
from tests.support.log_model import DELIVERED, REJECTED
from tests.support.log_world import (
    APPEND_BYTES_MAX,
    ENTRY_BYTES_MAX,
    ClientSettings,
    LogSettings,
    OpenClient,
    OpenConsumer,
)

KIB = 1024
SHARDS = ("alpha:v1:shard:0000", "alpha:v1:shard:0001", "beta:v1:shard:0003")
LANE_STREAM = "lanes:v1"
STREAMS = ("alpha:v1", "alpha:v1", LANE_STREAM)
GROUPS = ("readers", "watchers")
CLIENTS_MAX = 3
CONSUMERS_MAX = 4
BATCH_ENTRIES_MAX = 10_000
RUNS = 16
RUNS_DEEP = 3_200
"""Two in three of them make all of their steps."""
FULL_RUNS_DEEP = 2_000

_FILLER = bytes(range(256)) * (ENTRY_BYTES_MAX // 256 + 2)


def make_batch(count: int, size: int, spread: int, first: int) -> list[bytes]:
    """Entries of ``size`` bytes and up to ``spread`` more, each of which says its number where there is room for it."""
    batch = []
    for number in range(first, first + count):
        length = size + number * 7 % (spread + 1)
        label = b"%d." % number
        batch.append((label + _FILLER[number & 255 : (number & 255) + length])[:length] if length else b"")
    return batch


which = st.integers(0, 7)
few = st.tuples(st.integers(0, 8), st.integers(0, 200), st.integers(0, 50))
singles = st.tuples(st.just(1), st.sampled_from([0, 1, 40, 4095, 4096, 4097, 16_000, ENTRY_BYTES_MAX]), st.just(0))
many = st.tuples(st.integers(0, 1_000), st.integers(0, 60), st.integers(0, 9))
thousands = st.tuples(st.sampled_from([2_000, 5_000, BATCH_ENTRIES_MAX]), st.integers(0, 10), st.integers(0, 9))
batches = st.one_of(few, few, few, singles, singles, many, thousands)
shard_names = st.sampled_from(SHARDS)
shard_ids = st.sampled_from([0, 0, 1, 2])
clients = st.builds(
    ClientSettings,
    shared=st.booleans(),
    durability=st.sampled_from(["process", "process", "always"]),
    write_method=st.sampled_from(["auto", "pwrite"]),
    codec=st.sampled_from(["none", "zstd"]),
)
logs = st.sampled_from(
    [
        LogSettings(segment_bytes=4 * KIB, bound=600 * KIB),
        LogSettings(segment_bytes=16 * KIB, bound=1024 * KIB),
        LogSettings(segment_bytes=64 * KIB, bound=2048 * KIB),
        LogSettings(segment_bytes=64 * KIB, bound=4096 * KIB),
        LogSettings(segment_bytes=16 * KIB, bound=1024 * KIB, when_full="reject_new"),
    ]
)


class LogMachine(RuleBasedStateMachine):
    """Rules call the engine through a world that compares each answer with its model; invariants compare everything."""

    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world: GroupWorld | None = None
        self.watcher: Client | None = None
        self.steps = 0

    def make_world(self, log: LogSettings) -> GroupWorld:
        """The log; others make one with a broken engine."""
        return GroupWorld(log)

    @initialize(log=logs, client=clients)
    def begin(self, log: LogSettings, client: ClientSettings) -> None:
        """An empty log with one client."""
        self.world = self.make_world(log)
        self.world.open_client(client)

    def teardown(self) -> None:
        """Close and remove everything."""
        if self.watcher is not None:
            self.watcher.close()
        if self.world is not None:
            self.world.close()
            self.tally.update(self.world.tally)
        self.tally["runs"] += 1
        self.tally["runs of 50 steps"] += self.steps >= 50
        self.tally["steps"] += self.steps

    # Who acts.

    def client(self, who: int) -> OpenClient:
        """One of the open clients; a new one where there is none."""
        if not self.world.clients:
            return self.world.open_client(ClientSettings())
        return self.world.clients[who % len(self.world.clients)]

    def consumer(self, who: int) -> OpenConsumer:
        """One of the consumers; a new one where there is none."""
        if not self.world.consumers:
            return self.world.open_consumer(self.client(who), STREAMS[0], GROUPS[0], "oldest")
        return self.world.consumers[who % len(self.world.consumers)]

    # Appending.

    @rule(who=which, shard=shard_names, batch=batches)
    def append(self, who: int, shard: str, batch: tuple[int, int, int]) -> None:
        """One batch; also an empty one, and one of empty entries."""
        model = self.world.shards.get(shard)
        self.world.append(self.client(who), shard, make_batch(*batch, model.next_number if model else 0))

    @rule(who=which, shard=shard_names, count=st.integers(2, 30))
    def append_one_by_one(self, who: int, shard: str, count: int) -> None:
        """The shortest path, again and again."""
        for _ in range(count):
            self.append(who, shard, (1, 100, 30))

    @rule(who=which, batch=few, forked=st.sampled_from([False, False, True]))
    def append_to_lane(self, who: int, batch: tuple[int, int, int], forked: bool) -> None:
        """To the client's own shard of a stream, or by a forked child, to another one."""
        count, size, spread = batch
        entries = make_batch(count + 1, size, spread, self.steps)
        self.world.append_to_lane(self.client(who), LANE_STREAM, entries, forked=forked)

    @rule(who=which, shard=shard_names, batch=few)
    def append_in_child(self, who: int, shard: str, batch: tuple[int, int, int]) -> None:
        """A forked child uses its parent's client."""
        count, size, spread = batch
        self.world.append(self.client(who), shard, make_batch(count + 1, size, spread, self.steps), forked=True)

    @rule(who=which, shard=shard_names, kind=st.sampled_from(["entry", "batch", "type", "text"]))
    def append_badly(self, who: int, shard: str, kind: str) -> None:
        """Too large, or not bytes."""
        entries, error = {
            "entry": ([b"fits", bytes(ENTRY_BYTES_MAX + 1)], EntryTooLarge),
            "batch": ([bytes(ENTRY_BYTES_MAX)] * (APPEND_BYTES_MAX // ENTRY_BYTES_MAX + 1), BatchTooLarge),
            "type": ([b"fits", 5], InvalidEntryError),
            "text": (b"not a list", InvalidEntryError),
        }[kind]
        owner = self.world.shards[shard].owner if shard in self.world.shards else None
        if owner is None or owner == self.client(who).key:
            self.world.append_badly(self.client(who), shard, entries, error)

    # Reading.

    @precondition(lambda self: len(self.world.consumers) < CONSUMERS_MAX)
    @rule(
        who=which,
        stream=st.sampled_from(STREAMS),
        group=st.sampled_from(GROUPS),
        start=st.sampled_from(["oldest", "oldest", "newest"]),
    )
    def open_consumer(self, who: int, stream: str, group: str, start: str) -> None:
        """One more consumer, perhaps of a group that has some."""
        group = group if stream != LANE_STREAM else GROUPS[0]
        self.world.open_consumer(self.client(who), stream, group, start)

    @rule(
        who=which,
        shard_id=shard_ids,
        count=st.one_of(st.integers(0, 40), st.integers(0, 400), st.just(20_000)),
        max_bytes=st.sampled_from([EVERYTHING, EVERYTHING, 1, 1000, 50_000]),
        copy=st.booleans(),
    )
    def read(self, who: int, shard_id: int, count: int, max_bytes: int, copy: bool) -> None:
        """One shard; also one that does not exist."""
        self.world.read(self.consumer(who), [shard_id], count, max_bytes, copy=copy)

    @rule(who=which, count=st.integers(1, 400), max_bytes=st.sampled_from([EVERYTHING, 3000]))
    def read_all_shards(self, who: int, count: int, max_bytes: int) -> None:
        """Every shard in turn."""
        self.world.read(self.consumer(who), None, count, max_bytes)

    @rule(who=which, shard_id=shard_ids, count=st.integers(1, 100))
    def consume_in_child(self, who: int, shard_id: int, count: int) -> None:
        """A forked child is a consumer as well."""
        self.world.consume_in_child(self.client(who), STREAMS[0], GROUPS[0], shard_id, count)

    # Acknowledging.

    @rule(who=which, data=st.data(), kind=st.sampled_from([DELIVERED, DELIVERED, REJECTED]))
    def acknowledge_some(self, who: int, data: Any, kind: int) -> None:
        """Some of what was ever read, in any order, also twice, also from before a reset."""
        reader = self.consumer(who)
        if reader.given:
            last = reader.given[-60:]
            chosen = data.draw(st.lists(st.sampled_from(range(len(last))), min_size=1, max_size=12))
            self.world.acknowledge(reader, [last[index] for index in chosen], kind)

    @rule(who=which, step=st.sampled_from([1, 1, 1, 2, 3]), part=st.integers(1, 4), last=st.booleans())
    def acknowledge_many(self, who: int, step: int, part: int, last: bool) -> None:
        """All of what was read last, or a part of it, or every other message, which leaves many ranges."""
        reader = self.consumer(who)
        chosen = reader.given[-(len(reader.given) // part) :: step]
        if chosen:
            self.world.acknowledge(reader, chosen if last else chosen[::-1], DELIVERED)

    @rule(who=which, shard_id=shard_ids, low=st.integers(-3, 300), length=st.integers(0, 300))
    def acknowledge_range(self, who: int, shard_id: int, low: int, length: int) -> None:
        """A range around the offset, which may be refused."""
        reader = self.consumer(who)
        place = reader.places.get(shard_id)
        first = max(0, (place.offset if place else 0) + low)
        self.world.acknowledge_range(reader, shard_id, first, first + length - 1)

    @rule(who=which, shard_id=shard_ids, beyond=st.integers(0, 5))
    def acknowledge_what_was_not_read(self, who: int, shard_id: int, beyond: int) -> None:
        """Refused, and nothing changes."""
        reader = self.consumer(who)
        shard = self.world.shards.get(f"{reader.stream}:shard:{shard_id:04d}")
        number = (shard.next_number if shard else 0) + beyond
        self.world.acknowledge(reader, [*reader.given[-2:], MessageID(shard_id, number)], DELIVERED)

    @rule(who=which, shard_id=shard_ids, data=st.data())
    def reset(self, who: int, shard_id: int, data: Any) -> None:
        """To any number, forwards or backwards, from the front or from the end; also beyond it."""
        reader = self.consumer(who)
        shard = self.world.shards.get(f"{reader.stream}:shard:{shard_id:04d}")
        end = shard.next_number if shard else 0
        self.world.reset(reader, shard_id, data.draw(st.integers(-end - 1, end + 1)))

    # The end of consumers.

    @precondition(lambda self: self.world.consumers)
    @rule(who=which, how=st.sampled_from(["close", "drop", "sync"]))
    def end_consumer(self, who: int, how: str) -> None:
        """Closed, or forgotten."""
        reader = self.consumer(who)
        ways = {
            "close": self.world.close_consumer,
            "drop": self.world.drop_consumer,
            "sync": self.world.sync_consumer,
        }
        ways[how](reader)

    @precondition(lambda self: self.world.places)
    @rule(who=which)
    def delete_group(self, who: int) -> None:
        """One of the groups."""
        groups = sorted(self.world.places)
        self.world.delete_group(self.client(who), *groups[who % len(groups)])

    # Segments and the disk.

    @rule(who=which)
    def flush(self, who: int) -> None:
        """What the background thread does."""
        self.world.flush(self.client(who))

    @rule(who=which)
    def sync(self, who: int) -> None:
        """What the application may ask for."""
        self.world.sync(self.client(who))

    @rule(who=which)
    def rotate(self, who: int) -> None:
        """Close the active segments."""
        self.world.rotate(self.client(who))

    @rule(who=which, part=st.integers(1, 8))
    def evict(self, who: int, part: int) -> None:
        """Make room for a part of all that may be used."""
        self.world.evict(self.client(who), self.world.settings.bound // 8 * part)

    # The end of clients, processes and machines.

    @precondition(lambda self: len(self.world.clients) < CLIENTS_MAX)
    @rule(client=clients)
    def open_client(self, client: ClientSettings) -> None:
        """One more."""
        self.world.open_client(client)

    @precondition(lambda self: self.world.clients)
    @rule(who=which)
    def close_client(self, who: int) -> None:
        """Close one client; its shards and leases are free then."""
        self.world.close_client(self.client(who))

    @precondition(lambda self: self.world.clients)
    @rule(who=which)
    def kill_client(self, who: int) -> None:
        """Kill the process of one client."""
        self.world.crash_client(self.client(who))

    @rule(chance=st.integers(0, 1 << 16), client=clients)
    def cut_power(self, chance: int, client: ClientSettings) -> None:
        """End everything at once; the disk keeps any part of what was not synced."""
        if self.watcher is not None:
            self.watcher.close()
            self.watcher = None
        self.world.cut_power(chance, client)

    # What holds always.

    @invariant()
    def the_engine_agrees_with_the_model(self) -> None:
        """Names, entries, order, bytes, times, classes, and the bound."""
        if self.world is None:
            return
        world = self.world
        self.steps += 1
        world.door.wall_ns += 1
        if self.watcher is None:
            self.watcher = world.read_only_client()
        clients = [self.watcher, *(holder.client for holder in world.clients)]
        client = clients[self.steps % len(clients)]
        for name in world.shards:
            world.look_at_segments(name)
            world.check_entries(client, name, whole=self.steps % 5 == 0)
        world.dirty.clear()
        world.check_groups(client)
        world.check_bound()
        world.check_views()

    @precondition(lambda self: self.watcher is not None)
    @rule(shard=shard_names)
    def append_read_only(self, shard: str) -> None:
        """Who only reads cannot write."""
        with pytest.raises(ReadOnlyError):
            self.watcher.append(shard, [b"entry"])

    @rule(who=which, shard=shard_names, data=st.data())
    def scan_a_part(self, who: int, shard: str, data: Any) -> None:
        """From any number on."""
        model = self.world.shards.get(shard)
        start = data.draw(st.integers(0, model.next_number + 1 if model else 1))
        found = [message.id.entry_number for message in self.client(who).client.scan(shard, start)]
        assert found == (model.numbers[model.held(start)] if model else [])


@pytest.mark.slow
def test_a_log_behaves_like_lists() -> None:
    """Whatever is done to it: 16 runs of up to 50 steps; in the deep profile as many as give 2,000 of 50 steps."""
    LogMachine.tally.clear()
    profile = settings.default
    deep = profile.max_examples >= RUNS_DEEP
    runs = RUNS_DEEP if deep else RUNS
    run_state_machine_as_test(LogMachine, settings=settings(profile, max_examples=runs, stateful_step_count=50))
    assert LogMachine.tally["runs"] >= runs
    if deep:
        print(dict(sorted(LogMachine.tally.items())))
        assert LogMachine.tally["runs of 50 steps"] >= FULL_RUNS_DEEP
        for happened in ("delivered", "rejected", "skipped", "evicted", "lost", "forks", "leases", "rotations"):
            assert LogMachine.tally[happened], f"nothing was shown about {happened}"
