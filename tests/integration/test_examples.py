"""The examples do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.comet_otel import stored

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: str, **environment: str) -> str:
    """Run an example to its end and return what it prints; it must not complain."""
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert result.stderr == ""
    return result.stdout


def test_quickstart_stores_all_three_signals(tmp_path) -> None:
    """Spans, log lines and a counter of three greetings."""
    data_dir = tmp_path / "telemetry"
    assert f"comet-shipper status --data-dir {data_dir}" in run("quickstart.py", str(data_dir))
    assert stored.span_names(data_dir) == ["greet"] * 3
    assert stored.log_bodies(data_dir) == ["hello Ada", "hello Edsger", "hello Grace"]
    (resource_metrics,) = stored.metrics(data_dir).resource_metrics
    assert resource_metrics.scope_metrics[0].metrics[0].sum.data_points[0].as_int == 3


def test_by_environment_stores_what_the_environment_says(tmp_path) -> None:
    """Nothing in the program names the exporter."""
    data_dir = tmp_path / "telemetry"
    assert run("by_environment.py", OTEL_TRACES_EXPORTER="comet", COMET_DATA_DIR=str(data_dir)) == "working\n"
    assert stored.span_names(data_dir) == ["work"]


def test_every_example_is_tested() -> None:
    """A new example needs a test here."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"quickstart.py", "by_environment.py"}
