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


IN_USE = """
import tempfile
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from comet_otel import CometLogRecordExporter, CometMetricExporter, CometSpanExporter

directory = tempfile.TemporaryDirectory()
span_exporter, log_exporter, metric_exporter = (
    each(data_dir=directory.name) for each in (CometSpanExporter, CometLogRecordExporter, CometMetricExporter)
)
tracers, loggers = TracerProvider(), LoggerProvider()
tracers.add_span_processor(SimpleSpanProcessor(span_exporter))
loggers.add_log_record_processor(SimpleLogRecordProcessor(log_exporter))
meters = MeterProvider([PeriodicExportingMetricReader(metric_exporter)])
tracers.get_tracer("t").start_span("span").end()
loggers.get_logger("l").emit(body="line")
meters.get_meter("m").create_counter("counter").add(1)
meters.force_flush()
stored = [each.counters.stored_items for each in (span_exporter, log_exporter, metric_exporter)]
assert stored == [1, 1, 1], stored
"""


@pytest.mark.slow
def test_an_exporting_application_loads_neither_grpc_nor_protobuf() -> None:
    """Also once all three signals were exported; only the fallback for an unknown SDK needs protobuf."""
    loaded = modules_after(IN_USE)
    assert "comet_otel.encoding._spans" in loaded
    assert not loaded & {"grpc", "google", "google.protobuf", "opentelemetry.proto", "urllib3", "requests"}


def test_importing_the_exporters_loads_the_engine_s_door_and_no_more() -> None:
    """What writes the log is loaded when an exporter is made, so that importing costs an application little."""
    loaded = modules_after("from comet_otel import CometSpanExporter, CometLogRecordExporter, CometMetricExporter")
    assert {name for name in loaded if name.startswith("comet_storage")} == {"comet_storage"}
    assert not {name for name in modules_after("import comet_otel") if name.startswith("opentelemetry")}


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
