"""Do signal handlers that raise or append, at any instant of anything, leave a lock, a number or a byte behind?

The exceptions are kept until the end, with their tracebacks and all that those refer to, as error reporters do. Appends
alone are in ``tests/unit/comet_storage/test_writer_interruptions.py``.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from comet_storage import AckError, Client, ClosedError, CometError, Consumer, LogBusyError, ShardOwnedError
from tests.support.alarms import alarm_actions
from tests.support.entries import key_of, make_entry
from tests.support.small_log import GROUP, QUICK, SHARD, STREAM, assert_conserved, memory_directory, small_config

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    # What a handler raises while Python runs a finalizer can go nowhere.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TIMES = 30_000 if os.environ.get("COMET_CRASH_FULL") else 1500
LONGEST_SECONDS = 0.9
"""Below the lock timeout: whoever waits for it has locked itself out."""
FROZEN_TOGETHER = 200
SIGNAL_DECADES = (-6.0, -2.5)
"""When a signal comes: evenly over the orders of magnitude between a microsecond and a few milliseconds."""


class InterruptError(BaseException):
    """What the handler raises; as KeyboardInterrupt, no ordinary clause catches it."""


@pytest.fixture
def tmp_path(tmp_path) -> Iterator[Path]:
    """In memory: many small segments."""
    yield from memory_directory(tmp_path)


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Sets what a timer's signal does; put back afterwards."""
    with alarm_actions() as install:
        yield install


def open_log(directory: Path, *, shared: bool) -> Client:
    """Small segments, so that the ledger is asked all the time; a short wait for whoever is in the way."""
    config = small_config(shared=shared, segment_bytes=4096)
    return Client(directory, replace(config, concurrency=replace(config.concurrency, lock_timeout=1.0)), _door=QUICK)


class Campaign:
    """One log that is used while a timer's handler raises."""

    def __init__(self, directory: Path, chance: random.Random, *, shared: bool) -> None:
        self.directory, self.chance, self.shared = directory, chance, shared
        self.acknowledged: dict[int, int] = {}
        self.delivered: set[int] = set()
        self.kept: list[BaseException] = []
        self.sequence = 0
        self.slowest = 0.0
        self.client = open_log(directory, shared=shared)
        self.consumer = Consumer(self.client, GROUP, stream=STREAM)

    def append(self) -> None:
        """One entry."""
        entry = make_entry(1, self.sequence, self.chance.choice((12, 400, 5000)))
        self.sequence += 1
        number = self.client.append(SHARD, [entry])[0].entry_number
        self.acknowledged[number] = self.sequence - 1

    def consume(self) -> None:
        """Read and acknowledge some."""
        numbers = [message.id for message in self.consumer.read(count=self.chance.randrange(1, 8))]
        self.chance.shuffle(numbers)
        if numbers:
            # Marked before: an interrupted acknowledgement may have been made or not.
            self.delivered.update(number.entry_number for number in numbers)
            self.consumer.ack(*numbers[: self.chance.randrange(1, len(numbers) + 1)])

    def sync(self) -> None:
        """Make durable."""
        self.client.sync()
        self.consumer.sync()

    def make_group(self) -> None:
        """Register and delete another group."""
        self.client.register_group(STREAM, "another", "newest")
        self.client.delete_group(STREAM, "another")

    def reopen(self) -> None:
        """Close everything and begin anew, which claims the shard with the next append."""
        self.consumer.close()
        self.client.close()
        self.client = open_log(self.directory, shared=self.shared)
        self.consumer = Consumer(self.client, GROUP, stream=STREAM)

    def interrupted(self, action: Callable[[], None], arm: Callable[[bool], None]) -> None:
        """Run an action with a signal at a random instant of it."""
        started = time.monotonic()
        try:
            try:
                arm(True)
                signal.setitimer(signal.ITIMER_REAL, 10 ** self.chance.uniform(*SIGNAL_DECADES))
                action()
            finally:
                arm(False)
        except InterruptError as error:
            self.kept.append(error)
            if len(self.kept) % FROZEN_TOGETHER == 0:
                # Python would look through all their frames again and again: seconds, as if a lock were waited for.
                gc.freeze()
        except (ClosedError, AckError):
            # The reopening was interrupted between closing and opening: what is closed says so.
            self.reopen()
        arm(False)
        self.slowest = max(self.slowest, time.monotonic() - started)


@pytest.mark.parametrize("mode", ["owned", "shared"])
def test_a_handler_that_raises_anywhere_leaves_nothing_locked_torn_or_lost(tmp_path, on_alarm, mode, capsys) -> None:
    """Appends, reads, acknowledgements, syncs, groups and reopenings; after all of it everybody can go on."""
    armed = False

    def arm(value: bool) -> None:
        nonlocal armed
        armed = value

    def interrupt() -> None:
        if armed:
            arm(False)
            raise InterruptError

    on_alarm(interrupt)
    campaign = Campaign(tmp_path, random.Random(mode), shared=mode == "shared")
    actions: list[Callable[[], None]] = [
        *[campaign.append] * 6,
        *[campaign.consume] * 3,
        campaign.sync,
        campaign.make_group,
        campaign.reopen,
    ]
    refused = 0
    for _ in range(TIMES):
        try:
            campaign.interrupted(campaign.chance.choice(actions), arm)
        except (LogBusyError, ShardOwnedError):
            refused += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    # The last action may have been a reopening that got no further than to close.
    campaign.reopen()
    campaign.append()
    campaign.consume()
    campaign.reopen()
    assert refused == 0
    assert campaign.slowest < LONGEST_SECONDS
    assert len(campaign.kept) > TIMES // 20
    messages = list(campaign.client.scan(SHARD))
    held = {message.id.entry_number: key_of(message.data) for message in messages}
    assert len(held) == len(messages)
    assert None not in held.values()
    assert len(set(held.values())) == len(held), "an entry is there twice"
    assert {number: held.get(number) for number in campaign.acknowledged} == {
        number: (1, sequence) for number, sequence in campaign.acknowledged.items()
    }
    accounting = campaign.client.accounting(STREAM, GROUP)
    assert_conserved(accounting)
    assert accounting.delivered <= len(campaign.delivered)
    rest = {message.id.entry_number for message in campaign.consumer.read(count=1_000_000)}
    assert rest | campaign.delivered >= set(held), "an entry was neither delivered nor is it pending"
    # Another client of this process and the ledger are not in anybody's way, with all tracebacks still alive.
    with open_log(tmp_path, shared=mode == "shared") as other:
        other.append("small:v1:shard:0001", [b"free"])
        with other._ledger.locked() as fd:
            ledger = other._ledger._used(fd)
        assert ledger >= other.allocated_bytes() - 64 * 1024
    campaign.consumer.close()
    campaign.client.close()
    gc.unfreeze()
    with capsys.disabled():
        print(f"\n{mode}: {len(campaign.kept)} exceptions in {TIMES} calls, {len(held)} entries, none lost")


def test_handlers_that_append_never_leave_the_ledger_too_low(tmp_path, on_alarm) -> None:
    """Also in the middle of the ledger's own updates: what both took is counted."""
    chance = random.Random(7)
    numbers = itertools.count()
    outcomes = {"served": 0, "refused": 0}
    with open_log(tmp_path, shared=False) as client:
        client.append(SHARD, [make_entry(1, 0)])

        def append_more() -> None:
            number = next(numbers)
            try:
                client.append(f"small:v1:shard:{1 + number % 3:04d}", [make_entry(2, number, 3000)])
            except CometError:
                outcomes["refused"] += 1
            else:
                outcomes["served"] += 1

        on_alarm(append_more)
        for sequence in range(1, TIMES // 2):
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 200e-6))
            started = time.monotonic()
            client.append(SHARD, [make_entry(1, sequence, 3000)])
            assert time.monotonic() - started < LONGEST_SECONDS
            if sequence % 50 == 0:
                signal.setitimer(signal.ITIMER_REAL, 0)
                with client._ledger.locked() as fd:
                    ledger = client._ledger._used(fd)
                # Directories grow by themselves; what is kept aside is for that.
                assert ledger >= client.allocated_bytes() - 64 * 1024, f"after {sequence} appends"
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert outcomes["served"] > TIMES // 20
