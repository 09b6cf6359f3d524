"""What a pipeline knows of a request while it is under way, and what it asks before it believes the answer."""

from __future__ import annotations

import time

from shipper.delivery.dead_letters import STREAM
from shipper.outcome import Delivered, Outcome, Pause, Retry, Split
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

LIMIT = 20.0


def test_a_server_that_finds_everything_too_large_is_paused_and_nothing_is_put_aside(client) -> None:
    """Also single items, which could not be made smaller: it says the same of an empty request."""
    names = [f"span {number}" for number in range(3)]
    for name in names:
        client.append(SHARD, [span_request(name, padding=20_000)])
    mended = False
    sender = ScriptedSender(lambda _: Delivered() if mended else Split("HTTP 413", "too large"))
    with pipeline(client, sender, destination()) as made:
        deadline = time.monotonic() + LIMIT
        while made.state().state != "paused":
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert "even an empty request" in made.state().reason
        mended = True
        while client.accounting("traces:v1", GROUP).pending:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert span_names([body for body in sender.delivered if body]) == names
    assert STREAM not in client.streams()


def test_what_cannot_be_made_smaller_is_put_aside_where_an_empty_request_is_taken(client) -> None:
    """However many there are of them, and with nothing else between them."""
    for number in range(30):
        client.append(SHARD, [span_request(f"span {number}", padding=20_000)])
    client.append(SHARD, [span_request("small")])
    sender = ScriptedSender(lambda body: Split("HTTP 413", "too large") if len(body) > 10_000 else Delivered())
    drain(client, sender, destination())
    assert span_names([body for body in sender.delivered if body]) == ["small"]
    total = client.accounting("traces:v1", GROUP)
    assert (total.delivered, total.rejected, total.pending) == (1, 30, 0)


def test_items_in_flight_are_counted_while_they_are_and_not_when_they_are_not(client) -> None:
    """Also where the request comes to nothing, or the sender breaks."""
    client.append(SHARD, [span_request("a", "b", "c")])
    seen: list[int] = []
    answers: list[Outcome | Exception] = [Retry("UNAVAILABLE", "later"), ValueError("broken"), Delivered()]

    def answer(_: bytes) -> Outcome:
        seen.append(made.state().inflight_items)
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with pipeline(client, ScriptedSender(answer), destination(), once=True) as made:
        made.join(LIMIT)
        state = made.state()
    assert seen == [3, 3, 3]
    assert (state.inflight_items, state.delivered_items) == (0, 3)


def test_other_credentials_end_a_pause(client) -> None:
    """The pause has grown to an hour; the token is exchanged ten seconds after the last try."""
    client.append(SHARD, [span_request("a")])
    clock = ManualClock()
    renewed = clock.now + 3 * 3600
    tries: list[float] = []

    def answer(_: bytes) -> Outcome:
        tries.append(clock.now)
        return Delivered() if clock.now >= renewed else Pause("UNAUTHENTICATED", "expired")

    retry = {"first": 60.0, "longest": 60.0, "pause_longest": 3600.0}
    made = drain(
        client,
        ScriptedSender(answer),
        destination(retry=retry),
        clock=clock,
        crew=InlineCrew(),
        watch=lambda: clock.now >= renewed,
    )
    assert made.state().delivered_entries == 1
    assert renewed <= tries[-1] < renewed + 5
    assert len(tries) < 20
