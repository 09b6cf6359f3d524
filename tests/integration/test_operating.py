"""What operators do with a running shipper: ask it, reload it, give it several destinations, start a second one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from demo.processes import HOST, Child, free_port, wait_until
from shipper.status import read_status, to_json
from tests.integration.node import Node

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and body of the shipper's answer; status 0 while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def status_of(data_dir: Path) -> dict:
    """Return what `comet-shipper status --json` says."""
    return json.loads(to_json(read_status(data_dir)))


def write_settings(
    file: Path,
    node: Node,
    destinations: Mapping[str, Node | int],
    top: str = "",
    of_one: Mapping[str, str] | None = None,
) -> Path:
    """Write a file of settings with destinations at the nodes' collectors, or at ports, some with a setting more."""
    parts = [f'data_dir = "{node.data}"\n{top}\n']
    for name, where in destinations.items():
        port = where if isinstance(where, int) else where.grpc_port
        more = (of_one or {}).get(name, "")
        parts.append(f'[destination.{name}]\nendpoint = "http://{HOST}:{port}"\n{more}\n')
        parts.append(f"[destination.{name}.retry]\nlongest = 0.5\n")
    file.write_text("".join(parts))
    return file


def end_of_application(node: Node, rounds: int) -> None:
    """Fill the log."""
    application = node.start_application(rounds=rounds)
    wait_until(lambda: not application.alive(), "end of the application")


def said(shipper: Child, text: str) -> bool:
    """Tell whether the shipper has written a line with this text."""
    return text in shipper.output.read_text()


def test_a_dead_destination_neither_blocks_nor_doubles_the_others_and_the_status_says_so(node, tmp_path) -> None:
    """Each has its own place in the log, state and reason; when the dead one is back, it gets everything once."""
    late = node.another("late")
    node.start_collector()
    settings = write_settings(tmp_path / "shipper.toml", node, {"central": node, "late": late})
    shipper = node.start_configured_shipper(settings)
    end_of_application(node, 100)
    node.wait_until_drained(shipper, "shipper-central")
    node.assert_nothing_lost()
    assert all(found.pending == found.total > 0 for found in node.accounting("shipper-late").values())

    def groups() -> dict[tuple[str, str], dict]:
        return {(each["signal"], each["group"]): each for each in status_of(node.data)["groups"]}

    wait_until(lambda: groups()["traces", "shipper-late"]["state"] == "retrying", "state", shipper)
    found = groups()
    good, bad = found["traces", "shipper-central"], found["traces", "shipper-late"]
    assert (good["destination"], good["shippers"], good["pending"]) == ("central", [shipper.pid], 0)
    assert good["state"] in {"idle", "delivering"}
    assert good["last_success"] > 0
    assert (bad["pending_items"], bad["pending_items_exact"]) == (100, True)
    assert "UNAVAILABLE" in bad["reason"]
    assert bad["last_success"] is None
    assert bad["oldest_age_seconds"] > 0

    late.start_collector()
    node.wait_until_drained(shipper, "shipper-late")
    assert shipper.stop() == 0
    node.assert_nothing_lost()
    late.assert_nothing_lost()
    assert list(node.data.glob("*.sock")) == []
    after = status_of(node.data)
    assert after["shippers"] == []
    assert {each["state"] for each in after["groups"]} == {"no shipper"}


def test_reloads_in_the_middle_of_delivery_lose_and_double_nothing(node, tmp_path) -> None:
    """Neither for a destination that changes while it delivers, nor for one that moves, nor for one that stays."""
    moved, changed = node.another("moved"), node.another("changed")
    for each in (node, moved, changed):
        each.start_collector("--work-seconds", "0.02")
    file = tmp_path / "shipper.toml"
    begin = {"stays": node, "changes": changed, "moves": free_port()}
    shipper = node.start_configured_shipper(write_settings(file, node, begin))
    application = node.start_application()
    changed.wait_until_received(3, shipper)
    for number in range(3):
        write_settings(file, node, {**begin, "moves": moved}, of_one={"changes": f"window = {number + 1}"})
        os.kill(shipper.pid, signal.SIGHUP)
        wait_until(lambda n=number: shipper.output.read_text().count('again",') > n, "reload", shipper)
        changed.wait_until_received(3, shipper)
    moved.wait_until_received(3, shipper)
    assert application.stop() == 0
    for name in begin:
        node.wait_until_drained(shipper, f"shipper-{name}")
    assert shipper.stop() == 0
    for each in (node, moved, changed):
        each.assert_nothing_lost()


def test_an_invalid_new_file_keeps_the_old_settings_and_says_so(node, tmp_path) -> None:
    """In the log, in the status, and in the metrics, until a right one is read."""
    node.start_collector()
    file, port = tmp_path / "shipper.toml", free_port()
    top = f'listen = "{port}"'
    shipper = node.start_configured_shipper(write_settings(file, node, {"central": node}, top))
    end_of_application(node, 20)
    node.wait_until_drained(shipper, "shipper-central")
    write_settings(file, node, {"central": node}, top, {"central": "windoww = 3"})
    os.kill(shipper.pid, signal.SIGHUP)
    wait_until(lambda: said(shipper, "did you mean 'window'?"), "complaint", shipper)
    assert "comet_shipper_configuration_ok 0.0" in ask(port, "/metrics")[1]
    assert "windoww" in status_of(node.data)["shippers"][0]["configuration_error"]
    end_of_application(node, 20)
    node.wait_until_drained(shipper, "shipper-central")
    write_settings(file, node, {"central": node}, f'{top}\nlog_format = "text"', {"central": "window = 3"})
    os.kill(shipper.pid, signal.SIGHUP)
    wait_until(lambda: "comet_shipper_configuration_ok 1.0" in ask(port, "/metrics")[1], "recovery", shipper)
    assert status_of(node.data)["shippers"][0]["configuration_error"] == ""
    assert shipper.stop() == 0
    node.assert_nothing_lost()


def test_health_readiness_and_metrics_tell_how_it_goes(node, tmp_path) -> None:
    """Readiness says why telemetry does not flow; metrics count what flowed, by OpenTelemetry's names."""
    port = free_port()
    settings = write_settings(tmp_path / "shipper.toml", node, {"central": node}, f"listen = {port}")
    shipper = node.start_configured_shipper(settings)
    wait_until(lambda: ask(port, "/healthz") == (200, "ok\n"), "health", shipper)
    assert ask(port, "/readyz") == (503, ask(port, "/readyz")[1])
    assert "there is no log" in ask(port, "/readyz")[1]
    end_of_application(node, 50)
    wait_until(lambda: "retrying: UNAVAILABLE" in ask(port, "/readyz")[1], "reason", shipper)
    assert ask(port, "/healthz")[0] == 200
    node.start_collector()
    node.wait_until_drained(shipper, "shipper-central")
    wait_until(lambda: ask(port, "/readyz")[0] == 200, "readiness", shipper)
    assert json.loads(ask(port, "/readyz")[1]) == {"ready": True, "reasons": []}
    metrics = ask(port, "/metrics")[1].splitlines()
    labels = (
        'otel_component_name="central/traces:v1",otel_component_type="otlp_grpc_span_exporter",'
        f'server_address="{HOST}",server_port="{node.grpc_port}"'
    )
    assert f'otel_sdk_exporter_span_exported_total{{error_type="",{labels}}} 50.0' in [
        line if "{" not in line else sorted_labels(line) for line in metrics
    ]
    assert any(line.startswith("otel_sdk_exporter_operation_duration_seconds_count") for line in metrics)
    place = 'destination="central",signal="traces",stream="traces:v1"'
    assert f"comet_shipper_pending_entries{{{place}}} 0.0" in metrics
    assert f"comet_shipper_lag_protected{{{place}}} 1.0" in metrics
    assert any(
        line.startswith('comet_shipper_entries_total{destination="central",outcome="lost"')
        for line in map(sorted_labels, metrics)
    )
    assert ask(port, "/other")[0] == 404
    assert shipper.stop() == 0


def sorted_labels(line: str) -> str:
    """Return a line of metrics with its labels in the order of their names."""
    name, brace, rest = line.partition("{")
    labels, end, value = rest.rpartition("}")
    return f"{name}{brace}{','.join(sorted(labels.split(',')))}{end}{value}" if brace else line


def test_a_second_shipper_stands_by_in_its_status_and_takes_over(node) -> None:
    """The status shows who delivers; readiness of the one that stands by is fine."""
    application = node.start_application()
    node.start_collector()
    port = free_port()
    first = node.start_shipper()
    node.wait_until_received(5, first)
    second = node.start_shipper("--listen", str(port))
    wait_until(lambda: said(second, "standing by"), "stand-by", second)
    wait_until(lambda: ask(port, "/readyz")[0] == 200, "readiness", second)
    shown = {each["signal"]: each for each in status_of(node.data)["groups"]}["traces"]
    assert set(shown["shippers"]) == {first.pid, second.pid}
    assert shown["state"] in {"idle", "delivering"}
    first.kill()
    node.wait_until_received(10, second)
    # What the killed one left behind is no obstacle, and the next that starts removes it.
    assert [each["pid"] for each in status_of(node.data)["shippers"]] == [second.pid]
    assert len(list(node.data.glob("*.sock"))) == 2
    third = node.start_shipper()
    wait_until(lambda: len(status_of(node.data)["shippers"]) == 2, "third shipper in the status", third)
    assert len(list(node.data.glob("*.sock"))) == 2
    assert third.stop() == 0
    assert application.stop() == 0
    node.wait_until_drained(second)
    assert second.stop() == 0
    node.assert_nothing_lost(duplicates=True)


def test_an_assignment_shares_the_shards(node) -> None:
    """Two shippers with halves of the shards deliver everything, once, and neither takes what is the other's."""
    applications = [node.start_application() for _ in range(2)]
    node.start_collector()
    one = node.start_shipper("--assignment", "0/2")
    node.wait_until_received(5, one)
    other = node.start_shipper("--assignment", "1/2")
    node.wait_until_received(10, other)
    for application in applications:
        assert application.stop() == 0
    wait_until(lambda: all(found.pending == 0 for found in node.accounting().values()), "empty backlog", one)
    assert one.stop() == 0
    assert other.stop() == 0
    assert "delivered" in one.last_words()
    assert "delivered" in other.last_words()
    node.assert_nothing_lost()


def test_systemd_is_told_of_start_reload_life_and_stop(node, tmp_path) -> None:
    """By datagrams to the socket that it names; the watchdog is fed while the main loop goes round."""
    node.start_collector()
    end_of_application(node, 10)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        settings = write_settings(tmp_path / "shipper.toml", node, {"central": node})
        shipper = node.start_configured_shipper(
            settings, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="3000000"
        )
        heard: list[str] = []

        def hear(beginning: str) -> str:
            while not any(message.startswith(beginning) for message in heard):
                heard.append(manager.recv(4096).decode())
            found = next(message for message in heard if message.startswith(beginning))
            heard.clear()
            return found

        hear("READY=1")
        hear("STATUS=delivering")
        hear("WATCHDOG=1")
        hear("WATCHDOG=1")
        os.kill(shipper.pid, signal.SIGHUP)
        assert "MONOTONIC_USEC=" in hear("RELOADING=1")
        hear("READY=1")
        os.kill(shipper.pid, signal.SIGTERM)
        hear("STOPPING=1")
    assert shipper.stop() == 0


def test_log_lines_are_json_where_nobody_reads_them_and_text_where_asked_for(node) -> None:
    """Each JSON line is an object with time, level and message. A hang-up without a file to read changes nothing."""
    shippers = [node.start_shipper(), node.start_shipper("--log-format", "text")]
    for shipper in shippers:
        wait_until(lambda s=shipper: said(s, "waiting for a log"), "line about waiting", shipper)
        os.kill(shipper.pid, signal.SIGHUP)
        wait_until(lambda s=shipper: said(s, "there is no configuration file"), "line about the file", shipper)
        assert shipper.stop() == 0
    lines = [json.loads(line) for line in shippers[0].output.read_text().splitlines()]
    assert all({"time", "level", "message"} <= set(line) for line in lines)
    assert lines[-1]["message"] == "stopped: a signal came"
    assert " INFO stopped: a signal came" in shippers[1].last_words()


def test_systemd_is_not_told_of_an_end_when_the_log_is_replaced(node, tmp_path) -> None:
    """It would kill the shipper after a while, which only waits for the next log."""
    node.start_collector()
    end_of_application(node, 10)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        settings = write_settings(tmp_path / "shipper.toml", node, {"central": node})
        shipper = node.start_configured_shipper(settings, NOTIFY_SOCKET=str(tmp_path / "notify"))
        heard = [""]
        while heard[-1] != "STATUS=delivering":
            heard.append(manager.recv(4096).decode())
        shutil.rmtree(node.data)
        while not heard[-1].startswith("STATUS=waiting for a log"):
            heard.append(manager.recv(4096).decode())
        assert "STOPPING=1" not in heard
        assert shipper.stop() == 0
