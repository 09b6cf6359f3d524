"""Two consumers of a group in two processes, one killed: the other takes over soon, and nothing is skipped."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, Consumer
from tests.support.children import PATIENCE_SECONDS, Child
from tests.support.consumer_child import HANDED, consume_for_ever
from tests.support.live_child import obey

pytestmark = [pytest.mark.crash, pytest.mark.slow]

STREAM = "events:v1"
GROUP = "workers"
SHARDS = 4
POLL_SECONDS = 0.5
TAKEOVER_SECONDS = 2 * POLL_SECONDS + 1
BATCH = 20


class _Handed:
    """What the handlers of all children got, by shard."""

    def __init__(self) -> None:
        self.numbers: dict[int, Counter[int]] = {shard: Counter() for shard in range(SHARDS)}
        self.last: dict[int, tuple[int, int]] = {}
        """By shard, the last batch: first number and size."""

    def note(self, raw: bytes) -> int:
        """Note reports; returns how many there were."""
        for shard, first, count, _ in HANDED.iter_unpack(raw):
            self.numbers[shard].update(range(first, first + count))
            self.last[shard] = first, count
        return len(raw) // HANDED.size


@contextmanager
def _traffic(directory: Path) -> Iterator[list[int]]:
    """Append to every shard until the end of the block; gives the number of entries of each shard."""
    totals = [0] * SHARDS
    ended = threading.Event()

    def append() -> None:
        with Client(directory) as client:
            while not ended.wait(0.005):
                for shard in range(SHARDS):
                    client.append(f"{STREAM}:shard:{shard:04d}", [b"entry"] * 5)
                    totals[shard] += 5

    thread = threading.Thread(target=append)
    thread.start()
    try:
        yield totals
    finally:
        ended.set()
        thread.join()


def _child(directory: Path) -> Child:
    return Child(consume_for_ever, str(directory), STREAM, GROUP, POLL_SECONDS, BATCH)


def test_a_killed_consumer_is_replaced_within_two_polls_and_a_second(tmp_path) -> None:
    """Each time, under traffic; duplicates are at most what the killed one had not yet acknowledged."""
    directory = tmp_path / "log"
    handed = _Handed()
    duplicates_most = 0
    holder = _child(directory)
    try:
        with _traffic(directory) as totals:
            for _ in range(3):
                _until_all_shards_are_held(holder, handed)
                standby = _child(directory)
                try:
                    _let_stand_by(standby, holder, handed)
                    holder.kill()
                    killed_at = time.monotonic()
                    handed.note(holder.read_rest())
                    duplicates_most += sum(count for _, count in handed.last.values())
                    handed.note(_some(standby))
                    assert time.monotonic() - killed_at <= TAKEOVER_SECONDS
                finally:
                    holder.kill()
                holder = standby
        _drain(directory, holder, handed)
    finally:
        holder.kill()
    for shard, total in enumerate(totals):
        assert set(handed.numbers[shard]) == set(range(total)), f"shard {shard}: something was skipped"
    duplicates = sum(count - 1 for numbers in handed.numbers.values() for count in numbers.values())
    assert duplicates <= duplicates_most
    with Client(directory, read_only=True) as client:
        accounting = client.accounting(STREAM, GROUP)
        assert (accounting.delivered, accounting.total) == (sum(totals), sum(totals))


def _some(child: Child) -> bytes:
    """The first reports of a child, which must come."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    raw = b""
    while not raw and time.monotonic() < deadline:
        raw = child.read_raw(min(deadline, time.monotonic() + 0.05))
    assert raw, "the child was handed nothing"
    return raw


def _until_all_shards_are_held(child: Child, handed: _Handed) -> None:
    """Wait until a child was handed something of every shard: then it has every lease."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    seen: set[int] = set()
    while len(seen) < SHARDS and time.monotonic() < deadline:
        raw = child.read_raw(time.monotonic() + 0.05)
        handed.note(raw)
        seen.update(shard for shard, *_ in HANDED.iter_unpack(raw))
    assert len(seen) == SHARDS


def _let_stand_by(standby: Child, holder: Child, handed: _Handed) -> None:
    """Let the holder work while the other one polls in vain a few times."""
    for _ in range(4):
        handed.note(holder.read_raw(time.monotonic() + POLL_SECONDS / 2))
    assert standby.read_raw(time.monotonic() + 0.01) == b"", "the one that stands by was handed something"


def _drain(directory: Path, child: Child, handed: _Handed) -> None:
    """Let the last one finish what is there, and end it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with Client(directory, read_only=True) as client:
        while client.accounting(STREAM, GROUP).pending and time.monotonic() < deadline:
            handed.note(child.read_raw(time.monotonic() + 0.1))
    child.tell("stop")
    handed.note(child.read_rest())
    assert child.join() == 0


def test_acknowledgements_survive_the_kill_right_after_them(tmp_path) -> None:
    """At once, without any append, sync, pause or clean close; and a clean close loses none either."""
    directory = tmp_path / "log"
    shard = f"{STREAM}:shard:0000"
    with Client(directory) as client:
        client.append(shard, [b"entry"] * 30)
    with Child(obey, str(directory), shard, GROUP, CometConfig.default(), 1) as child:
        done, entries = child.ask(("consume", 10))
        assert (done, len(entries)) == ("done", 10)
        child.kill()
    with Client(directory, read_only=True) as client:
        assert client.accounting(STREAM, GROUP).delivered == 10
    with Client(directory) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        consumer.ack(*(message.id for message in consumer.read(count=5)))
    with Client(directory) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        assert consumer.read(count=1)[0].id.entry_number == 15
