"""What the shipper's status says about a log."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from comet_otel.streams import LOGS, TRACES
from comet_storage import Client, Consumer
from shipper.errors import EnvironmentFailedError
from shipper.status import age_text, print_table, read_status, size_text, to_json


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
    output = io.StringIO()
    print_table(status, Console(file=output, width=80))
    assert "shipper" in output.getvalue()
    assert "(none yet)" in output.getvalue()
    assert "\u2026" not in output.getvalue()


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
