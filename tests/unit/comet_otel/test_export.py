"""What the exporters have in common: counting, splitting, and never an exception."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import pytest
from opentelemetry import context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from comet_otel import _export, encoding, shared_client
from comet_otel._export import ENTRY_BYTES_MAX, ExportPipeline
from comet_otel.config import load_config
from comet_otel.shared_client import LogUnavailableError, SharedClient
from comet_otel.streams import TRACES, Signal, route_of_signal
from comet_storage import LogFullError
from tests.unit.comet_otel.stored import entries, span_names
from tests.unit.comet_otel.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@pytest.fixture
def pipeline(tmp_path) -> Iterator[ExportPipeline]:
    """Return a pipeline of spans into a log in the test's folder."""
    made = ExportPipeline(
        route_of_signal(Signal.TRACES), encoding.SPANS, load_config(data_dir=tmp_path, environment={})
    )
    yield made
    made.shutdown(5.0)


def fail_with(monkeypatch, error: BaseException) -> None:
    """Make every append fail."""

    def append(*_: object) -> None:
        raise error

    monkeypatch.setattr(SharedClient, "append", append)


def test_a_stored_batch_is_one_entry_and_is_counted(pipeline, tmp_path) -> None:
    """One batch, one request, one append."""
    assert pipeline.export([span(1), span(2)]) is True
    assert [len(shard) for shard in entries(tmp_path, TRACES).values()] == [1]
    assert span_names(tmp_path) == ["span 1", "span 2"]
    assert pipeline.counters == _export.ExportCounters(stored_items=2)


@pytest.mark.parametrize("line", range(1, 6))
def test_a_shutdown_that_another_one_interrupts_lets_go_once(pipeline, monkeypatch, line) -> None:
    """A second release would close the log under the exporters that go on."""
    released: list[SharedClient] = []
    monkeypatch.setattr(shared_client, "release", lambda shared, _: released.append(shared))
    lines = 0

    def interrupt(frame: FrameType, event: str, _: object) -> object:
        nonlocal lines
        if frame.f_code is not ExportPipeline.shutdown.__code__:
            return None
        if event == "line":
            lines += 1
            if lines == line:
                pipeline.shutdown(5.0)
        return interrupt

    tracing = sys.gettrace()
    sys.settrace(interrupt)
    try:
        pipeline.shutdown(5.0)
    finally:
        sys.settrace(tracing)
    assert lines >= line
    assert len(released) == 1
    monkeypatch.undo()
    shared_client.release(released[0], 5.0)


class SpeechlessError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        """Raise another one."""
        raise SpeechlessError


class SpeechlessSpan:
    """No span, and not even that can be told of it."""

    def __getattr__(self, name: str) -> object:
        """Raise."""
        raise SpeechlessError


def test_an_error_that_cannot_be_told_costs_its_item_alone(pipeline, tmp_path, caplog) -> None:
    """A foreign exception whose text raises is reported by its class."""
    assert pipeline.export([span(1), SpeechlessSpan(), span(2)]) is True
    assert span_names(tmp_path) == ["span 1", "span 2"]
    assert pipeline.counters == _export.ExportCounters(stored_items=2, unencodable_items=1)
    assert caplog.messages == ["encoding traces: 1 items were left out; the first because of SpeechlessError"]


def test_an_error_that_cannot_be_told_is_no_exception_of_ours(pipeline, monkeypatch) -> None:
    """Nor when it is the log that raises it."""
    fail_with(monkeypatch, SpeechlessError())
    assert pipeline.export([span(1)]) is False
    assert pipeline.counters.refused_items == 1


def test_a_logging_handler_that_raises_costs_lines_and_no_items(pipeline, tmp_path, monkeypatch) -> None:
    """Python's logging passes on what a handler of the application's raises; the batch is stored all the same."""

    def emit(self: logging.Handler, record: logging.LogRecord) -> None:
        lines.append(record.getMessage())
        raise ValueError("a handler of the application's")

    lines: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(logging.Handler, "emit", emit)
    monkeypatch.setattr(logging.getLogger("comet_otel"), "handlers", [handler])
    assert pipeline.export([span(1), span(2, name=object()), span(3)]) is True
    assert span_names(tmp_path) == ["span 1", "span 3"]
    assert pipeline.export(None) is False  # type: ignore[arg-type]
    in_place_of_a_directory = tmp_path / "file"
    in_place_of_a_directory.touch()
    config = load_config(data_dir=in_place_of_a_directory, environment={})
    unusable = ExportPipeline(route_of_signal(Signal.TRACES), encoding.SPANS, config)
    assert unusable.export([span(1)]) is False
    unusable.shutdown(5.0)
    assert len(lines) == 3


def test_an_empty_batch_succeeds_and_stores_nothing(pipeline, tmp_path) -> None:
    """Empty requests are not sent, so they are not stored either."""
    assert pipeline.export([]) is True
    assert entries(tmp_path, TRACES) == {}


def test_no_entry_is_larger_than_a_collector_takes(pipeline, tmp_path) -> None:
    """A batch over the default limit of gRPC servers is stored as several entries, whole and in order."""
    spans = [span(number, attributes={"text": "x" * 300_000}) for number in range(1, 41)]
    assert pipeline.export(spans) is True
    (stored,) = entries(tmp_path, TRACES).values()
    assert len(stored) > 1
    assert all(len(entry) <= ENTRY_BYTES_MAX < 4 * 2**20 for entry in stored)
    assert len(span_names(tmp_path)) == 40


def test_entries_are_smaller_in_a_small_log(tmp_path) -> None:
    """One entry must not be a large part of what the log can hold."""
    config = load_config(data_dir=tmp_path, max_total_size="2 MiB", environment={})
    pipeline = ExportPipeline(route_of_signal(Signal.TRACES), encoding.SPANS, config)
    assert pipeline.export([span(number, attributes={"text": "x" * 50_000}) for number in range(1, 11)]) is True
    pipeline.shutdown(5.0)
    (stored,) = entries(tmp_path, TRACES).values()
    assert max(map(len, stored)) <= 2 * 2**20 // 8


def test_a_bad_item_is_counted_and_the_rest_of_its_batch_is_a_success(pipeline, tmp_path, caplog) -> None:
    """The processor would otherwise drop what is stored already."""
    assert pipeline.export([span(1), span(2, name=object()), span(3)]) is True
    assert span_names(tmp_path) == ["span 1", "span 3"]
    assert pipeline.counters == _export.ExportCounters(stored_items=2, unencodable_items=1)
    assert "1 items were left out" in caplog.text


def test_a_batch_of_bad_items_is_a_failure(pipeline) -> None:
    """Success would claim that something was stored."""
    assert pipeline.export([span(1, name=object())]) is False


def test_refused_batches_are_counted_and_reported_once(pipeline, monkeypatch, caplog) -> None:
    """A full disk for an hour is not an hour of log lines."""
    fail_with(monkeypatch, LogFullError("no room"))
    for _ in range(100):
        assert pipeline.export([span(1), span(2)]) is False
    assert pipeline.counters == _export.ExportCounters(refused_items=200)
    assert len(caplog.records) == 1
    assert "no room" in caplog.text
    monkeypatch.undo()
    assert pipeline.export([span(3)]) is True
    assert caplog.messages[-1].endswith("works again")


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("disk"), MemoryError(), LogUnavailableError("closed")])
def test_no_exception_reaches_the_application(pipeline, monkeypatch, error) -> None:
    """Whatever goes wrong below, the export fails and says no more."""
    fail_with(monkeypatch, error)
    assert pipeline.export([span(1)]) is False
    assert pipeline.counters.refused_items == 1


def test_the_application_s_own_interruptions_are_passed_on(pipeline, monkeypatch) -> None:
    """Ctrl-C while a span is stored ends the application, as anywhere else."""
    fail_with(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pipeline.export([span(1)])


def test_export_after_shutdown_fails_and_is_counted(pipeline, caplog) -> None:
    """As the specification demands; a second shutdown does nothing."""
    pipeline.shutdown(5.0)
    pipeline.shutdown(5.0)
    assert pipeline.export([span(1)]) is False
    assert pipeline.counters.refused_items == 1
    assert pipeline.force_flush(1.0) is False
    assert "shut down" in caplog.text


def test_instrumented_libraries_make_no_telemetry_of_an_export(pipeline, monkeypatch) -> None:
    """Instrumentation is suppressed while the log is written, and only then."""
    seen = []
    monkeypatch.setattr(
        SharedClient, "append", lambda *_: seen.append(context.get_value(_SUPPRESS_INSTRUMENTATION_KEY))
    )
    pipeline.export([span(1)])
    assert seen == [True]
    assert context.get_value(_SUPPRESS_INSTRUMENTATION_KEY) is None


def test_unstorable_attributes_are_reported_without_the_encoder_s_tracebacks(pipeline, caplog) -> None:
    """One line for many, and their number in the counters."""
    caplog.set_level(logging.DEBUG)
    for _ in range(10):
        assert pipeline.export([span(1, attributes={"good": 1, "bad": 2**70})]) is True
    assert pipeline.counters.unencodable_attributes == 10
    assert len(caplog.records) == 1
