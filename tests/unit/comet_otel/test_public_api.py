"""What the package offers, and what it loads."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest
from opentelemetry.sdk._logs.export import LogRecordExporter
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.trace.export import SpanExporter

import comet_otel


def modules_after(statement: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    """`__all__` and `dir` name exactly what the package offers."""
    for name in comet_otel.__all__:
        assert getattr(comet_otel, name).__name__ == name
        assert name in dir(comet_otel)
    with pytest.raises(AttributeError, match="no attribute 'CometNothing'"):
        _ = comet_otel.CometNothing


def test_exporters_never_import_grpc() -> None:
    """An application that exports to the log does not load gRPC for it."""
    loaded = modules_after("from comet_otel import CometSpanExporter, CometLogRecordExporter, CometMetricExporter")
    assert "opentelemetry.sdk.trace" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in {"grpc", "urllib3", "requests", "typer", "rich"}}


def test_wire_level_facts_do_not_import_the_sdk() -> None:
    """The shipper can use the streams' names in a process that has no use for the OpenTelemetry SDK."""
    assert not {name for name in modules_after("import comet_otel.streams") if name.startswith("opentelemetry")}


@pytest.mark.parametrize(
    ("group", "base"),
    [
        ("opentelemetry_traces_exporter", SpanExporter),
        ("opentelemetry_logs_exporter", LogRecordExporter),
        ("opentelemetry_metrics_exporter", MetricExporter),
    ],
)
def test_entry_points_load_classes_of_the_type_that_the_sdk_demands(group, base) -> None:
    """`OTEL_TRACES_EXPORTER=comet` and its like find a class, and one without required arguments."""
    (entry_point,) = importlib.metadata.entry_points(group=group, name="comet")
    assert issubclass(entry_point.load(), base)
