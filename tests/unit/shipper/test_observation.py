"""What a shipper knows of itself: rates, the time until it is empty, and why it is not ready."""

from __future__ import annotations

import pytest

from comet_otel.streams import TRACES
from comet_storage import Client, Consumer
from shipper.observation import Observer, seconds_to_empty
from tests.support.observations import observation, report

SHARD = f"{TRACES}:shard:0000"


@pytest.mark.parametrize(
    ("pending", "delivered", "arriving", "expected"),
    [
        (0, 0.0, 5.0, 0.0),
        (100, 10.0, 0.0, 10.0),
        (100, 30.0, 10.0, 5.0),
        (100, 10.0, 10.0, None),
        (100, 5.0, 10.0, None),
        (100, 0.0, 0.0, None),
    ],
)
def test_the_time_until_it_is_empty_looks_at_what_comes_and_what_goes(pending, delivered, arriving, expected) -> None:
    """And is not known where the backlog does not get shorter."""
    assert seconds_to_empty(pending, delivered, arriving) == expected


def test_rates_come_from_the_log_itself(tmp_path) -> None:
    """Entries delivered and appended per second, as running averages that follow a steady flow."""
    now = [0.0]
    observer = Observer(clock=lambda: now[0])
    with Client(tmp_path / "log") as client, Consumer(client, "shipper", stream=TRACES) as consumer:
        seen = ()
        for _ in range(120):
            client.append(SHARD, [b"x"] * 10)
            consumer.ack(*(message.id for message in consumer.read(count=5)))
            seen = observer.observe([report()], client)
            now[0] += 1
        (found,) = seen
        assert found.arriving_per_second == pytest.approx(10, rel=0.05)
        assert found.entries_per_second == pytest.approx(5, rel=0.05)
        assert (found.pending, found.seconds_to_empty) == (600, None)


def test_a_shipper_is_ready_while_every_stream_flows_or_has_nothing_to_do() -> None:
    """Retrying, paused, starting and dead pipelines say so, each with its reason."""
    fine = [report(state=state) for state in ("idle", "delivering", "standby")]
    assert observation(*fine).reasons_not_ready() == []
    assert "no log" in observation(log_open=False).reasons_not_ready()[0]
    bad = observation(*fine, report(state="paused", reason="HTTP 401: who are you"), report(alive=False))
    assert bad.reasons_not_ready() == [
        "central/traces:v1: paused: HTTP 401: who are you",
        "central/traces:v1: its thread has ended",
    ]
