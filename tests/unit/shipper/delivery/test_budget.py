"""What pipelines hold in memory together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from comet_storage import Client
from shipper.delivery.budget import Budget
from shipper.outcome import Delivered, Outcome
from tests.support.delivery import GROUP, ScriptedSender, destination, pipeline, span_names, span_request

KIB = 1024
LIMIT = 20.0


def test_who_holds_nothing_may_always_read_and_others_within_the_limit() -> None:
    """So that a greedy one leaves each of the others at least one request."""
    budget = Budget(100)
    assert budget.take("greedy", 0, 60)
    assert budget.take("greedy", 60, 40)
    assert not budget.take("greedy", 100, 1)
    assert budget.take("modest", 0, 60)
    assert not budget.take("modest", 60, 1)
    budget.note("greedy", 0)
    assert budget.take("modest", 60, 40)
    assert not budget.take("modest", 100, 1)


def test_pipelines_with_one_budget_hold_no_more_than_it_allows_and_deliver_all(tmp_path: Path) -> None:
    """Two destinations whose windows would hold eight requests each, and a budget of four."""
    budget, most = Budget(400 * KIB), 0
    lock, under_way = threading.Lock(), {"left": 0, "right": 0}

    def answering(name: str) -> Callable[[bytes], Outcome]:
        def answer(body: bytes) -> Outcome:
            nonlocal most
            with lock:
                under_way[name] += len(body)
                most = max(most, sum(under_way.values()))
            time.sleep(0.002)
            with lock:
                under_way[name] -= len(body)
            return Delivered()

        return answer

    with Client(tmp_path / "log") as client:
        names = [f"span {number}" for number in range(400)]
        for number, name in enumerate(names):
            client.append(f"traces:v1:shard:{number % 8:04d}", [span_request(name, padding=20 * KIB)])
        senders = {name: ScriptedSender(answering(name)) for name in under_way}
        configs = {
            name: destination(name=name, group=f"{GROUP}-{name}", window=8, max_request_bytes=100 * KIB)
            for name in under_way
        }
        with (
            pipeline(client, senders["left"], configs["left"], budget=budget) as left,
            pipeline(client, senders["right"], configs["right"], budget=budget) as right,
        ):
            deadline = time.monotonic() + LIMIT
            while left.state().delivered_entries + right.state().delivered_entries < 2 * len(names):
                assert time.monotonic() < deadline, (left.state(), right.state())
                time.sleep(0.01)
    for sender in senders.values():
        assert sorted(span_names(sender.delivered)) == sorted(names)
    assert 200 * KIB < most <= 500 * KIB  # one that holds nothing is let through beyond the limit
