"""Handing messages to a handler: retries, dead letters, acknowledgements by hand, and ways to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from comet_storage import (
    AckError,
    Client,
    ClosedError,
    Consumer,
    InvalidArgumentError,
    InvalidStreamName,
    StreamMessage,
)
from comet_storage._groups.processing import RETRY_DELAY_MAX
from tests.support.engine import ManualDoor

STREAM = "events:v1"


def shard(number: int) -> str:
    """Return the full name of a shard."""
    return f"events:v1:shard:{number:04d}"


class Stop:
    """What ``threading.Event`` is to the loop: set after a number of looks, or by somebody."""

    def __init__(self, door: ManualDoor, after: float) -> None:
        self._door = door
        self.deadline = door.now + after
        self.flag = False

    def is_set(self) -> bool:
        """Tell whether it is time."""
        return self.flag or self._door.now >= self.deadline


class Bench:
    """A log with a clock that the loop's own pauses turn."""

    def __init__(self, directory: str) -> None:
        self.door = ManualDoor()
        self.client = Client(directory, _door=self.door)
        self.consumer = Consumer(self.client, "workers", stream=STREAM)
        self.calls: list[tuple[float, int, list[bytes]]] = []
        self.errors: list[tuple[str, int]] = []
        self.batches: list[int] = []

    def run(self, handler: Callable[[list[StreamMessage]], object], during: float = 10.0, **options: Any) -> None:
        """Process for so many seconds by the clock."""
        started = self.door.now
        stop: Any = Stop(self.door, during)

        def noted(messages: list[StreamMessage]) -> object:
            entries = [message.data for message in messages]
            self.calls.append((self.door.now - started, messages[0].id.shard_id, entries))
            assert len(self.calls) < 10_000
            return handler(messages)

        self.consumer.process(
            noted,
            stop=stop,
            on_error=lambda error, retries: self.errors.append((str(error), retries)),
            on_batch=lambda size, _: self.batches.append(size),
            **options,
        )

    def append(self, number: int, *entries: bytes) -> None:
        """Append to a shard."""
        self.client.append(shard(number), entries)

    @property
    def accounting(self) -> dict[str, int]:
        """What became of the group's entries, without what is zero."""
        return {name: count for name, count in vars(self.client.accounting(STREAM, "workers")).items() if count}


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    """Return a bench whose log is closed after the test."""
    made = Bench(str(tmp_path / "log"))
    yield made
    made.consumer.close()
    made.client.close()


def fail(_: list[StreamMessage]) -> None:
    """Fail as a handler does."""
    raise RuntimeError("poison")


def test_every_message_is_handed_over_once_and_acknowledged(bench) -> None:
    """In batches of one shard each, in order."""
    bench.append(0, b"a", b"b", b"c")
    bench.append(1, b"d")
    bench.run(lambda _: None, batch_size=2)
    assert sorted(entries for _, _, entries in bench.calls) == [[b"a", b"b"], [b"c"], [b"d"]]
    assert sorted(bench.batches) == [1, 1, 2]
    assert bench.accounting == {"total": 4, "delivered": 4}
    assert bench.errors == []


def test_a_poison_batch_is_retried_less_and_less_often_and_never_skipped(bench) -> None:
    """Without a dead-letter hook it stays, also after the last retry, and costs no spinning."""
    bench.append(0, b"poison")
    bench.run(fail, during=3600, max_retries=2, retry_delay=1)
    times = [time for time, _, _ in bench.calls]
    pauses = [after - before for before, after in pairwise(times)]
    for index, pause in enumerate(pauses):
        most = min(RETRY_DELAY_MAX, 2.0**index)
        assert most / 2 <= pause <= most + 0.11
    assert 60 < len(times) < 140
    assert bench.accounting == {"total": 1, "pending": 1}
    assert bench.errors[:3] == [("poison", 0), ("poison", 1), ("poison", 2)]
    assert bench.batches == []


@pytest.mark.parametrize("retry_delay", [0, 0.0, timedelta(0)])
def test_a_handler_that_fails_at_once_does_not_spin(retry_delay, bench) -> None:
    """Not even with no retries and no delay at all (7,612 calls in 50 ms in the original)."""
    bench.append(0, b"poison")
    bench.run(fail, during=60, max_retries=0, retry_delay=retry_delay)
    assert len(bench.calls) < 25
    assert bench.accounting == {"total": 1, "pending": 1}


def test_a_poison_batch_delays_only_its_own_shard(bench) -> None:
    """The other shards go on at full speed while one waits for its next try."""
    bench.append(0, b"poison")
    for number in range(1, 4):
        bench.append(number, *[b"fine"] * 50)

    def handler(messages: list[StreamMessage]) -> None:
        if messages[0].id.shard_id == 0:
            fail(messages)

    bench.run(handler, during=5, batch_size=10, retry_delay=1)
    fine = [time for time, number, _ in bench.calls if number]
    assert len(fine) == 15
    assert max(fine) < 0.2
    assert bench.accounting == {"total": 151, "delivered": 150, "pending": 1}


def test_after_the_last_retry_the_batch_goes_to_the_dead_letter_hook(bench) -> None:
    """It leaves the group as rejected once the hook returned, and the shard goes on."""
    bench.append(0, b"poison", b"as well")
    bench.append(0, b"fine")
    letters: list[tuple[list[bytes], str]] = []

    def handler(messages: list[StreamMessage]) -> None:
        if messages[0].data == b"poison":
            fail(messages)

    bench.run(
        handler,
        during=60,
        batch_size=2,
        max_retries=3,
        dead_letter=lambda messages, error: letters.append(([m.data for m in messages], str(error))),
    )
    assert letters == [([b"poison", b"as well"], "poison")]
    assert [entries for _, _, entries in bench.calls] == [[b"poison", b"as well"]] * 4 + [[b"fine"]]
    assert bench.accounting == {"total": 3, "delivered": 1, "rejected": 2}
    assert bench.batches == [2, 1]


def test_a_dead_letter_hook_that_fails_keeps_the_batch(bench) -> None:
    """Nothing is rejected before somebody has it."""
    bench.append(0, b"poison")
    letters = []

    def dead_letter(messages: list[StreamMessage], _: Exception) -> None:
        letters.append(messages)
        if len(letters) < 3:
            raise OSError("no room for dead letters")

    bench.run(fail, during=600, max_retries=0, dead_letter=dead_letter)
    assert len(letters) == 3
    assert ("no room for dead letters", 1) in bench.errors
    assert bench.accounting == {"total": 1, "rejected": 1}


def test_a_batch_that_failed_comes_again_as_it_was_without_what_is_done_with(bench) -> None:
    """What was appended meanwhile waits; what the handler acknowledged itself is not handed over again."""
    bench.append(0, b"a", b"b", b"c")

    def handler(messages: list[StreamMessage]) -> None:
        if len(bench.calls) == 1:
            bench.consumer.ack(messages[0].id)
            bench.append(0, b"later")
            fail(messages)

    bench.run(handler)
    assert [entries for _, _, entries in bench.calls] == [[b"a", b"b", b"c"], [b"b", b"c"], [b"later"]]
    assert bench.accounting == {"total": 4, "delivered": 4}


def test_by_hand_the_next_batch_waits_for_the_acknowledgement(bench) -> None:
    """What is not acknowledged comes again, after a pause that grows, never in a tight loop (6,647 calls in 50 ms)."""
    bench.append(0, b"a", b"b")
    bench.append(0, b"c")
    bench.run(lambda _: None, during=60, batch_size=2, auto_ack=False, retry_delay=1)
    assert {tuple(entries) for _, _, entries in bench.calls} == {(b"a", b"b")}
    assert 5 <= len(bench.calls) <= 9
    assert bench.accounting == {"total": 3, "pending": 3}


def test_by_hand_a_late_acknowledgement_brings_the_next_batch_at_once(bench) -> None:
    """The shard looks at each poll whether its batch is done with, and repeats nothing that is."""
    bench.append(0, b"a")
    bench.append(0, b"b")
    handed: list[StreamMessage] = []

    def on_second_look() -> None:
        # The loop's pause is when another thread would acknowledge.
        if len(handed) == 1 and bench.door.now > 1000.3:
            bench.consumer.ack(handed[0].id)

    original = bench.door.sleep

    def sleep(duration: float) -> None:
        original(duration)
        on_second_look()

    bench.door.sleep = sleep
    bench.run(handed.extend, during=5, batch_size=1, auto_ack=False, retry_delay=100)
    assert [entries for _, _, entries in bench.calls] == [[b"a"], [b"b"]]
    assert 0.3 <= bench.calls[1][0] < 0.6


def test_a_handler_may_reject(bench) -> None:
    """In either mode; what it rejected is not acknowledged afterwards."""
    bench.append(0, b"good", b"bad")

    def handler(messages: list[StreamMessage]) -> None:
        bench.consumer.reject(messages[-1].id, reason="bad")

    bench.run(handler)
    assert bench.accounting == {"total": 2, "delivered": 1, "rejected": 1}


def test_shards_that_come_to_be_are_found_and_none_is_made(bench) -> None:
    """Beyond number 32, too, and of this stream alone."""
    bench.client.append("others:v1:shard:0001", [b"not ours"])

    def handler(_: list[StreamMessage]) -> None:
        if len(bench.calls) == 1:
            bench.append(77, b"new shard")

    bench.append(0, b"first")
    bench.run(handler, stream="events:v1:shard:*")
    assert [(number, entries) for _, number, entries in bench.calls] == [(0, [b"first"]), (77, [b"new shard"])]
    assert bench.client.shards(STREAM) == [0, 77]


def test_a_stream_names_one_shard_or_all_and_must_be_the_consumers(bench) -> None:
    """Another namespace's messages never come; a wrong name is an error and no empty loop."""
    bench.append(0, b"a")
    bench.append(1, b"b")
    bench.run(lambda _: None, stream=shard(1))
    assert [number for _, number, _ in bench.calls] == [1]
    with pytest.raises(InvalidArgumentError, match="others:v1"):
        bench.run(lambda _: None, stream="others:v1:shard:*")
    with pytest.raises(InvalidStreamName):
        bench.run(lambda _: None, stream="events")


@pytest.mark.parametrize("identity", [0, 1, 2])
def test_a_static_assignment_takes_its_share(identity, bench) -> None:
    """Shards whose number modulo the total is the id; also of shards that were named."""
    for number in range(7):
        bench.append(number, b"x")
    bench.run(lambda _: None, assignment=(identity, 3))
    assert {number for _, number, _ in bench.calls} == {number for number in range(7) if number % 3 == identity}
    bench.consumer.reset_offset(identity, 0)
    bench.calls.clear()
    bench.run(lambda _: None, assignment=(identity, 3), shards=[0, 1, 2])
    assert {number for _, number, _ in bench.calls} == {identity}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"max_retries": -1}, "max_retries"),
        ({"poll_interval": -0.1}, "poll_interval"),
        ({"poll_interval": "soon"}, "poll_interval"),
        ({"retry_delay": -1}, "retry_delay"),
        ({"retry_delay": float("nan")}, "retry_delay"),
        ({"assignment": (3, 3)}, "assignment"),
        ({"assignment": (-1, 3)}, "assignment"),
        ({"assignment": (0, 0)}, "assignment"),
        ({"assignment": 1}, "assignment"),
        ({"shards": ["a"]}, "shards"),
        ({"shards": 3}, "shards"),
        ({"dead_letter": "log"}, "dead_letter"),
        ({"stop": 5}, "stop"),
    ],
)
def test_an_option_that_can_mean_nothing_is_an_error(options, named, bench) -> None:
    """Before anything is read; the original skipped every message for a negative number of retries."""
    bench.append(0, b"a")
    with pytest.raises(InvalidArgumentError, match=named):
        bench.consumer.process(lambda _: None, **options)
    with pytest.raises(InvalidArgumentError, match="handler"):
        bench.consumer.process(None)
    assert bench.accounting == {"total": 1, "pending": 1}


def test_a_loop_without_an_interval_rests_all_the_same(bench) -> None:
    """Shorter intervals than 10 ms are taken for that: an idle loop does not keep the processor busy."""
    sleeps: list[float] = []
    bench.door.sleep = lambda seconds: (sleeps.append(seconds), setattr(bench.door, "now", bench.door.now + seconds))
    bench.run(lambda _: None, during=1.0, poll_interval=0)
    assert 50 <= len(sleeps) <= 110


def test_every_wrong_option_is_named_at_once(bench) -> None:
    """One round of mending is enough."""
    with pytest.raises(InvalidArgumentError, match=r"batch_size.*max_retries.*retry_delay"):
        bench.consumer.process(lambda _: None, batch_size=0, max_retries=-1, retry_delay=-1)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_passes_through_and_acknowledges_nothing(ending, bench) -> None:
    """The batch is handed over again by whoever goes on; the consumer stays usable."""
    bench.append(0, b"a")

    def handler(_: list[StreamMessage]) -> None:
        raise ending

    with pytest.raises(ending):
        bench.run(handler)
    assert bench.accounting == {"total": 1, "pending": 1}
    assert bench.errors == []
    bench.run(lambda _: None)
    assert bench.accounting == {"total": 1, "delivered": 1}


def test_a_callback_that_fails_ends_the_call_and_keeps_the_batch(bench) -> None:
    """A fault of the program is not swallowed."""
    bench.append(0, b"a")

    def on_error(_: Exception, __: int) -> None:
        raise LookupError("no such metric")

    with pytest.raises(LookupError):
        bench.consumer.process(fail, on_error=on_error)
    assert bench.accounting == {"total": 1, "pending": 1}


def test_a_stop_takes_effect_between_two_batches(bench) -> None:
    """The batch in hand is finished and acknowledged, the next one is not begun."""
    bench.append(0, b"a")
    bench.append(0, b"b")
    stop = threading.Event()
    bench.consumer.process(lambda _: stop.set(), batch_size=1, stop=stop)
    assert bench.accounting == {"total": 2, "delivered": 1, "pending": 1}


def test_a_closed_consumer_ends_the_call(bench) -> None:
    """Also when the handler closes it; what it was handed is not acknowledged then."""
    bench.append(0, b"a")
    with pytest.raises(ClosedError):
        bench.run(lambda _: bench.consumer.close())
    assert bench.accounting == {"total": 1, "pending": 1}
    with pytest.raises(ClosedError):
        bench.consumer.process(lambda _: None)


def test_a_deleted_group_ends_the_call(bench) -> None:
    """An acknowledgement that can never be stored is not tried for ever."""
    bench.append(0, b"a")
    with pytest.raises(AckError):
        bench.run(lambda _: bench.client.delete_group(STREAM, "workers"))


def test_another_thread_stops_a_loop_that_waits(tmp_path) -> None:
    """Within a moment, however long the poll interval is."""
    stop = threading.Event()
    with Client(tmp_path / "log") as client, Consumer(client, "workers", stream=STREAM) as consumer:
        thread = threading.Thread(
            target=consumer.process, args=(lambda _: None,), kwargs={"poll_interval": 3600, "stop": stop}
        )
        thread.start()
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def test_a_signal_handler_stops_the_loop(tmp_path) -> None:
    """It runs in the very thread that waits, so nothing that it needs may be held there."""
    stop = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    try:
        with Client(tmp_path / "log") as client, Consumer(client, "workers", stream=STREAM) as consumer:
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
            timer.start()
            consumer.process(lambda _: None, poll_interval=0.01, stop=stop)
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert stop.is_set()


def test_a_consumer_that_stands_by_takes_over_what_is_freed(tmp_path) -> None:
    """While the first one lives the second gets nothing; afterwards all that was not acknowledged."""
    door = ManualDoor()
    with Client(tmp_path / "log", _door=door) as client:
        for number in range(20):
            client.append(shard(number % 2), [b"%d" % number])
        first = Consumer(client, "workers", stream=STREAM)
        held = first.read([0, 1], 4)
        first.ack(*(message.id for message in held))
        got: Counter[bytes] = Counter()
        with Consumer(client, "workers", stream=STREAM) as second:
            stop: Any = Stop(door, 1.0)
            second.process(lambda messages: got.update(m.data for m in messages), stop=stop)
            assert not got
            first.close()
            stop = Stop(door, 0.2)
            second.process(lambda messages: got.update(m.data for m in messages), stop=stop)
        assert got == Counter(b"%d" % number for number in range(20)) - Counter(m.data for m in held)
        assert client.accounting(STREAM, "workers").delivered == 20
