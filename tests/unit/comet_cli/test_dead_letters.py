"""Dead letters: told of, written to files, sent on their way again once, deleted."""

from __future__ import annotations

import io
import json

import pytest

from comet_otel.receiver.json_transcoder import transcode
from comet_otel.streams import TRACES, Signal
from comet_storage import Client, Consumer
from tests.support.comet_command import dead_letter, fill_log, shard_of, store_letters
from tests.support.otlp_requests import trace_request


@pytest.fixture
def letters(tmp_path) -> list[bytes]:
    """A log with three dead letters; returns their requests."""
    fill_log(tmp_path / "log")
    bodies = [trace_request(name=f"refused {number}") for number in range(3)]
    store_letters(
        tmp_path / "log",
        dead_letter(0, bodies[0]),
        dead_letter(1, bodies[1], code="HTTP 413", reason="too large"),
        dead_letter(2, bodies[2], destination="other"),
    )
    return bodies


def delivered_again(tmp_path) -> list[bytes]:
    """What was appended to the traces since the log was filled."""
    with Client(tmp_path / "log", read_only=True) as client:
        return [m.data for shard in client.shards(TRACES) for m in client.scan(f"{TRACES}:shard:{shard:04d}")][1:]


def test_the_list_tells_who_refused_what_and_why(comet, letters) -> None:
    """A line each, then how many of each kind; nothing in it controls a terminal."""
    found = comet("deadletter", "list")
    assert [line.split()[0] for line in found.text.splitlines()] == ["0-0", "0-1", "0-2"]
    assert "2023-11-14T22:13:21.000Z main traces 3 items" in found.text
    assert "too large: HTTP 413: no \\x1b[31m" in found.text
    assert "1 x main traces too large HTTP 413" in found.errors
    answer = comet("deadletter", "list", "--json").answer
    assert [each["bytes"] for each in answer] == list(map(len, letters))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--destination", "other"], ["0-2"]),
        (["--code", "HTTP 413"], ["0-1"]),
        (["--signal", "logs"], []),
        (["--since", "2023-11-14T22:13:22Z"], ["0-2"]),
        (["--destination", "main", "--signal", "traces"], ["0-0", "0-1"]),
    ],
)
def test_options_say_which_are_meant(comet, letters, options, expected) -> None:
    """All of them must hold."""
    assert [each["id"] for each in comet("deadletter", "list", "--json", *options).answer] == expected


def test_one_is_shown_whole(comet, letters) -> None:
    """Its facts and its request, also one that is no telemetry."""
    found = comet("deadletter", "show", "0-1").answer
    assert (found["code"], found["first_entry"]) == ("HTTP 413", 1)
    assert transcode(Signal.TRACES, json.dumps(found["request"]).encode()) == letters[1]


def test_a_request_that_is_no_telemetry_is_shown_in_hex_and_left_out_of_exports(comet, letters, tmp_path) -> None:
    """The export says so."""
    store_letters(tmp_path / "log", dead_letter(3, b"\xff\xff"))
    assert comet("deadletter", "show", "0-3").answer["request"] == {"hex": "ffff"}
    found = comet("deadletter", "export")
    assert (found.code, found.text.count("\n")) == (1, 3)
    assert "dead letter 0-3: no request of traces" in found.errors


def test_they_are_written_as_telemetry_is(comet, letters, tmp_path) -> None:
    """To a file in either of OpenTelemetry's formats."""
    target = tmp_path / "refused.bin"
    assert comet("deadletter", "export", "--format", "otlp-proto", "-o", target).code == 0
    assert target.read_bytes() == b"".join(len(body).to_bytes(4, "big") + body for body in letters)
    lines = comet("deadletter", "export", "--destination", "other").output.splitlines()
    assert [transcode(Signal.TRACES, line) for line in lines] == letters[2:]


def test_each_is_sent_on_its_way_again_once(comet, letters, tmp_path) -> None:
    """Those that are meant, byte for byte; the dead letters themselves stay until they are deleted."""
    dry = comet("deadletter", "replay", "--dry-run")
    assert "3 requests with 9 items would be on their way again" in dry.errors
    assert delivered_again(tmp_path) == []
    assert comet("deadletter", "replay", "--code", "HTTP 413").code == 0
    assert delivered_again(tmp_path) == letters[1:2]
    assert "2 requests" in comet("deadletter", "replay").errors
    assert "0 requests" in comet("deadletter", "replay").errors
    assert sorted(delivered_again(tmp_path)) == sorted(letters)
    assert len(comet("deadletter", "list", "--json").answer) == 3


def test_a_request_in_two_records_is_sent_as_one_and_a_single_half_never(comet, letters, tmp_path) -> None:
    """The other half of one may have been deleted to keep the dead letters within their share."""
    whole = trace_request(5)
    store_letters(
        tmp_path / "log",
        dead_letter(3, whole[40:], fragment="2/2", request_id="older"),
        dead_letter(4, whole[:50], fragment="1/2"),
        dead_letter(4, whole[50:], fragment="2/2"),
    )
    assert comet("deadletter", "show", "0-5").answer["bytes"] == len(whole)
    assert comet("deadletter", "replay").code == 0
    assert sorted(delivered_again(tmp_path)) == sorted([*letters, whole])


def test_only_one_replay_runs_at_a_time(comet, letters, tmp_path) -> None:
    """The other one says so, and appends nothing."""
    assert comet("deadletter", "replay", "--code", "none").code == 0
    with Client(tmp_path / "log") as client, Consumer(client, "replay", stream="deadletter:v1") as consumer:
        assert consumer.position(0) is not None
        found = comet("deadletter", "replay")
    assert (found.code, "is being replayed by another process" in found.errors) == (3, True)
    assert delivered_again(tmp_path) == []


def test_they_are_deleted_when_that_is_asked_for(comet, letters, tmp_path, monkeypatch) -> None:
    """Not without a yes."""
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert comet("deadletter", "purge").code == 1
    assert len(comet("deadletter", "list", "--json").answer) == 3
    assert "3 dead letters deleted, 0 left" in comet("deadletter", "purge", "--yes").errors
    assert comet("deadletter", "list", "--json").answer == []
    assert comet("verify").code == 0
    with Client(tmp_path / "log") as client:
        assert client.append(shard_of("deadletter:v1"), [b"next"])[0].entry_number == 3


def test_a_log_without_any_is_told_of(comet, tmp_path) -> None:
    """By every command, without an error."""
    fill_log(tmp_path / "log")
    for command in ("list", "replay", "export", "purge"):
        assert comet("deadletter", command).code == 0
