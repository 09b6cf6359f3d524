"""A pipeline over a real log, with a sender that answers what a test tells it to."""

from __future__ import annotations

import threading
import time

import pytest

from comet_storage import Client, Consumer, LogFullError
from shipper.delivery.dead_letters import STREAM, DeadLetters, decode
from shipper.outcome import Delivered, Outcome, Partial, Pause, Reject, Retry, Split
from tests.support.delivery import (
    GROUP,
    SHARD,
    InlineCrew,
    ScriptedSender,
    destination,
    drain,
    pipeline,
    span_names,
    span_request,
)

LIMIT = 20.0


def fill(client: Client, count: int, *, shards: int = 1, padding: int = 0) -> list[str]:
    """Append requests of one span each, round the shards, and return their names."""
    names = [f"span {number}" for number in range(count)]
    for number, name in enumerate(names):
        client.append(f"traces:v1:shard:{number % shards:04d}", [span_request(name, padding=padding)])
    return names


def until(condition) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


def letters(client: Client) -> list:
    """Return the dead letters."""
    return [decode(message.data) for message in client.list_recent(STREAM, 10_000)]


def test_everything_arrives_in_order_and_is_acknowledged(client) -> None:
    """Entries are joined, and a shard's come in the order in which they were appended."""
    names = fill(client, 500)
    sender = ScriptedSender()
    made = drain(client, sender, destination())
    assert span_names(sender.delivered) == names
    assert len(sender.delivered) < 10
    total = client.accounting("traces:v1", GROUP)
    assert (total.delivered, total.pending) == (500, 0)
    state = made.state()
    assert (state.delivered_entries, state.delivered_items, state.state) == (500, 500, "stopped")


def test_failures_of_every_kind_lose_nothing(client) -> None:
    """Retries and pauses come and go; what arrives in the end is everything, once."""
    names = fill(client, 200, shards=3)
    script: list[Outcome] = [Retry("UNAVAILABLE", ""), Pause("HTTP 401", "who?"), Retry("HTTP 429", "", 0.01, True)] * 3

    def answer(body: bytes) -> Outcome:
        return script.pop() if script else Delivered()

    sender = ScriptedSender(answer)
    drain(client, sender, destination(max_request_bytes=2000))
    assert sorted(span_names(sender.delivered)) == sorted(names)
    for shard in range(3):
        arrived = [name for name in span_names(sender.delivered) if int(name.split()[1]) % 3 == shard]
        assert arrived == [name for name in names if int(name.split()[1]) % 3 == shard]


def test_the_id_of_a_request_stays_the_same_over_retries_and_restarts(client) -> None:
    """It names the log, the stream, the shard and the range."""
    fill(client, 10)
    refusing = ScriptedSender(lambda _: Retry("UNAVAILABLE", ""))
    with pipeline(client, refusing, destination()):
        until(lambda: len(refusing.ids) >= 3)
    accepting = ScriptedSender()
    drain(client, accepting, destination())
    assert set(refusing.ids) == set(accepting.ids) == {f"{client.log_id}/traces:v1/0/0-9"}


def test_only_the_poison_among_many_is_put_aside(client) -> None:
    """Halving finds it; everything else arrives, in order; the letter has its bytes."""
    names = fill(client, 1000)
    sender = ScriptedSender(lambda body: Reject("HTTP 400", "no") if "span 617" in span_names([body]) else Delivered())
    drain(client, sender, destination())
    assert span_names(sender.delivered) == [name for name in names if name != "span 617"]
    (letter,) = letters(client)
    assert letter.body == span_request("span 617")
    assert (letter.code, letter.message, letter.reason) == ("HTTP 400", "no", "rejected")
    assert (letter.stream, letter.shard, letter.first_entry, letter.last_entry) == ("traces:v1", 0, 617, 617)
    total = client.accounting("traces:v1", GROUP)
    assert (total.delivered, total.rejected, total.pending) == (999, 1, 0)


def test_a_destination_that_rejects_everything_is_paused_and_nothing_is_put_aside(client) -> None:
    """Twenty in a row are its own trouble; when it is mended, everything arrives."""
    names = fill(client, 300)
    mended = threading.Event()
    sender = ScriptedSender(lambda _: Delivered() if mended.is_set() else Reject("HTTP 500", "oops"))
    with pipeline(client, sender, destination()) as made:
        until(lambda: made.state().state == "paused")
        assert "20 requests in a row" in made.state().reason
        assert letters(client) == []
        mended.set()
        until(lambda: client.accounting("traces:v1", GROUP).pending == 0)
    assert sorted(span_names(sender.delivered)) == sorted(names)
    assert letters(client) == []


def test_after_a_pause_for_rejections_a_poison_does_not_block_the_others(client) -> None:
    """The first thing that the mended destination is tried with may be what it will never take."""
    names = fill(client, 100)
    mended = threading.Event()

    def answer(body: bytes) -> Outcome:
        poisoned = "span 0" in span_names([body])
        return Delivered() if mended.is_set() and not poisoned else Reject("HTTP 400", "no")

    sender = ScriptedSender(answer)
    with pipeline(client, sender, destination()) as made:
        until(lambda: made.state().state == "paused")
        mended.set()
        until(lambda: client.accounting("traces:v1", GROUP).pending == 0)
    assert sorted(span_names(sender.delivered)) == sorted(names[1:])
    assert [letter.first_entry for letter in letters(client)] == [0]


def test_a_lone_rejected_entry_is_put_aside_without_waiting_for_others(client) -> None:
    """When nothing else is there that could tell whose fault it is."""
    fill(client, 1)
    drain(client, ScriptedSender(lambda _: Reject("INTERNAL", "")), destination())
    assert [letter.first_entry for letter in letters(client)] == [0]


@pytest.mark.parametrize("shards", [1, 3])
def test_what_is_too_large_is_split_down_to_single_items(client, shards) -> None:
    """Entries of many spans go in pieces, and only the span that is too large alone is put aside."""
    big = [f"big {number}" for number in range(300)]
    for shard in range(shards):
        name = f"traces:v1:shard:{shard:04d}"
        client.append(name, [span_request(*big, padding=100), span_request("huge", padding=30_000)])
        client.append(name, [span_request("after")])
    sender = ScriptedSender(lambda body: Split("HTTP 413", "") if len(body) > 8000 else Delivered())
    made = drain(client, sender, destination())
    assert sorted(span_names(sender.delivered)) == sorted([*big, "after"] * shards)
    found = letters(client)
    assert [(letter.reason, letter.body) for letter in found] == [
        ("too large", span_request("huge", padding=30_000))
    ] * shards
    total = client.accounting("traces:v1", GROUP)
    assert (total.delivered, total.rejected, total.pending) == (2 * shards, shards, 0)
    # What was learned once is not asked again and again.
    assert made.state().failed_requests < 40 * shards


def test_an_entry_of_which_a_piece_was_refused_counts_as_rejected(client) -> None:
    """Its other pieces arrive."""
    request = span_request("a", "b", padding=3000) + span_request("huge", padding=9000)
    client.append(SHARD, [request])
    sender = ScriptedSender(lambda body: Split("HTTP 413", "") if len(body) > 8000 else Delivered())
    drain(client, sender, destination())
    assert span_names(sender.delivered) == ["a", "b"]
    assert client.accounting("traces:v1", GROUP).rejected == 1
    assert [letter.piece for letter in letters(client)] != [""]


def test_an_entry_over_the_configured_size_is_split_before_it_is_sent(client) -> None:
    """The limit is the limit."""
    client.append(SHARD, [span_request(*(f"span {number}" for number in range(500)), padding=50)])
    sender = ScriptedSender()
    drain(client, sender, destination(max_request_bytes=5000))
    assert all(len(body) <= 5000 for body in sender.bodies)
    assert span_names(sender.delivered) == [f"span {number}" for number in range(500)]
    assert len(set(sender.ids)) == len(sender.ids)


def test_partial_success_is_delivery_and_counted(client) -> None:
    """It is never sent again."""
    fill(client, 5)
    sender = ScriptedSender(lambda _: Partial(2, "too old"))
    made = drain(client, sender, destination())
    assert len(sender.bodies) == 1
    assert made.state().rejected_items == 2


def test_a_broken_entry_does_not_touch_its_neighbours(client) -> None:
    """It goes alone, is judged alone, and is kept as it was."""
    broken = span_request("lost")[:-3]
    for entry in (span_request("a"), broken, span_request("b")):
        client.append(SHARD, [entry])
    sender = ScriptedSender(lambda body: Reject("HTTP 400", "bad") if body == broken else Delivered())
    drain(client, sender, destination())
    assert span_names(sender.delivered) == ["a", "b"]
    (letter,) = letters(client)
    assert letter.body == broken
    assert letter.items is None


def test_without_order_one_shard_fills_the_window_and_acknowledges_exactly(client) -> None:
    """Requests of one shard are under way at the same time, and come back in any order."""
    names = fill(client, 400)
    seen, lock, most = [0], threading.Lock(), [0]

    def answer(body: bytes) -> Outcome:
        with lock:
            seen[0] += 1
            most[0] = max(most[0], seen[0])
        time.sleep(0.002 * (len(body) % 3))
        with lock:
            seen[0] -= 1
        return Delivered()

    sender = ScriptedSender(answer)
    drain(client, sender, destination(ordered=False, max_request_bytes=500))
    assert sorted(span_names(sender.delivered)) == sorted(names)
    assert most[0] > 1
    assert client.accounting("traces:v1", GROUP).pending == 0


def test_with_order_no_shard_has_two_requests_under_way(client) -> None:
    """The window is across shards."""
    fill(client, 300, shards=3)
    under_way: dict[str, int] = {}
    lock, together, worst = threading.Lock(), [0], [0]

    def answer(body: bytes) -> Outcome:
        shard = str(int(span_names([body])[0].split()[1]) % 3)
        with lock:
            under_way[shard] = under_way.get(shard, 0) + 1
            worst[0] = max(worst[0], under_way[shard])
            together[0] = max(together[0], sum(under_way.values()))
        time.sleep(0.002)
        with lock:
            under_way[shard] -= 1
        return Delivered()

    drain(client, ScriptedSender(answer), destination(max_request_bytes=500))
    assert worst[0] == 1
    assert together[0] > 1


def test_a_second_shipper_stands_by_and_takes_over(client, tmp_path) -> None:
    """Within the group a shard has one consumer."""
    fill(client, 10)
    with Client(tmp_path / "log") as other, Consumer(other, GROUP, stream="traces:v1") as holder:
        assert holder.read(count=1)
        sender = ScriptedSender()
        with pipeline(client, sender, destination()) as made:
            until(lambda: made.state().state == "standby")
            assert sender.bodies == []
            holder.close()
            until(lambda: client.accounting("traces:v1", GROUP).pending == 0)


def test_an_assignment_leaves_the_other_shards_alone(client) -> None:
    """Shards are shared by configuration."""
    names = fill(client, 40, shards=4)
    sender = ScriptedSender()
    drain(client, sender, destination(), assignment=(1, 2))
    assert sorted(span_names(sender.delivered)) == sorted(name for name in names if int(name.split()[1]) % 2 == 1)


def test_new_entries_and_new_shards_are_noticed(client) -> None:
    """While it runs."""
    sender = ScriptedSender()
    with pipeline(client, sender, destination(max_request_wait=0.01)):
        for number in range(3):
            client.append(f"traces:v1:shard:{number:04d}", [span_request(f"span {number}")])
            until(lambda number=number: f"span {number}" in span_names(sender.delivered))
    assert span_names(sender.delivered) == ["span 0", "span 1", "span 2"]


def test_a_stop_finishes_an_entry_of_which_pieces_were_taken(client) -> None:
    """Else they would be sent twice; of the entries behind it nothing is sent any more."""
    for entry in range(3):
        client.append(SHARD, [span_request(*(f"{entry}-{number}" for number in range(20)), padding=200)])
    first_arrived, go_on = threading.Event(), threading.Event()

    def answer(body: bytes) -> Outcome:
        first_arrived.set()
        assert go_on.wait(LIMIT)
        return Delivered()

    sender = ScriptedSender(answer)
    with pipeline(client, sender, destination(max_request_bytes=1024)) as made:
        assert first_arrived.wait(LIMIT)
        made._stopping.set()
        go_on.set()
        made.join(LIMIT)
    assert span_names(sender.delivered) == [f"0-{number}" for number in range(20)]
    assert (client.accounting("traces:v1", GROUP).delivered, client.accounting("traces:v1", GROUP).pending) == (1, 2)


def test_a_stop_does_not_finish_what_the_destination_does_not_take(client) -> None:
    """An outage ends the attempt; the entry stays, whole."""
    client.append(SHARD, [span_request(*(str(number) for number in range(20)), padding=200)])
    arrived = threading.Event()

    def answer(body: bytes) -> Outcome:
        if len(sender.bodies) < 3:
            return Delivered()
        arrived.set()
        return Retry("UNAVAILABLE", "")

    sender = ScriptedSender(answer)
    with pipeline(client, sender, destination(max_request_bytes=1024)):
        assert arrived.wait(LIMIT)
    assert client.accounting("traces:v1", GROUP).pending == 1


def test_a_shard_whose_requests_fail_does_not_hold_up_the_others(client) -> None:
    """It waits longer and longer by itself, and goes on when it can."""
    names = fill(client, 300, shards=3)
    healed = threading.Event()

    def answer(body: bytes) -> Outcome:
        stuck = int(span_names([body])[0].split()[1]) % 3 == 1
        return Retry("DEADLINE_EXCEEDED", "") if stuck and not healed.is_set() else Delivered()

    sender = ScriptedSender(answer)
    config = destination(max_request_bytes=500, retry={"first": 0.01, "longest": 0.5})
    with pipeline(client, sender, config) as made:
        others = {name for name in names if int(name.split()[1]) % 3 != 1}
        until(lambda: set(span_names(sender.delivered)) == others)
        assert made.state().retried_requests < 60
        healed.set()
        until(lambda: client.accounting("traces:v1", GROUP).pending == 0)
    assert sorted(span_names(sender.delivered)) == sorted(names)


def test_a_log_without_room_for_dead_letters_holds_up_nothing_else(client, monkeypatch, caplog) -> None:
    """What is refused waits for room; the others are sent once, and nothing is sent anew for its sake."""
    names = fill(client, 200)
    room = threading.Event()
    store = DeadLetters.store

    def full(self, letter) -> None:
        if not room.is_set():
            raise LogFullError("no room")
        store(self, letter)

    monkeypatch.setattr(DeadLetters, "store", full)
    sender = ScriptedSender(lambda body: Reject("HTTP 400", "no") if "span 17" in span_names([body]) else Delivered())
    with pipeline(client, sender, destination()) as made:
        until(lambda: client.accounting("traces:v1", GROUP).pending == 1)
        until(lambda: made.state().state == "retrying")
        assert "no room for dead letters" in made.state().reason
        names += ["later"]
        client.append(SHARD, [span_request("later")])
        until(lambda: "later" in span_names(sender.delivered))
        room.set()
        until(lambda: client.accounting("traces:v1", GROUP).pending == 0)
    assert span_names(sender.delivered) == [name for name in names if name != "span 17"]
    assert [letter.body for letter in letters(client)] == [span_request("span 17")]
    assert len([record for record in caplog.records if "cannot keep a dead letter" in record.message]) == 1


def test_what_was_tried_out_of_its_turn_goes_back_to_its_place(client) -> None:
    """A destination that rejects all for a while is tried with one after the other, and in order in the end."""
    names = fill(client, 30, padding=1000)
    count = [0]

    def answer(_: bytes) -> Outcome:
        count[0] += 1
        return Reject("HTTP 500", "not today") if count[0] <= 30 else Delivered()

    sender = ScriptedSender(answer)
    drain(client, sender, destination(max_request_bytes=1500))
    rejected = {name for body in sender.bodies[:30] for name in span_names([body])}
    arrived = span_names(sender.delivered)
    assert sorted(arrived) == sorted(names)
    assert [name for name in arrived if name not in rejected] == [name for name in names if name not in rejected]
    later = arrived[1:]  # the first to be taken showed that the destination was well again
    assert later == sorted(later, key=names.index)


def test_an_empty_entry_says_nothing_about_the_destination(client) -> None:
    """It is acknowledged, and not sent; a destination that is away stays away."""
    client.append(SHARD, [b""])
    sender = ScriptedSender()
    made = drain(client, sender, destination())
    assert sender.bodies == []
    assert client.accounting("traces:v1", GROUP).delivered == 1
    assert made.state().last_success is None


def test_a_system_without_threads_costs_time_only(client) -> None:
    """Starting a thread is tried again like everything else, and the window stays as wide as it is."""
    names = fill(client, 50, shards=3)
    crew = Refusing(8)
    sender = ScriptedSender()
    drain(client, sender, destination(window=2), crew=crew)
    assert sorted(span_names(sender.delivered)) == sorted(names)


class Refusing(InlineCrew):
    """Has no thread for the first few jobs."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def submit(self, job) -> None:
        """Do it, or not."""
        if self.refusals > 0:
            self.refusals -= 1
            raise RuntimeError("can't start new thread")
        job()


def test_the_id_of_a_piece_names_its_bytes(client) -> None:
    """Which piece has which number depends on the limit; the same id with other bytes would hide a dead letter."""
    client.append(SHARD, [span_request(*(f"span {number}" for number in range(40)), padding=100)])
    bodies: dict[str, bytes] = {}
    for limit in (1024, 2048, 1024):
        sender = ScriptedSender(
            lambda body: Retry("UNAVAILABLE", "") if "span 39" in span_names([body]) else Delivered()
        )
        with pipeline(client, sender, destination(max_request_bytes=limit)):
            until(lambda sender=sender: "span 39" in span_names(sender.bodies))
        for name, body in zip(sender.ids, sender.bodies, strict=True):
            assert bodies.setdefault(name, body) == body
