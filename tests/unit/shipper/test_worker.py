"""One signal's worker against a real log and a sender that answers what a test tells it to."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest

from comet_otel.streams import ROUTES, TRACES, Signal, route_of_signal
from comet_storage import Client
from shipper import worker as worker_module
from shipper.config import Options, load_config
from shipper.outcome import Delivered, Partial, Pause, Reject, Retry
from shipper.worker import SignalWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comet_otel.streams import Route
    from shipper.outcome import Outcome

ROUTE = route_of_signal(Signal.TRACES)


class ScriptedSender:
    """Answers with the outcomes given, then with success."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.bodies: list[bytes] = []
        self.delivered: list[bytes] = []

    def send(self, route: Route, body: bytes) -> Outcome:
        """Answer one request."""
        assert route in ROUTES
        self.bodies.append(body)
        outcome = self.outcomes.pop(0) if self.outcomes else Delivered()
        if isinstance(outcome, Delivered | Partial):
            self.delivered.append(body)
        return outcome

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    """Return an open log."""
    with Client(tmp_path / "log") as opened:
        yield opened


@pytest.fixture
def sender() -> ScriptedSender:
    """Return a sender that succeeds unless told otherwise."""
    return ScriptedSender()


@pytest.fixture
def start(client, sender, tmp_path, monkeypatch) -> Iterator[Callable[..., SignalWorker]]:
    """Return a function that starts workers, which end with the test."""
    monkeypatch.setattr(worker_module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(worker_module, "RETRY_FIRST", 0.01)
    stop = threading.Event()
    workers = []

    def start_worker(**options: object) -> SignalWorker:
        given = {"data_dir": tmp_path / "log", "endpoint": "http://c:4317", "retry_max": 0.1, **options}
        worker = SignalWorker(ROUTE, client, sender, load_config(Options(**given), {}), stop)
        worker.start()
        workers.append(worker)
        return worker

    yield start_worker
    stop.set()
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def pending(client) -> int:
    """Return how many entries the shipper has still to deliver."""
    return client.accounting(TRACES, "shipper").pending


def test_entries_are_joined_delivered_and_acknowledged(client, sender, start) -> None:
    """What was there before and what comes while it runs."""
    writer = client.lanes(TRACES)
    writer.append([b"one ", b"two "])
    start()
    wait_until(lambda: b"".join(sender.delivered) == b"one two ")
    writer.append([b"three"])
    wait_until(lambda: b"".join(sender.delivered) == b"one two three")
    wait_until(lambda: pending(client) == 0)
    assert client.accounting(TRACES, "shipper").delivered == 3


def test_requests_keep_to_the_limit(client, sender, start) -> None:
    """Entries are joined up to the size given, in order."""
    entries = [bytes([65 + number]) * 300 for number in range(20)]
    client.lanes(TRACES).append(entries)
    start(max_request_bytes=1024)
    wait_until(lambda: pending(client) == 0)
    assert b"".join(sender.delivered) == b"".join(entries)
    assert {len(body) for body in sender.delivered[:-1]} == {900}


@pytest.mark.parametrize(
    "failure",
    [Retry("UNAVAILABLE", "m"), Pause("UNAUTHENTICATED", "m"), Reject("INVALID_ARGUMENT", "m")],
    ids=lambda failure: type(failure).__name__,
)
def test_no_failure_takes_data_out_of_the_log(client, sender, start, caplog, failure) -> None:
    """Whatever the collector says, the request is sent again until it is taken, and never skipped."""
    sender.outcomes = [failure] * 5
    client.lanes(TRACES).append([b"precious"])
    worker = start()
    wait_until(lambda: pending(client) == 0)
    assert sender.bodies == [b"precious"] * 6
    assert sender.delivered == [b"precious"]
    assert worker.log.counters.failures == 5
    assert len([record for record in caplog.records if "cannot deliver" in record.message]) == 1


def test_nothing_is_acknowledged_before_it_is_delivered(client, sender, start) -> None:
    """While the collector fails, everything stays pending."""
    sender.outcomes = [Retry("UNAVAILABLE", "m")] * 1_000_000
    client.lanes(TRACES).append([b"a", b"b"])
    start()
    wait_until(lambda: len(sender.bodies) >= 3)
    assert pending(client) == 2
    sender.outcomes.clear()
    wait_until(lambda: pending(client) == 0)


def test_partial_success_is_acknowledged_and_its_rejects_are_counted(client, sender, start) -> None:
    """The specification forbids to send it again."""
    sender.outcomes = [Partial(3, "too old")]
    client.lanes(TRACES).append([b"some"])
    worker = start()
    wait_until(lambda: pending(client) == 0)
    assert sender.bodies == [b"some"]
    assert worker.log.counters.rejected_items == 3


def test_all_shards_are_delivered_also_new_ones(client, sender, start) -> None:
    """Processes that start later write into shards of their own."""
    client.append(f"{TRACES}:shard:0000", [b"a"])
    start()
    wait_until(lambda: sender.delivered == [b"a"])
    client.append(f"{TRACES}:shard:0005", [b"b"])
    wait_until(lambda: sender.delivered == [b"a", b"b"])


def test_trouble_with_the_log_is_reported_once_and_overcome(client, sender, start, caplog, monkeypatch) -> None:
    """Also a bug in what reads it: no signal ends for good."""
    real = worker_module.Consumer
    troubles = [OSError("disk"), OSError("disk"), RuntimeError("bug")]

    def failing_consumer(*arguments: object, **keywords: object) -> object:
        if troubles:
            raise troubles.pop(0)
        return real(*arguments, **keywords)

    monkeypatch.setattr(worker_module, "Consumer", failing_consumer)
    client.lanes(TRACES).append([b"a"])
    start()
    wait_until(lambda: sender.delivered == [b"a"])
    lines = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [line.exc_info is not None for line in lines] == [False, True]


def test_once_ends_when_nothing_is_left(client, start) -> None:
    """And not before."""
    client.lanes(TRACES).append([b"x" * 600] * 50)
    worker = start(once=True, max_request_bytes=1024)
    worker.join(20)
    assert worker.drained
    assert pending(client) == 0


def test_stopping_does_not_wait_for_the_end_of_a_pause(client, sender, start) -> None:
    """A collector may ask for an hour; whoever stops the shipper does not wait for it."""
    sender.outcomes = [Retry("UNAVAILABLE", "m", after=3600.0)]
    client.lanes(TRACES).append([b"a"])
    worker = start()
    wait_until(lambda: bool(sender.bodies))
    worker._stopping.set()
    worker.join(5)
    assert not worker.is_alive()
    assert pending(client) == 1
