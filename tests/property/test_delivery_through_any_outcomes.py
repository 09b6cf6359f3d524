"""Whatever a destination answers, in whatever order: each entry is delivered, put aside or pending; none is skipped."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from comet_otel.streams import Route
from comet_storage import Client, LogFullError
from shipper.delivery.dead_letters import STREAM, DeadLetter, DeadLetters, decode
from shipper.delivery.pace import Pace
from shipper.delivery.pipeline import Pipeline
from shipper.outcome import Delivered, Outcome, Partial, Pause, Reject, Retry, Split
from shipper.settings import PacingConfig
from tests.support.delivery import GROUP, ROUTE, ManualClock, destination, span_request

SHARE = 64 * 1024 * 1024
WAITS_MAX = 3_000
APPENDED_LATE_MAX = 20


@dataclass
class Case:
    """One destination with its whims."""

    seed: int
    shards: int
    entries: int
    window: int
    ordered: bool
    order: str
    server_limit: int
    max_request_bytes: int
    whims: int
    stops: int
    bytes_per_second: int | None


cases = st.builds(
    Case,
    seed=st.integers(0, 2**32),
    shards=st.integers(1, 3),
    entries=st.integers(1, 60),
    window=st.integers(1, 8),
    ordered=st.booleans(),
    order=st.sampled_from(["oldest-first", "fresh-first"]),
    server_limit=st.sampled_from([8_192, 20_000, 4_000_000]),
    max_request_bytes=st.sampled_from([500, 10_000, 4_000_000]),
    whims=st.integers(0, 150),
    stops=st.integers(0, 3),
    bytes_per_second=st.sampled_from([None, 20_000]),
)


@dataclass
class World:
    """A log, what was written to it, and a destination that remembers what it took and what it rejected."""

    case: Case
    client: Client
    random: random.Random = field(init=False)
    entries: dict[tuple[int, int], bytes] = field(default_factory=dict)
    markers: dict[tuple[int, int], list[bytes]] = field(default_factory=dict)
    poison: set[bytes] = field(default_factory=set)
    taken: list[bytes] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.case.seed)
        self.whims = self.case.whims

    def append(self, *, good: bool = False) -> None:
        """Append an entry: of one item or many, small or large, whole, poisoned or no request at all."""
        shard = self.random.randrange(self.case.shards)
        number = sum(1 for key in self.entries if key[0] == shard)
        kind = (
            "good"
            if good
            else self.random.choice(["small", "small", "small", "large", "many", "poison", "no", "framed"])
        )
        if kind == "poison" and len(self.poison) >= 4:
            kind = "small"
        names = [f"<{shard}/{number}/{item}>" for item in range(self.random.randint(2, 30) if kind == "many" else 1)]
        padding = self.random.choice([3_000, 30_000]) if kind in {"large", "many"} else self.random.randint(0, 300)
        service = self.random.choice(["shop", "till"])
        data = {
            "no": b"\xff" + names[0].encode(),
            "framed": b"\x0a" + bytes([len(names[0])]) + names[0].encode(),
        }.get(kind) or span_request(*names, padding=padding, service=service)
        (found,) = self.client.append(f"traces:v1:shard:{shard:04d}", [data])
        assert found.entry_number == number
        self.entries[shard, number] = data
        self.markers[shard, number] = [name.encode() for name in names]
        if kind == "poison":
            self.poison.add(names[0].encode())

    def send(self, route: Route, body: bytes, request_id: str) -> Outcome:
        """Answer at random, and, when the whims are over, as a destination with a limit that refuses poison."""
        outcome = self._answer(body)
        if isinstance(outcome, Delivered | Partial):
            self.taken.append(body)
        elif isinstance(outcome, Reject):
            self.rejected.append(body)
        return outcome

    def _answer(self, body: bytes) -> Outcome:
        if self.whims > 0 and self.random.random() < 0.6:
            self.whims -= 1
            return self.random.choice(
                [
                    Delivered(),
                    Partial(1, "one of them"),
                    Retry("UNAVAILABLE", ""),
                    Retry("HTTP 429", "", 0.5, throttled=True),
                    Retry("connection failed", "", cut_off=True),
                    Pause("HTTP 401", ""),
                    Split("HTTP 413", ""),
                    Reject("HTTP 400", "a whim"),
                ]
            )
        if any(marker in body for marker in self.poison):
            return Reject("HTTP 400", "poison")
        return Split("HTTP 413", "") if len(body) > self.case.server_limit else Delivered()


class Crew:
    """Has several requests under way, which come back in any order."""

    def __init__(self, chance: random.Random) -> None:
        self.random = chance
        self.jobs: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], None]) -> None:
        """Begin one."""
        self.jobs.append(job)

    def work(self) -> None:
        """End some."""
        self.random.shuffle(self.jobs)
        for _ in range(self.random.randint(0, len(self.jobs))):
            self.jobs.pop()()

    def close(self) -> None:
        """End nothing."""


class FullNowAndThen(DeadLetters):
    """Finds the log full once in a while."""

    chance: random.Random

    def store(self, letter: DeadLetter) -> None:
        """Store it, or not."""
        if self.chance.random() < 0.2:
            raise LogFullError("the log is full")
        super().store(letter)


class Clock(ManualClock):
    """Time in which requests come back, applications write, and somebody stops the shipper."""

    def __init__(self, world: World, crew: Crew) -> None:
        super().__init__()
        self.epoch = time.time() - self.now
        self.world = world
        self.crew = crew
        self.pipeline: Pipeline | None = None
        self.stop = threading.Event()
        self.stops = False
        self.waits = 0

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Let something happen."""
        self.waits += 1
        assert self.waits < WAITS_MAX, "it goes on for ever"
        chance = self.world.random
        if len(self.world.entries) < self.world.case.entries and chance.random() < 0.3:
            self.world.append()
        late = len(self.world.entries) - self.world.case.entries
        if self.waits % 50 == 0 and late < APPENDED_LATE_MAX:
            self.world.append(good=True)  # a destination that rejected twenty in a row has to take something else
        if self.stops and chance.random() < 0.1:
            self.stop.set()
        if self.stop.is_set() and chance.random() < 0.3 and self.pipeline is not None:
            self.pipeline.abandon()
        super().wait(event, seconds)
        self.crew.work()


def deliver(world: World, *, stops: bool) -> bool:
    """Run one shipper to its end; return whether it delivered everything."""
    case = world.case
    crew = Crew(world.random)
    clock = Clock(world, crew)
    clock.stops = stops
    config = destination(
        window=case.window,
        ordered=case.ordered,
        order=case.order,
        max_request_bytes=case.max_request_bytes,
        max_request_wait=world.random.choice([0.0, 0.2]),
        pacing=PacingConfig(max_bytes_per_second=case.bytes_per_second),
    )
    letters = FullNowAndThen(world.client, SHARE)
    letters.chance = world.random
    pace = Pace(config.pacing, clock)
    made = Pipeline(world.client, config, ROUTE, world, pace, letters, clock.stop, once=True, clock=clock, crew=crew)
    clock.pipeline = made
    made.run()
    while crew.jobs:  # what was abandoned may still arrive
        crew.work()
    return made.drained


@given(cases)
@settings(deadline=None)
def test_every_entry_is_delivered_or_put_aside(case: Case) -> None:
    """None is skipped, none is lost, dead letters have every byte, a shard keeps its order, and the accounts add up."""
    with tempfile.TemporaryDirectory() as directory, Client(Path(directory) / "log") as client:
        world = World(case, client)
        for _ in range(max(1, case.entries // 2)):
            world.append()
        for _ in range(case.stops):
            deliver(world, stops=True)
            check_accounts(world)
        assert deliver(world, stops=False)
        check_accounts(world)
        check_arrival(world)
        if case.ordered and case.order == "oldest-first":
            check_order(world)


def check_accounts(world: World) -> None:
    """Every entry is in exactly one account."""
    total = world.client.accounting("traces:v1", GROUP)
    assert total.total == len(world.entries)
    assert total.delivered + total.rejected + total.pending == total.total


def check_arrival(world: World) -> None:
    """Every item of every entry arrived or is in a dead letter; what was rejected whole is there byte for byte."""
    letters = [decode(message.data) for message in world.client.list_recent(STREAM, 10_000)]
    aside: dict[tuple[int, int], list[DeadLetter]] = {}
    for letter in letters:
        aside.setdefault((letter.shard, letter.first_entry), []).append(letter)
    for key, data in world.entries.items():
        kept = aside.get(key, [])
        whole = [letter for letter in kept if not letter.piece]
        assert all(letter.body == data for letter in whole)
        bodies = world.taken + [letter.body for letter in kept]
        for marker in world.markers[key]:
            assert any(marker in body for body in bodies), (key, marker)
    total = world.client.accounting("traces:v1", GROUP)
    assert total.pending == 0
    assert total.rejected <= len(aside)
    not_taken = [key for key in world.entries if not all(any(m in b for b in world.taken) for m in world.markers[key])]
    assert len(not_taken) <= total.rejected


def check_order(world: World) -> None:
    """What was never rejected arrives for the first time in the order of its shard."""
    for shard in range(world.case.shards):
        keys = [key for key in world.entries if key[0] == shard]
        blameless = [key for key in keys if not any(m in b for m in world.markers[key] for b in world.rejected)]
        first = [
            min(position for position, body in enumerate(world.taken) if marker in body)
            for key in blameless
            for marker in world.markers[key][:1]
            if any(marker in body for body in world.taken)
        ]
        assert first == sorted(first)
