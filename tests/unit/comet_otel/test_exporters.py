"""The three exporters under the real SDK."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    LogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from comet_otel import CometLogRecordExporter, CometMetricExporter, CometSpanExporter
from comet_storage import CometError, ConfigError
from tests.unit.comet_otel import stored
from tests.unit.comet_otel.telemetry import log_record, metrics_data, span

CASES = [
    (CometSpanExporter, SpanExporter, SpanExportResult, lambda: [span(1)]),
    (CometLogRecordExporter, LogRecordExporter, LogRecordExportResult, lambda: [log_record("x")]),
    (CometMetricExporter, MetricExporter, MetricExportResult, metrics_data),
]
ALL = pytest.mark.parametrize(("exporter_class", "base", "results", "batch"), CASES)


@ALL
def test_signatures_take_everything_that_the_sdk_s_do(exporter_class, base, results, batch) -> None:
    """Same names, same order, same defaults; more keywords are allowed."""
    for method in ("export", "force_flush", "shutdown"):
        ours = inspect.signature(getattr(exporter_class, method)).parameters
        for name, theirs in inspect.signature(getattr(base, method)).parameters.items():
            if theirs.kind is inspect.Parameter.VAR_KEYWORD:
                assert any(p.kind is inspect.Parameter.VAR_KEYWORD for p in ours.values())
            else:
                assert ours[name].default == theirs.default
                assert list(ours).index(name) == list(inspect.signature(getattr(base, method)).parameters).index(name)


@ALL
def test_export_flush_and_shutdown_answer_as_the_specification_says(
    tmp_path, exporter_class, base, results, batch
) -> None:
    """Success, then failure after shutdown; however the SDK passes the time-out."""
    exporter = exporter_class(data_dir=tmp_path)
    assert isinstance(exporter, base)
    assert exporter.export(batch()) is results.SUCCESS
    assert exporter.force_flush() is True
    assert exporter.force_flush(timeout_millis=1000) is True
    assert exporter.counters.stored_items == 1
    exporter.shutdown(timeout=1000)
    exporter.shutdown(timeout_millis=1000)
    assert exporter.export(batch()) is results.FAILURE
    assert exporter.force_flush() is False


@ALL
def test_an_unusable_directory_does_not_stop_the_application(
    tmp_path, caplog, exporter_class, base, results, batch
) -> None:
    """One clear line at construction; exports fail at once and are counted; it recovers when it can."""
    (tmp_path / "file").touch()
    exporter = exporter_class(data_dir=tmp_path / "file" / "log")
    assert len(caplog.records) == 1
    assert str(tmp_path / "file" / "log") in caplog.text
    for _ in range(10):
        assert exporter.export(batch()) is results.FAILURE
    assert exporter.force_flush() is True
    assert exporter.counters.refused_items == 10
    assert len(caplog.records) == 1

    (tmp_path / "file").unlink()
    exporter._pipeline._client._reopen_at = 0.0
    assert exporter.export(batch()) is results.SUCCESS
    exporter.shutdown()


ODD_BATCHES = [None, 5, "text", object(), [None], [object()], (), iter(()), {}, [[]], float("nan")]


@ALL
@pytest.mark.parametrize("odd", ODD_BATCHES, ids=repr)
def test_no_batch_is_odd_enough_for_an_exception(tmp_path, exporter_class, base, results, batch, odd) -> None:
    """An exporter answers success or failure, whatever it is given, and goes on with the next batch."""
    exporter = exporter_class(data_dir=tmp_path)
    assert exporter.export(odd) in {results.SUCCESS, results.FAILURE}
    assert exporter.export(batch()) is results.SUCCESS
    exporter.shutdown()
    assert exporter.export(odd) in {results.SUCCESS, results.FAILURE}


@ALL
@pytest.mark.parametrize("limit", [0, -1, None, "soon", float("nan"), float("inf"), pytest.param(10**400, id="huge")])
def test_no_time_limit_is_odd_enough_for_an_exception(tmp_path, exporter_class, base, results, batch, limit) -> None:
    """Flushing and shutting down take any limit, by either name."""
    exporter = exporter_class(data_dir=tmp_path)
    exporter.export(batch())
    assert exporter.force_flush(limit) in {True, False}
    exporter.shutdown(timeout=limit)
    exporter.shutdown(timeout_millis=limit)
    assert exporter.counters.stored_items == 1


@ALL
def test_flushing_and_shutting_down_end_in_time_on_a_disk_that_does_not_answer(
    tmp_path, monkeypatch, exporter_class, base, results, batch
) -> None:
    """The limits are real: the wait ends although the disk does not answer."""
    exporter = exporter_class(data_dir=tmp_path)
    assert exporter.export(batch()) is results.SUCCESS
    answer = threading.Event()
    client = exporter._pipeline._client.client
    close = client.close
    monkeypatch.setattr(client, "sync", lambda: answer.wait(60))
    monkeypatch.setattr(client, "close", lambda: (answer.wait(60), close()))
    began = time.monotonic()
    assert exporter.force_flush(timeout_millis=50) is False
    exporter.shutdown(timeout=50)
    assert time.monotonic() - began < 30
    answer.set()


@ALL
def test_wrong_arguments_are_refused_at_construction(tmp_path, exporter_class, base, results, batch) -> None:
    """By name, and with the log's own error type."""
    with pytest.raises(ConfigError, match="durability"):
        exporter_class(data_dir=tmp_path, durability="sometimes")
    with pytest.raises(TypeError):
        exporter_class(str(tmp_path))
    assert issubclass(ConfigError, CometError)


def test_spans_of_both_processors_are_stored(tmp_path) -> None:
    """Simple processors pass tuples, batching ones lists."""
    exporter = CometSpanExporter(data_dir=tmp_path)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("t").start_span("twice").end()
    provider.shutdown()
    assert stored.span_names(tmp_path) == ["twice", "twice"]


def test_metrics_of_the_periodic_reader_are_stored_with_the_preferred_temporality(tmp_path) -> None:
    """By name for all instruments, and by class for single ones."""
    exporter = CometMetricExporter(
        data_dir=tmp_path,
        temporality_preference="delta",
        preferred_temporality={UpDownCounter: AggregationTemporality.DELTA, Counter: AggregationTemporality.CUMULATIVE},
        default_histogram_aggregation="base2_exponential_bucket_histogram",
    )
    assert exporter._preferred_temporality[Histogram] is AggregationTemporality.DELTA
    assert exporter._preferred_temporality[Counter] is AggregationTemporality.CUMULATIVE
    assert isinstance(exporter._preferred_aggregation[Histogram], ExponentialBucketHistogramAggregation)

    provider = MeterProvider(metric_readers=[PeriodicExportingMetricReader(exporter)], shutdown_on_exit=False)
    meter = provider.get_meter("m")
    meter.create_counter("counter").add(5)
    meter.create_histogram("histogram").record(3.5)
    assert provider.force_flush() is True
    provider.shutdown()
    names = {m.name: m for r in stored.metrics(tmp_path).resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert names["counter"].sum.data_points[0].as_int == 5
    assert names["histogram"].WhichOneof("data") == "exponential_histogram"


def test_own_log_lines_are_not_stored(tmp_path) -> None:
    """A record whose scope is one of this distribution's loggers is left out; the others of its batch are not."""
    exporter = CometLogRecordExporter(data_dir=tmp_path)
    own = log_record("own", scope=InstrumentationScope("comet_otel._export"))
    assert exporter.export([log_record("foreign"), own]) is LogRecordExportResult.SUCCESS
    assert exporter.export([own]) is LogRecordExportResult.SUCCESS
    exporter.shutdown()
    assert stored.log_bodies(tmp_path) == ["foreign"]
    assert exporter.counters.stored_items == 1


@pytest.mark.parametrize("processor_class", [SimpleLogRecordProcessor, BatchLogRecordProcessor])
def test_trouble_with_storing_logs_does_not_feed_itself(tmp_path, processor_class) -> None:
    """With the root logger's handler in the pipeline, a failing export must not make records that fail to export."""
    handler_module = pytest.importorskip("opentelemetry.instrumentation.logging.handler")
    (tmp_path / "file").touch()
    exporter = CometLogRecordExporter(data_dir=tmp_path / "file" / "log")
    exported: list[Any] = []
    original = exporter._pipeline.export
    exporter._pipeline.export = lambda batch: (exported.extend(batch), original(batch))[1]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor_class(exporter))
    handler = handler_module.LoggingHandler(logger_provider=provider)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        for number in range(20):
            logging.getLogger("application").warning("line %d", number)
        provider.force_flush()
    finally:
        root.removeHandler(handler)
        provider.shutdown()
    assert [record.log_record.body for record in exported] == [f"line {number}" for number in range(20)]


AT_EXIT = """
import atexit, sys, threading
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from comet_otel import CometSpanExporter

def forbid():
    def start(self):
        raise AssertionError(f"{self.name} is started at exit")
    threading.Thread.start = start

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(CometSpanExporter(data_dir=sys.argv[1])))
tracer = provider.get_tracer("t")
tracer.start_span("early").end()
provider.force_flush()
tracer.start_span("late").end()
atexit.register(forbid)  # the last registered runs first
"""


@pytest.mark.slow
def test_no_thread_is_started_at_interpreter_exit(tmp_path) -> None:
    """From Python 3.12 on it would be an error, and what is in the processor's queue would be lost with it."""
    result = subprocess.run(
        [sys.executable, "-c", AT_EXIT, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stderr == ""
    assert stored.span_names(tmp_path) == ["early", "late"]


SHORT_JOB = """
import sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from comet_otel import CometSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(CometSpanExporter(data_dir=sys.argv[1])))
provider.get_tracer("t").start_span("the only one").end()
"""


@pytest.mark.slow
def test_a_short_job_s_spans_are_stored_at_its_exit(tmp_path) -> None:
    """The first export of a job of a second is the one at interpreter exit, when no thread can be started."""
    result = subprocess.run(
        [sys.executable, "-c", SHORT_JOB, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stderr == ""
    assert stored.span_names(tmp_path) == ["the only one"]
