"""The command line: its help, its messages, its exit codes."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

from comet_otel.streams import TRACES
from comet_storage import Client
from shipper import cli


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "shipper", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


def test_the_command_is_registered() -> None:
    """Installing the distribution gives `comet-shipper`."""
    (entry_point,) = importlib.metadata.entry_points(group="console_scripts", name="comet-shipper")
    assert entry_point.load() is cli.main


@pytest.mark.slow
@pytest.mark.parametrize("command", [["run"], ["status"]])
def test_help_has_examples(command) -> None:
    """And the exit codes that a script can act on."""
    result = run(*command, "--help")
    assert result.returncode == 0
    assert "Examples" in result.stdout
    assert f"comet-shipper {command[0]} --data-dir" in result.stdout
    assert "Exit codes" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--colour", "red"], "No such option"),
        (["run"], "--data-dir"),
        (["run", "--data-dir", "/x", "--endpoint", "nonsense://x"], "nonsense://x"),
        (["run", "--data-dir", "/x", "--endpoint", "http://x", "--certificate", "/no/such.pem"], "/no/such.pem"),
        (["status"], "--data-dir"),
        (["fly"], "No such command"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_message(arguments, expected) -> None:
    """Which names what is wrong, without a traceback."""
    result = run(*arguments)
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["missing", "file", "file/below", "everybody"])
def test_an_unusable_directory_is_exit_code_3_and_one_message(tmp_path, name) -> None:
    """For `run --once`, which has nothing to wait for, and for status."""
    (tmp_path / "file").touch()
    (tmp_path / "everybody").mkdir()
    (tmp_path / "everybody" / "log.json").touch()
    (tmp_path / "everybody").chmod(0o777)
    directory = str(tmp_path / name)
    result = run("run", "--once", "--data-dir", directory, "--endpoint", "http://127.0.0.1:9")
    assert (result.returncode, result.stdout) == (3, "")
    assert directory in result.stderr
    assert "Traceback" not in result.stderr
    if name != "everybody":
        assert run("status", "--data-dir", directory).returncode == 3


@pytest.mark.slow
def test_status_answers_programs_and_takes_the_directory_from_the_environment(tmp_path) -> None:
    """The same variable as the exporters'."""
    with Client(tmp_path / "log") as client:
        client.lanes(TRACES).append([b"one"])
    result = run("status", "--json", COMET_DATA_DIR=str(tmp_path / "log"))
    assert result.returncode == 0
    assert json.loads(result.stdout)["groups"][0]["pending"] == 1
    assert run("status", "--data-dir", str(tmp_path / "log")).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("typer", ["--help"]),
        ("grpc", ["run", "--data-dir", "/x", "--endpoint", "http://127.0.0.1:9"]),
        ("urllib3", ["run", "--data-dir", "/x", "--endpoint", "http://127.0.0.1:9", "--protocol", "http/protobuf"]),
    ],
)
def test_a_missing_package_is_named_together_with_how_to_install_it(package, arguments) -> None:
    """An installation without the extra says what it lacks."""
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = {arguments!r}; import shipper.cli as c; c.main()"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 3
    assert package in result.stderr
    assert "pip install 'comet-otel[shipper]'" in result.stderr
    assert "Traceback" not in result.stderr
