"""`comet-shipper check`: what is in effect, and whether the destinations answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.processes import HOST, free_port
from tests.integration.test_misconfiguration import make_certificates

pytestmark = [pytest.mark.integration, pytest.mark.slow]

UNIT = Path(__file__).resolve().parents[2] / "examples" / "comet-shipper.service"


def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "shipper", "check", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def findings(result: subprocess.CompletedProcess[str]) -> list[tuple[str, bool]]:
    """Return steps, by signal or name, and whether each was good."""
    return [(each["signal"] or each["step"], each["good"]) for each in json.loads(result.stdout)["findings"]]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_right_configuration_is_shown_and_its_destination_answers(node, tmp_path, protocol) -> None:
    """Name, connection, TLS, and a request without telemetry for each signal; the log is not touched."""
    server = make_certificates(tmp_path / "server")
    node.start_collector("--tls-certificate", str(server.certificate), "--tls-key", str(server.key))
    port = node.grpc_port if protocol == "grpc" else node.http_port
    arguments = ["--data-dir", str(node.data), "--endpoint", f"https://localhost:{port}", "--protocol", protocol]
    result = check(*arguments, "--certificate", str(server.authority), "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    steps = ["name", "connection", "TLS", "traces", "metrics", "logs"]
    assert findings(result) == [(step, True) for step in steps]
    assert not node.data.exists()
    assert node.request_count() == 3
    assert all(not each["ids"] for each in map(json.loads, node.received.read_text().split("\n")[1:-1]))

    strange = check(*arguments, "--json")
    assert strange.returncode == 1
    assert findings(strange)[-1] == ("TLS", False)
    assert "certificate" in strange.stdout


def test_what_is_wrong_with_a_destination_is_told(node) -> None:
    """Nobody there, no such host, a wrong path; exit code 1."""
    node.start_collector()
    for endpoint, last, text in (
        (f"http://{HOST}:{free_port()}", ("connection", False), "Connection refused"),
        ("http://collector.invalid:4318", ("name", False), "collector.invalid"),
        (f"http://{HOST}:{node.http_port}/wrong", ("logs", False), "HTTP 404"),
    ):
        result = check("--data-dir", "/log", "--endpoint", endpoint, "--protocol", "http/protobuf", "--json")
        assert result.returncode == 1
        assert findings(result)[-1] == last
        assert text in result.stdout


def test_people_see_every_setting_with_its_origin_and_no_secret() -> None:
    """Without a destination that answers, if they ask for that."""
    result = check(
        *("--data-dir", "/log", "--endpoint", "http://collector:4317", "--window", "7", "--offline"),
        OTEL_EXPORTER_OTLP_HEADERS="api-key=s3cret",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://elsewhere",
    )
    assert result.returncode == 0
    assert "default.window = 7  # --window" in result.stdout
    assert 'default.traces.headers = {"api-key": "***"}  # OTEL_EXPORTER_OTLP_HEADERS' in result.stdout
    assert "note: OTEL_EXPORTER_OTLP_ENDPOINT has no effect: --endpoint comes first" in result.stdout
    assert "s3cret" not in result.stdout + result.stderr


def test_everything_that_is_wrong_in_the_settings_is_one_line_each(tmp_path) -> None:
    """With exit code 2."""
    file = tmp_path / "shipper.toml"
    file.write_text("listn = 1\n[destination.a]\nwindow = 0")
    result = check("--config", str(file), OTEL_EXPORTER_OTLP_ENDPOINT="http://x")
    assert result.returncode == 2
    assert [line.startswith("comet-shipper: ") for line in result.stderr.splitlines()] == [True] * 3
    assert "did you mean 'listen'?" in result.stderr


def test_the_systemd_unit_is_one_that_systemd_understands(tmp_path) -> None:
    """Where there is systemd to ask."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("User=comet\nGroup=comet\n", ""))
    result = subprocess.run(["systemd-analyze", "verify", str(unit)], check=False, capture_output=True, text=True)
    assert UNIT.name not in result.stderr, result.stderr
