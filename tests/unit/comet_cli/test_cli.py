"""The commands that look at a log: what they say, and their exit codes."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import subprocess
import sys
from datetime import datetime, timezone

import pytest

from comet_cli import cli
from comet_otel.receiver.json_transcoder import transcode
from comet_otel.streams import LOGS, METRICS, TRACES, Signal
from comet_storage import Client, Consumer
from tests.support.comet_command import EVENTS, GROUP, dead_letter, fill_log, shard_of, store_letters
from tests.support.otlp_requests import trace_request
from tests.support.small_log import SHARD, crash, fill, flip, known_frames, open_small

COMMANDS = ("status", "ls", "tail", "export", "verify", "repair", "replay")
DEAD_LETTER_COMMANDS = ("list", "show", "export", "replay", "purge")


def test_the_command_is_registered() -> None:
    """Installing the distribution gives `comet`."""
    (entry_point,) = importlib.metadata.entry_points(group="console_scripts", name="comet")
    assert entry_point.load() is cli.main


@pytest.mark.parametrize(
    ("module", "name"),
    [("comet_cli", "comet"), ("shipper", "comet-shipper"), ("comet_otel.receiver", "comet-receiver")],
)
def test_each_command_says_which_release_it_is(module, name) -> None:
    """The version of the distribution."""
    said = subprocess.run([sys.executable, "-m", module, "--version"], check=True, capture_output=True, text=True)
    assert said.stdout == f"{name} {importlib.metadata.version('comet-otel')}\n"


@pytest.mark.parametrize("command", [(each,) for each in COMMANDS] + [("deadletter", e) for e in DEAD_LETTER_COMMANDS])
def test_help_has_examples_and_exit_codes(comet, command) -> None:
    """Of every command."""
    found = comet(*command, "--help")
    assert found.code == 0
    assert f"comet {' '.join(command)}" in found.text
    assert "Exit codes" in found.text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fly"], "No such command"),
        (["verify", "--colour"], "No such option"),
        (["ls", "no name"], "no name"),
        (["ls", "other:v1"], "the log has no stream other:v1; it has events:v1, logs:v1, metrics:v1, traces:v1"),
        (["export"], "STREAM"),
        (["export", "events:v1", "--format", "otlp-json"], "holds no telemetry"),
        (["export", "traces", "--since", "yesterday"], "--since is 'yesterday'"),
        (["replay", "traces", "--group", "shipper"], "either --since WHEN or --all"),
        (["replay", "traces", "--group", "none", "--all"], "has no group 'none'; it has shipper"),
        (["replay", "traces:v1:shard:0000", "--group", "shipper", "--all"], "is one shard"),
        (["deadletter", "list", "--signal", "smoke"], "--signal is 'smoke'"),
        (["deadletter", "show", "0-7"], "there is no dead letter 0-7"),
        (["deadletter", "show", "seven"], "invalid message id 'seven'"),
        (["deadletter", "export", "--format", "raw"], "--format is raw"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_names_what_is_wrong(comet, tmp_path, arguments, expected) -> None:
    """Without a traceback."""
    fill_log(tmp_path / "log")
    found = comet(*arguments)
    assert found.code == 2
    assert expected in " ".join(found.errors.replace("│", " ").split())
    assert "Traceback" not in found.errors


@pytest.mark.parametrize("command", [*((each,) for each in COMMANDS[:3]), ("verify",), ("deadletter", "list")])
def test_where_there_is_no_log_the_exit_code_is_3(comet, tmp_path, command) -> None:
    """And none is made; a file in its place is no log either."""
    found = comet(*command)
    assert (found.code, (tmp_path / "log").exists()) == (3, False)
    assert "there is no log in" in found.errors
    (tmp_path / "log").write_bytes(b"")
    assert comet(*command).code == 3


def test_without_a_directory_the_command_asks_for_one(comet) -> None:
    """An empty variable is none."""
    found = comet("ls", data_dir="")
    assert found.code == 2
    assert "set COMET_DATA_DIR" in found.errors


def test_ls_tells_of_every_shard(comet, tmp_path) -> None:
    """Its entries, size and age, and what each group has still to get."""
    fill_log(tmp_path / "log")
    found = {each["shard"]: each for each in comet("ls", "--json").answer}
    assert set(found) == {shard_of(TRACES), shard_of(METRICS), shard_of(LOGS), EVENTS}
    assert found[EVENTS]["entries"] == 2
    assert found[shard_of(TRACES)]["pending"] == {GROUP: 1}
    assert found[EVENTS]["bytes_on_disk"] >= 4096
    (traces,) = comet("ls", "traces", "--json").answer
    assert traces == found[shard_of(TRACES)]
    table = comet("ls").text
    assert EVENTS in table
    assert "shipper: 1 pending" in table


def test_status_tells_how_full_the_log_is_and_what_waits(comet, tmp_path) -> None:
    """For people and for programs."""
    fill_log(tmp_path / "log")
    assert "of at most 1.0 GiB" in comet("status").text
    found = comet("status", "--json").answer
    assert found["max_total_size"] == 1 << 30
    assert {each["stream"]: each["pending_items"] for each in found["groups"]} == {TRACES: 3, METRICS: 1, LOGS: 1}


def test_tail_shows_a_line_for_each_item_and_none_controls_the_terminal(comet, tmp_path) -> None:
    """Of every signal, of dead letters, and of entries of any kind; the newest last."""
    requests = fill_log(tmp_path / "log")
    store_letters(tmp_path / "log", dead_letter(1, requests[TRACES]))
    found = comet("tail")
    lines = found.text.splitlines()
    assert [line.split()[1] for line in lines] == [
        *["traces:v1"] * 3, "metrics:v1", "logs:v1", "events:v1", "events:v1", "deadletter:v1"
    ]  # fmt: skip
    assert "shop checkout 0 1.000 ms" in lines[0]
    assert "sales{} 7" in lines[3]
    assert "\\x1b[31m" in lines[5]
    assert "main traces HTTP 400: rejected: no \\x1b[31m" in lines[7]
    assert b"\x1b" not in found.output
    assert comet("tail", "-n", 1).text.splitlines() == lines[-1:]
    assert comet("tail", "-n", 0).text == ""


def test_tail_for_programs_is_what_export_writes(comet, tmp_path) -> None:
    """OTLP's JSON, a request per line."""
    requests = fill_log(tmp_path / "log")
    (line,) = comet("tail", "traces", "--json").text.splitlines()
    assert f"{line}\n" == comet("export", "traces").text
    assert transcode(Signal.TRACES, line.encode()) == requests[TRACES]


def test_export_writes_files_that_other_programs_read(comet, tmp_path) -> None:
    """Each format, whole or not at all; an existing file is not written over by accident."""
    requests = fill_log(tmp_path / "log")
    target = tmp_path / "traces.bin"
    assert comet("export", "traces", "--format", "otlp-proto", "-o", target).code == 0
    assert target.read_bytes() == len(requests[TRACES]).to_bytes(4, "big") + requests[TRACES]
    again = comet("export", "traces", "-o", target)
    assert (again.code, target.read_bytes()[4:]) == (2, requests[TRACES])
    assert comet("export", "traces", "-o", target, "--overwrite").code == 0
    assert transcode(Signal.TRACES, target.read_bytes()) == requests[TRACES]
    assert [path.name for path in tmp_path.glob("traces*")] == ["traces.bin"]
    lines = [json.loads(line) for line in comet("export", "events:v1").text.splitlines()]
    assert [base64.b64decode(line["data"]) for line in lines] == [b"a\x1b[31m", b"b"]
    assert [line["id"] for line in lines] == ["3-0", "3-1"]
    assert comet("export", "traces", "-o", tmp_path / "none" / "x").code == 3


def test_export_takes_a_span_of_time(comet, tmp_path) -> None:
    """From a time on, before another one, absolute or ago."""
    fill_log(tmp_path / "log")
    assert comet("export", "events:v1", "--since", "1h").text.count("\n") == 2
    assert comet("export", "events:v1", "--until", "1h").text == ""
    assert comet("export", "events:v1", "--since", "2001-01-01T00:00Z", "--until", "2001-01-02").text == ""


def test_export_leaves_out_what_is_no_telemetry_and_says_so(comet, tmp_path) -> None:
    """The rest is written; the answer is no."""
    requests = fill_log(tmp_path / "log")
    with Client(tmp_path / "log") as client:
        client.append(shard_of(TRACES), [b"\xff\xff\xff"])
    found = comet("export", "traces")
    assert found.code == 1
    assert transcode(Signal.TRACES, found.output) == requests[TRACES]
    assert "traces:v1:shard:0000 0-1: no request of traces" in found.errors
    assert "1 entries written" in found.errors


def test_verify_finds_damage_and_names_the_numbers(comet, tmp_path) -> None:
    """With exit code 1; a whole log is 0."""
    with open_small(tmp_path / "log") as client:
        fill(client, [3, 4, 5])
    assert comet("verify").code == 0
    damaged = known_frames(tmp_path / "log")[1]
    flip(damaged.path, damaged.offset + 40, 1)
    found = comet("verify")
    assert found.code == 1
    assert f"{SHARD}: DAMAGED: 4 entries; 8 entries of" in found.text
    assert "entries 3 to 6 (4): DAMAGED on the disk" in found.text
    (answer,) = comet("verify", "--json").answer
    assert answer["missing"] == [{"first": 3, "last": 6, "reason": "corrupt"}]
    assert comet("verify", "small:v1").code == 1


def test_repair_puts_in_order_what_a_crash_left_and_leaves_writers_alone(comet, tmp_path) -> None:
    """Exit code 1 while a process writes a shard."""
    client = open_small(tmp_path / "log")
    fill(client, [10])
    refused = comet("repair")
    assert refused.code == 1
    assert SHARD in refused.errors
    crash(client)
    mended = comet("repair")
    assert (mended.code, "1 shards are in order" in mended.errors) == (0, True)
    assert comet("verify").code == 0


def test_replay_has_a_group_get_again_what_it_had(comet, tmp_path) -> None:
    """From a time on, or all; never forwards; a dry run changes nothing."""
    data_dir = tmp_path / "log"
    fill_log(data_dir)
    with Client(data_dir) as client, Consumer(client, GROUP, stream=TRACES) as consumer:
        consumer.ack(*[message.id for message in consumer.read()])
    since = datetime.now(timezone.utc).isoformat()
    with Client(data_dir) as client, Consumer(client, GROUP, stream=TRACES) as consumer:
        client.append(shard_of(TRACES), [trace_request()] * 2)
        consumer.ack(*[message.id for message in consumer.read()])

    def pending() -> int:
        with Client(data_dir, read_only=True) as client:
            return client.accounting(TRACES, GROUP).pending

    assert comet("replay", "traces", "--group", GROUP, "--all", "--dry-run").text.endswith("from entry 3 back to 0\n")
    assert pending() == 0
    assert comet("replay", "traces", "--group", GROUP, "--since", "0s").text == ""
    assert comet("replay", "traces", "--group", GROUP, "--since", since).code == 0
    assert pending() == 2
    assert "at most 1 entries are" in comet("replay", "traces", "--group", GROUP, "--all").errors
    assert pending() == 3
    assert comet("replay", "traces", "--group", GROUP, "--since", "0s").code == 0
    assert pending() == 3


def test_replay_leaves_alone_what_a_running_shipper_holds(comet, tmp_path) -> None:
    """It says so, and the answer is no."""
    data_dir = tmp_path / "log"
    fill_log(data_dir)
    with Client(data_dir) as client, Consumer(client, GROUP, stream=TRACES) as consumer:
        consumer.ack(*[message.id for message in consumer.read()])
        found = comet("replay", "traces", "--group", GROUP, "--all")
        assert (found.code, "another consumer of 'shipper' has it" in found.errors) == (1, True)
        assert consumer.lag(0) == 0
