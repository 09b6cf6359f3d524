"""An unmodified application under the real `opentelemetry-instrument` stores all three signals."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comet_storage import CometError
from demo.processes import HOST, ROOT, free_port, wait_until
from tests.unit.comet_otel import stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EXAMPLE = ROOT / "examples" / "auto_instrumentation"
COMMANDS = Path(sys.executable).parent
REQUESTS = 5


@contextlib.contextmanager
def served(environment: Mapping[str, str], output: Path) -> Iterator[int]:
    """Run the example's application as its README says, until it is killed; give the port that it listens on."""
    port = free_port()
    command = [COMMANDS / "opentelemetry-instrument", "flask", "--app", EXAMPLE / "app.py", "run", "--port", str(port)]
    path = f"{COMMANDS}{os.pathsep}{os.environ.get('PATH', '')}"
    with output.open("wb") as file:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        wait_until(lambda: process.poll() is not None or asked(port, "/nothing") == 404, "an application that answers")
        assert process.poll() is None, output.read_text()
        yield port
    finally:
        process.kill()
        process.wait()


def asked(port: int, path: str) -> int:
    """Return the status with which the application answers, or 0."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def names_of_metrics(data_dir: Path) -> set[str]:
    """Return the names of all metrics in a log."""
    found = stored.metrics(data_dir).resource_metrics
    return {metric.name for resource in found for scope in resource.scope_metrics for metric in scope.metrics}


def everything_is_stored(data_dir: Path) -> bool:
    """Tell whether the requests' spans, the application's log lines and the server's metrics are in the log."""
    try:
        return (
            stored.span_names(data_dir).count("GET /price/<article>") == REQUESTS
            and stored.log_bodies(data_dir).count("asked for the price of bread") == REQUESTS
            and "http.server.duration" in names_of_metrics(data_dir)
        )
    except CometError:
        return False  # there is no log yet


def check(environment: Mapping[str, str], data_dir: Path, output: Path) -> None:
    """Ask the application a few times, and find all three signals in the log."""
    with served(environment, output) as port:
        for _ in range(REQUESTS):
            assert asked(port, "/price/bread") == 200
        wait_until(lambda: everything_is_stored(data_dir), "all three signals in the log")


def test_environment_variables_are_all_that_an_unmodified_application_needs(tmp_path) -> None:
    """Spans, log lines and metrics of a Flask application land in the log, and stay there when it is killed."""
    environment = {
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_TRACES_EXPORTER": "comet",
        "OTEL_METRICS_EXPORTER": "comet",
        "OTEL_LOGS_EXPORTER": "comet",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
        "COMET_DATA_DIR": str(tmp_path / "log"),
        "COMET_MAX_TOTAL_SIZE": "64 MiB",
        "COMET_MAX_AGE": "7d",
    }
    check(environment, tmp_path / "log", tmp_path / "output")
    assert everything_is_stored(tmp_path / "log")
    resources = stored.metrics(tmp_path / "log").resource_metrics
    attributes = {each.key: each.value.string_value for each in resources[0].resource.attributes}
    assert attributes["service.name"] == "shop"


def test_the_sdk_s_configuration_file_constructs_the_exporters_with_plain_values(tmp_path) -> None:
    """What stands under `comet` in the file reaches the exporters: sizes, ages and preferences as text."""
    pytest.importorskip("opentelemetry.configuration")
    text = (EXAMPLE / "comet.yaml").read_text()
    for slow, quick in (("schedule_delay: 1000", "schedule_delay: 100"), ("interval: 10000", "interval: 300")):
        assert slow in text
        text = text.replace(slow, quick)
    file = tmp_path / "comet.yaml"
    file.write_text(text)
    environment = {"OTEL_CONFIG_FILE": str(file), "COMET_DATA_DIR": str(tmp_path / "log")}
    check(environment, tmp_path / "log", tmp_path / "output")
    metrics = stored.metrics(tmp_path / "log").resource_metrics
    (duration,) = {
        metric.histogram.aggregation_temporality
        for resource in metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "http.server.duration"
    }
    assert duration == 1  # AGGREGATION_TEMPORALITY_DELTA
