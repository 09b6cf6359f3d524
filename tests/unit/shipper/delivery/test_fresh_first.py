"""What is exported now goes before the backlog, and nothing is left behind."""

from __future__ import annotations

import threading
import time

import pytest

from comet_storage import Client, Consumer
from shipper.outcome import Delivered, Outcome, Retry
from shipper.settings import PacingConfig
from tests.support.delivery import (
    GROUP,
    InlineCrew,
    ManualClock,
    ScriptedSender,
    destination,
    drain,
    pipeline,
    span_names,
    span_request,
)

MIB = 2**20
CAP = 2 * MIB
ENTRY_BYTES = 100_000


class Exporting(ManualClock):
    """Time in which an application exports a span every tenth of a second, for some seconds."""

    def __init__(self, client: Client, seconds: float) -> None:
        super().__init__()
        self.client = client
        self.end = self.now + seconds
        self.exported: dict[str, float] = {}

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Let time pass in small steps."""
        while seconds > 0 and not event.is_set():
            step = min(seconds, 0.1)
            super().wait(event, step)
            seconds -= step
            if self.now < self.end:
                self.export()

    def export(self) -> None:
        """Append a span."""
        name = f"fresh {len(self.exported)}"
        self.exported[name] = self.now
        self.client.append(f"traces:v1:shard:{len(self.exported) % 2:04d}", [span_request(name)])


def backlog(client: Client, size: int) -> list[str]:
    """Append a backlog of that many bytes to two shards."""
    names = [f"old {number}" for number in range(size // ENTRY_BYTES)]
    for number, name in enumerate(names):
        client.append(f"traces:v1:shard:{number % 2:04d}", [span_request(name, padding=ENTRY_BYTES)])
    return names


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of the values do not exceed."""
    return sorted(values)[int(share * (len(values) - 1))]


def test_new_spans_arrive_within_seconds_while_the_backlog_drains_at_the_limit(client) -> None:
    """The backlog arrives whole, within the limit, and the accounting adds up."""
    old = backlog(client, 64 * MIB)
    clock = Exporting(client, 30.0)
    begun = clock.now
    arrived: dict[str, float] = {}

    def answer(body: bytes) -> Outcome:
        for name in span_names([body]):
            assert name not in arrived
            arrived[name] = clock.now
        return Delivered()

    config = destination(
        order="fresh-first", pacing=PacingConfig(max_bytes_per_second=CAP, slow_start=False), max_request_wait=0.2
    )
    sender = ScriptedSender(answer)
    drain(client, sender, config, clock=clock, crew=InlineCrew())
    assert set(arrived) == {*old, *clock.exported}
    delays = [arrived[name] - at for name, at in clock.exported.items()]
    assert percentile(delays, 0.95) <= 5.0
    assert max(arrived[name] for name in old) > clock.end
    assert sum(map(len, sender.bodies)) / (clock.now - begun) <= CAP * 1.05
    total = client.accounting("traces:v1", GROUP)
    assert (total.delivered, total.pending) == (len(arrived), 0)


def test_oldest_first_would_not_have_done(client) -> None:
    """The same load in the other order: new spans wait behind the backlog, so the test above can fail."""
    backlog(client, 32 * MIB)
    clock = Exporting(client, 5.0)
    arrived: dict[str, float] = {}

    def answer(body: bytes) -> Outcome:
        arrived.update(dict.fromkeys(span_names([body]), clock.now))
        return Delivered()

    config = destination(pacing=PacingConfig(max_bytes_per_second=CAP, slow_start=False))
    drain(client, ScriptedSender(answer), config, clock=clock, crew=InlineCrew())
    delays = [arrived[name] - at for name, at in clock.exported.items()]
    assert percentile(delays, 0.95) > 10.0


def test_each_outage_leaves_one_more_stretch_and_all_of_them_arrive(client) -> None:
    """What was exported while the destination was away is a backlog too, behind what comes now."""
    offline = threading.Event()
    names: list[str] = []

    def export(count: int, padding: int) -> None:
        for _ in range(count):
            names.append(f"span {len(names)}")
            client.append("traces:v1:shard:0000", [span_request(names[-1], padding=padding)])

    export(50, 10_000)
    sender = ScriptedSender(lambda _: Retry("UNAVAILABLE", "") if offline.is_set() else Delivered())
    config = destination(order="fresh-first", max_request_bytes=50_000)
    with pipeline(client, sender, config) as made:
        for _ in range(3):
            export(5, 10)
            wait_for(lambda: names[-1] in span_names(sender.delivered))
            offline.set()
            export(40, 10_000)
            tries = made.state().retried_requests
            wait_for(lambda tries=tries: made.state().retried_requests > tries)
            offline.clear()
        wait_for(lambda: client.accounting("traces:v1", GROUP).pending == 0)
    assert sorted(span_names(sender.delivered)) == sorted(names)


def test_a_crash_in_the_middle_costs_duplicates_at_most(client) -> None:
    """A new pipeline goes on from what was acknowledged, above the offset as well."""
    names = backlog(client, 4 * MIB)
    count = [0]

    def answer(_: bytes) -> Outcome:
        count[0] += 1
        return Delivered() if count[0] < 15 else Retry("UNAVAILABLE", "")

    config = destination(order="fresh-first", max_request_bytes=150_000)
    first = ScriptedSender(answer)
    with pipeline(client, first, config):
        wait_for(lambda: count[0] >= 15)
        client.append("traces:v1:shard:0000", [span_request("new")])
    second = ScriptedSender()
    drain(client, second, config)
    arrived = span_names(first.delivered) + span_names(second.delivered)
    assert sorted(arrived) == sorted([*names, "new"])


def test_a_damaged_stretch_in_the_backlog_is_counted_once(client, tmp_path) -> None:
    """Numbers that nobody can read are corrupt, and not delivered, whichever cursor passes them."""
    backlog(client, 2 * MIB)
    client.sync()
    (segment, *_) = sorted((tmp_path / "log" / "traces" / "v1" / "shard-0000").glob("*.log")) or [None]
    if segment is None:
        (segment, *_) = sorted(
            path for path in (tmp_path / "log" / "traces" / "v1" / "shard-0000").iterdir() if path.name[:20].isdigit()
        )
    data = bytearray(segment.read_bytes())
    at = data.find(b"old 8")
    if at < 0:
        at = 2000  # compressed: any byte in the middle of a frame
    data[at] ^= 0xFF
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(data[at : at + 1])
    config = destination(order="fresh-first", max_request_bytes=300_000)
    with Consumer(client, GROUP, stream="traces:v1"):
        pass
    drain(client, ScriptedSender(), config)
    total = client.accounting("traces:v1", GROUP)
    assert total.corrupt >= 1
    assert total.delivered + total.corrupt == total.total
    assert total.pending == 0


def wait_for(condition) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


@pytest.mark.parametrize("shorter", ["RECENT_SECONDS", "FRESH_SECONDS"])
def test_what_came_just_before_the_shipper_goes_before_the_backlog_too(client, monkeypatch, shorter) -> None:
    """It may have been exported while one shipper took over from another.

    Also where what came just before that is too much to be fresh, and is left to the backlog.
    """
    monkeypatch.setattr(f"shipper.delivery.lines.{shorter}", 0.5)
    old = backlog(client, 4 * MIB)
    aged = time.monotonic() + 0.6
    while time.monotonic() < aged:
        time.sleep(0.01)
    recent = [f"recent {number}" for number in range(4)]
    for number, name in enumerate(recent):
        client.append(f"traces:v1:shard:{number % 2:04d}", [span_request(name)])
    sender = ScriptedSender()
    drain(client, sender, destination(order="fresh-first", max_request_bytes=MIB))
    names = span_names(sender.bodies)
    assert sorted(names) == sorted([*old, *recent])
    assert set(names[: len(recent)]) == set(recent)
    total = client.accounting("traces:v1", GROUP)
    assert (total.delivered, total.pending) == (len(names), 0)
