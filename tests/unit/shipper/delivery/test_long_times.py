"""Hours and days of trouble, in simulated time: what a pipeline does when nobody takes what it sends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from comet_storage import Client
from shipper.delivery.dead_letters import STREAM
from shipper.delivery.pace import START_BYTES_PER_SECOND
from shipper.outcome import Delivered, Outcome, Pause, Retry
from shipper.settings import PacingConfig
from tests.support.delivery import (
    GROUP,
    SHARD,
    InlineCrew,
    ManualClock,
    ScriptedSender,
    destination,
    drain,
    pipeline,
    span_names,
    span_request,
)

HOUR = 3600.0


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    """Return a log with a backlog of some megabytes in two shards."""
    with Client(tmp_path / "log") as opened:
        for number in range(300):
            opened.append(f"traces:v1:shard:{number % 2:04d}", [span_request(f"span {number}", padding=20_000)])
        yield opened


def offline_until(clock: ManualClock, end: float, outcome: Outcome) -> tuple[ScriptedSender, list[tuple[float, int]]]:
    """Return a sender that fails until then, and a list of when it was asked, with how many bytes."""
    tries: list[tuple[float, int]] = []

    def answer(body: bytes) -> Outcome:
        tries.append((clock.now, len(body)))
        return Delivered() if clock.now >= end else outcome

    return ScriptedSender(answer), tries


def test_two_days_offline_cost_nothing_but_time(client) -> None:
    """Pauses stay within their bounds, one request at a time goes out, and the rate starts slow afterwards."""
    clock = ManualClock()
    end = clock.now + 48 * HOUR
    sender, tries = offline_until(clock, end, Retry("cannot connect", "no route to host"))
    config = destination(retry={"first": 0.5, "longest": 30.0}, max_request_bytes=100_000)
    made = drain(client, sender, config, clock=clock, crew=InlineCrew())
    assert sorted(span_names(sender.delivered)) == sorted(f"span {number}" for number in range(300))
    assert client.accounting("traces:v1", GROUP).delivered == 300
    assert STREAM not in client.streams()

    failed = [at for at, _ in tries if at < end]
    gaps = [later - earlier for earlier, later in pairwise(failed)]
    assert min(gaps) >= 0.25
    assert 10.0 < max(gaps) <= 30.0
    assert gaps[0] < 1.0
    assert 48 * HOUR / 30 <= len(failed) <= 48 * HOUR / 15 + 20
    # The first request afterwards is one alone; what follows is let out slowly, then faster.
    after = [(at - end, size) for at, size in tries if at >= end]
    assert sum(size for at, size in after if at < after[0][0] + 1.0) <= 2.5 * START_BYTES_PER_SECOND
    assert after[-1][0] - after[0][0] > 3.0
    assert made.state().retried_requests == len(failed)


def test_nothing_is_held_up_without_a_slow_start(client) -> None:
    """Whoever knows that the destination can take it may say so."""
    clock = ManualClock()
    sender, tries = offline_until(clock, clock.now + HOUR, Retry("cannot connect", ""))
    config = destination(
        pacing=PacingConfig(slow_start=False), max_request_bytes=100_000, retry={"first": 0.5, "longest": 30.0}
    )
    drain(client, sender, config, clock=clock, crew=InlineCrew())
    after = [at for at, _ in tries if at >= tries[0][0] + HOUR]
    assert after[-1] - after[0] < 2.0


def test_an_hour_of_wrong_credentials_loses_nothing(client) -> None:
    """The state says paused and why; pauses grow up to their own bound; a new token ends it."""
    clock = ManualClock()
    end = clock.now + HOUR
    states = []
    sender, tries = offline_until(clock, end, Pause("HTTP 401", "token expired"))
    answer = sender.answer

    def observed(body: bytes) -> Outcome:
        outcome = answer(body)
        states.append(made[0].state() if made else None)
        return outcome

    made: list = []
    sender.answer = observed
    config = destination(retry={"first": 0.5, "longest": 30.0, "pause_longest": 300.0})
    with pipeline(client, sender, config, clock=clock, crew=InlineCrew(), once=True) as running:
        made.append(running)
        running.join(60)
        assert running.drained
    assert client.accounting("traces:v1", GROUP).delivered == 300
    assert STREAM not in client.streams()
    paused = [state for state in states[3:] if state is not None and state.state == "paused"]
    assert paused
    assert all(state.reason == "HTTP 401: token expired" for state in paused)
    failed = [at for at, _ in tries if at < end]
    gaps = [later - earlier for earlier, later in pairwise(failed)]
    assert 100.0 < max(gaps) <= 300.0
    assert len(failed) < 60


def test_a_wish_to_wait_is_granted_and_throttling_halves_the_speed(client) -> None:
    """Retry-After is kept to, and what follows is slower than what came before."""
    clock = ManualClock()
    tries: list[tuple[float, int]] = []

    def answer(body: bytes) -> Outcome:
        tries.append((clock.now, len(body)))
        clock.now += 0.05
        return Retry("HTTP 429", "slow down", 60.0, throttled=True) if len(tries) == 10 else Delivered()

    config = destination(max_request_bytes=100_000, pacing=PacingConfig(slow_start=False))
    drain(client, ScriptedSender(answer), config, clock=clock, crew=InlineCrew())
    assert tries[10][0] - tries[9][0] >= 60.0
    before = tries[9][0] - tries[0][0]
    after = tries[20][0] - tries[11][0]
    assert after > 1.5 * before


def test_a_speed_limit_is_kept(client) -> None:
    """Bytes per second, and requests per second, over the whole of a drain."""
    clock = ManualClock()
    begun = clock.now
    sender = ScriptedSender()
    config = destination(pacing=PacingConfig(max_bytes_per_second=1_000_000))
    drain(client, sender, config, clock=clock, crew=InlineCrew())
    total = sum(map(len, sender.bodies))
    assert total / (clock.now - begun) <= 1_000_000 * 1.1

    client.append(SHARD, [span_request("x") for _ in range(50)])
    sender, begun = ScriptedSender(), clock.now
    config = destination(pacing=PacingConfig(max_requests_per_second=2.0), max_request_bytes=200)
    drain(client, sender, config, clock=clock, crew=InlineCrew())
    assert (len(sender.bodies) - 2) / (clock.now - begun) <= 2.0
