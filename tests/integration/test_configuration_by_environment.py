"""The SDK finds the exporters by name alone, as it does for every deployment that is configured by environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.unit.comet_otel import stored

pytestmark = [pytest.mark.integration, pytest.mark.slow]

APPLICATION = """
import logging
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger
from opentelemetry.sdk._configuration import _OTelSDKConfigurator

_OTelSDKConfigurator().configure()
trace.get_tracer("t").start_span("by environment").end()
metrics.get_meter("m").create_counter("by.environment").add(1)
get_logger("l").emit(body="by environment")
"""


def test_names_in_the_environment_are_all_that_is_needed(tmp_path) -> None:
    """An application that knows nothing of Comet stores all three signals."""
    environment = {
        "OTEL_TRACES_EXPORTER": "comet",
        "OTEL_METRICS_EXPORTER": "comet",
        "OTEL_LOGS_EXPORTER": "comet",
        "COMET_DATA_DIR": str(tmp_path / "log"),
        "COMET_MAX_TOTAL_SIZE": "32 MiB",
    }
    result = subprocess.run(
        [sys.executable, "-c", APPLICATION],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert result.stderr == ""
    assert stored.span_names(tmp_path / "log") == ["by environment"]
    assert stored.log_bodies(tmp_path / "log") == ["by environment"]
    metrics = stored.metrics(tmp_path / "log")
    assert metrics.resource_metrics[0].scope_metrics[0].metrics[0].name == "by.environment"
