"""What the shipper's status says about a log."""

from __future__ import annotations

import io
import json

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console

from comet_otel.streams import LOGS, TRACES
from comet_storage import Client, Consumer
from shipper.errors import EnvironmentFailedError
from shipper.status import read_status, to_json
from shipper.status_socket import StatusSocket
from shipper.status_table import age_text, size_text, status_view
from tests.support.observations import observation, report


@pytest.fixture
def log(tmp_path) -> Client:
    """Return an open log with two streams, of which one has been read in part."""
    with Client(tmp_path / "log") as client:
        client.append(f"{TRACES}:shard:0000", [b"a" * 100] * 10)
        client.append(f"{TRACES}:shard:0001", [b"b" * 100] * 5)
        client.append(f"{LOGS}:shard:0000", [b"c" * 100])
        client.append("deadletter:v1:shard:0000", [b"not telemetry"])
        with Consumer(client, "shipper", stream=TRACES) as consumer:
            messages = consumer.read(shards=[0], count=7)
            consumer.ack(*[message.id for message in messages])
        yield client


def test_pending_delivered_and_age_are_told_per_group(log, tmp_path) -> None:
    """While the log is open elsewhere; a stream that nobody reads waits as a whole."""
    status = read_status(tmp_path / "log")
    traces, logs = status.groups
    assert (traces.signal, traces.group, traces.pending, traces.delivered) == ("traces", "shipper", 8, 7)
    assert 0 < traces.pending_bytes < 5000
    assert 0 <= traces.oldest_age_seconds < 60
    assert (logs.signal, logs.group, logs.pending, logs.delivered) == ("logs", None, 1, 0)
    assert status.bytes_on_disk > 0


def test_the_oldest_age_is_that_of_the_first_pending_entry(log, tmp_path, monkeypatch) -> None:
    """Not that of the oldest entry held, which may have been delivered long ago."""
    timestamps = [message.timestamp for message in log.scan(f"{TRACES}:shard:0000")]
    log.append(f"{TRACES}:shard:0000", [b"later"])
    with Consumer(log, "shipper", stream=TRACES) as consumer:
        consumer.ack(*[message.id for message in consumer.read(count=15) if message.data != b"later"])
    newest = [message.timestamp for message in log.scan(f"{TRACES}:shard:0000")][-1]
    assert newest > timestamps[-1]
    monkeypatch.setattr("shipper.status.time.time", lambda: newest / 1e9 + 100)
    traces, _ = read_status(tmp_path / "log").groups
    assert traces.pending == 1
    assert traces.oldest_age_seconds == pytest.approx(100, abs=0.001)


def test_nothing_pending_has_no_age(log, tmp_path) -> None:
    """Not an age of zero, which would be news."""
    with Consumer(log, "shipper", stream=LOGS) as consumer:
        consumer.ack(*[message.id for message in consumer.read()])
    logs = read_status(tmp_path / "log").groups[1]
    assert (logs.pending, logs.pending_bytes, logs.oldest_age_seconds) == (0, 0, None)


def test_status_changes_nothing(log, tmp_path) -> None:
    """Neither groups nor files."""
    before = sorted(tmp_path.rglob("*"))
    read_status(tmp_path / "log")
    assert sorted(tmp_path.rglob("*")) == before
    assert log.groups(LOGS) == []


def test_a_missing_log_is_an_error_of_the_environment(tmp_path) -> None:
    """With a message that says where it was looked for."""
    with pytest.raises(EnvironmentFailedError, match=str(tmp_path / "none")):
        read_status(tmp_path / "none")


def test_programs_get_json_and_people_a_table(log, tmp_path) -> None:
    """Both with the same numbers; the table fits a terminal of 80 columns."""
    status = read_status(tmp_path / "log")
    parsed = json.loads(to_json(status))
    assert parsed["groups"][0]["pending"] == 8
    assert parsed["groups"][0]["evicted"] == 0
    shown = printed(status)
    assert "(shipper)" in shown
    assert "(none yet)" in shown
    assert "no shipper runs" in shown
    assert "\u2026" not in shown


def printed(status) -> str:
    """Return what people see on a terminal of 80 columns."""
    output = io.StringIO()
    Console(file=output, width=80).print(status_view(status), highlight=False, soft_wrap=True)
    return output.getvalue()


def test_what_a_running_shipper_says_stands_beside_what_the_log_says(log, tmp_path) -> None:
    """State and reason, rates, the time until it is empty, the last success, and what was not delivered."""
    told = observation(
        report(state="paused", reason="UNAUTHENTICATED: token expired", entries_per_second=4.0, seconds_to_empty=2.0),
        report(stream=LOGS, signal="logs", state="delivering", bytes_per_second=2048.0, rejected_items=3),
    )
    socket = StatusSocket(tmp_path / "log", told.as_json)
    try:
        status = read_status(tmp_path / "log")
    finally:
        socket.close()
    traces, logs = status.groups
    assert (traces.state, traces.destination, traces.shippers) == ("paused", "central", (told.pid,))
    assert (traces.entries_per_second, traces.seconds_to_empty) == (4.0, 2.0)
    assert (logs.group, logs.state) == (None, "no shipper"), "what a shipper says of another group is not this one's"
    assert "paused: UNAUTHENTICATED: token expired" in printed(status)
    assert read_status(tmp_path / "log").shippers == ()


def test_of_several_shippers_the_one_that_delivers_is_shown(log, tmp_path) -> None:
    """The one that stands by is listed, but its state is not the group's."""
    sockets = [
        StatusSocket(tmp_path / "log", observation(report(state=state), pid=pid).as_json)
        for pid, state in ((11, "standby"), (12, "delivering"), (13, "standby"))
    ]
    status = read_status(tmp_path / "log")
    for socket in sockets:
        socket.close()
    assert (status.groups[0].state, set(status.groups[0].shippers)) == ("delivering", {11, 12, 13})


def test_waiting_items_are_counted_and_of_a_long_backlog_estimated(tmp_path) -> None:
    """An entry may hold many spans; where a thousand entries wait, a sample stands for all of them."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for _ in range(3):
        spans.add(name="work")
    with Client(tmp_path / "log") as client:
        client.append(f"{TRACES}:shard:0000", [request.SerializeToString()] * 10)
        (group,) = read_status(tmp_path / "log").groups
        assert (group.pending, group.pending_items, group.pending_items_exact) == (10, 30, True)
        client.append(f"{TRACES}:shard:0000", [request.SerializeToString()] * 5000)
        (group,) = read_status(tmp_path / "log").groups
        assert (group.pending, group.pending_items, group.pending_items_exact) == (5010, 15030, False)
        client.append(f"{LOGS}:shard:0000", [b"\xff no request"])
        assert read_status(tmp_path / "log").groups[1].pending_items == 0


def test_losses_and_a_lag_over_its_limit_are_told(log, tmp_path) -> None:
    """In words, since that is what somebody looks for."""
    with Consumer(log, "shipper", stream=TRACES) as consumer:
        consumer.reset_offset(0, 9)
    log.protect_group(TRACES, "shipper", protect=False)
    status = read_status(tmp_path / "log")
    assert (status.groups[0].skipped, status.groups[0].protected, status.dead_letters) == (2, False, 1)
    shown = printed(status)
    assert "2 skipped" in shown
    assert "1 dead letters" in shown
    assert "not protected from retention" in shown


def test_a_socket_answers_also_where_the_path_is_long_and_vanishes_when_it_is_closed(tmp_path) -> None:
    """Addresses of sockets have a hundred characters; directories have more."""
    directory = tmp_path / ("long-" * 30) / "log"
    with Client(directory) as client:
        client.append(f"{TRACES}:shard:0000", [b"one"])
        client.register_group(TRACES, "shipper")
        socket = StatusSocket(directory, observation(report()).as_json)
        assert read_status(directory).groups[0].state == "idle"
        (path,) = directory.glob("shipper-*.sock")
        assert path.stat().st_mode & 0o777 == 0o600
        socket.close()
        assert list(directory.glob("shipper-*.sock")) == []
        assert read_status(directory).groups[0].state == "no shipper"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB"), (2**60, "1048576.0 TiB")],
)
def test_sizes_are_told_in_fitting_units(size, text) -> None:
    """Binary ones, as in the configuration."""
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90000, "1 d 1 h"), (1e7, "115 d 17 h")]
)
def test_ages_are_told_in_two_units(seconds, text) -> None:
    """Nobody needs the seconds of a week."""
    assert age_text(seconds) == text
