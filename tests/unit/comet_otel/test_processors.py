"""The crash-proof processors under the real SDK."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context
from opentelemetry._logs import LogRecord
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from comet_otel import (
    CometLogRecordExporter,
    CometLogRecordProcessor,
    CometSpanExporter,
    CometSpanProcessor,
    _processor,
)
from comet_otel.shared_client import SharedClient
from comet_storage import ConfigError
from tests.unit.comet_otel import stored
from tests.unit.comet_otel.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Iterator

handler_module = pytest.importorskip("opentelemetry.instrumentation.logging.handler")

ALL = pytest.mark.parametrize(
    ("processor_class", "base"), [(CometSpanProcessor, SpanProcessor), (CometLogRecordProcessor, LogRecordProcessor)]
)


@pytest.fixture
def processor(tmp_path) -> Iterator[CometSpanProcessor]:
    """Return a processor of spans into a log in the test's folder."""
    made = CometSpanProcessor(data_dir=tmp_path)
    yield made
    made.shutdown()


@pytest.fixture
def log_pipeline(tmp_path) -> Iterator[LoggerProvider]:
    """Return a provider whose processor stores what the root logger gets."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(CometLogRecordProcessor(data_dir=tmp_path))
    handler = handler_module.LoggingHandler(logger_provider=provider)
    root = logging.getLogger()
    root.addHandler(handler)
    yield provider
    root.removeHandler(handler)
    provider.shutdown()


def tracer_of(*processors: SpanProcessor, sampler: Sampler | None = None) -> tuple[TracerProvider, Any]:
    """Return a provider with the processors, and a tracer of it."""
    provider = TracerProvider(shutdown_on_exit=False, sampler=sampler)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider, provider.get_tracer("tests")


@ALL
def test_signatures_take_everything_that_the_sdk_s_do(processor_class, base) -> None:
    """Same names, same order, same defaults; more keywords are allowed."""
    assert issubclass(processor_class, base)
    for method in ("on_end", "on_start", "_on_ending", "on_emit", "enabled", "force_flush", "shutdown"):
        if not hasattr(base, method):
            continue
        ours = list(inspect.signature(getattr(processor_class, method)).parameters.values())
        theirs = list(inspect.signature(getattr(base, method)).parameters.values())
        assert [(p.name, p.default) for p in ours][: len(theirs)] == [(p.name, p.default) for p in theirs]
        assert all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in ours[len(theirs) :])


@ALL
def test_wrong_arguments_are_refused_at_construction(tmp_path, processor_class, base) -> None:
    """As with the exporters."""
    with pytest.raises(ConfigError, match="durability"):
        processor_class(data_dir=tmp_path, durability="sometimes")
    with pytest.raises(TypeError):
        processor_class(str(tmp_path))


def test_a_span_is_in_the_log_when_its_end_returns(processor, tmp_path) -> None:
    """Not a moment later: there is no queue and no flush."""
    _, tracer = tracer_of(processor)
    for number in range(3):
        tracer.start_span(f"span {number}").end()
        assert len(stored.span_names(tmp_path)) == number + 1
    assert processor.counters.stored_items == 3


def test_a_log_record_is_in_the_log_when_the_call_returns(log_pipeline, tmp_path) -> None:
    """As spans."""
    for number in range(3):
        logging.getLogger("application").warning("line %d", number)
        assert len(stored.log_bodies(tmp_path)) == number + 1


class RecordOnly(Sampler):
    """Records every span and samples none."""

    def should_sample(self, *args, **kwargs) -> SamplingResult:
        """Answer."""
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        """Name it."""
        return "record only"


def test_only_sampled_spans_are_stored(processor, tmp_path) -> None:
    """A span that is recorded for other processors and not sampled is not exported; nor is one without a context."""
    _, tracer = tracer_of(processor, sampler=RecordOnly())
    tracer.start_span("recorded").end()
    contextless = span(1)
    contextless._context = None
    processor.on_end(contextless)
    assert processor.counters.stored_items == 0
    assert stored.span_names(tmp_path) == []


def test_it_works_beside_a_batch_processor(processor, tmp_path) -> None:
    """Both get every span; one that shares the directory shares the client as well."""
    memory = InMemorySpanExporter()
    provider, tracer = tracer_of(
        BatchSpanProcessor(memory), processor, BatchSpanProcessor(CometSpanExporter(data_dir=tmp_path))
    )
    tracer.start_span("both").end()
    assert provider.force_flush()
    assert [found.name for found in memory.get_finished_spans()] == ["both"]
    provider.shutdown()
    assert stored.span_names(tmp_path) == ["both", "both"]


def test_log_records_also_reach_a_batch_processor_behind_it(tmp_path) -> None:
    """The record is not changed."""
    memory = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    processor = CometLogRecordProcessor(data_dir=tmp_path)
    provider.add_log_record_processor(processor)
    provider.add_log_record_processor(BatchLogRecordProcessor(memory))
    provider.get_logger("application").emit(body="both", attributes={"a": 1})
    provider.shutdown()
    assert [found.log_record.body for found in memory.get_finished_logs()] == ["both"]
    assert stored.log_bodies(tmp_path) == ["both"]


def test_flush_and_shutdown_answer_as_the_specification_says(tmp_path, caplog) -> None:
    """Durable, then closed; what comes later is refused, counted and reported once."""
    processor = CometSpanProcessor(data_dir=tmp_path)
    provider, tracer = tracer_of(processor)
    tracer.start_span("early").end()
    assert processor.force_flush() is True
    assert processor.force_flush(timeout_millis=1000) is True
    assert processor.force_flush(None) is True
    provider.shutdown()
    processor.shutdown()
    for _ in range(5):
        tracer.start_span("late").end()
    assert processor.force_flush() is False
    assert stored.span_names(tmp_path) == ["early"]
    assert processor.counters.refused_items == 5
    assert len(caplog.records) == 1


def test_a_flush_is_over_when_its_time_is(processor, monkeypatch) -> None:
    """However long the disk takes."""
    _, tracer = tracer_of(processor)
    tracer.start_span("stored").end()
    go_on = threading.Event()
    monkeypatch.setattr(processor._pipeline._client.client, "sync", go_on.wait)
    assert processor.force_flush(50) is False
    go_on.set()
    assert processor.force_flush() is True


@ALL
def test_an_unusable_directory_does_not_trouble_the_application(tmp_path, caplog, processor_class, base) -> None:
    """One clear line; what is made meanwhile is counted; it recovers when it can."""
    (tmp_path / "file").touch()
    processor = processor_class(data_dir=tmp_path / "file" / "log")
    if base is SpanProcessor:
        _, tracer = tracer_of(processor)
        make, read = (lambda: tracer.start_span("x").end()), stored.span_names
    else:
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(processor)
        logger = provider.get_logger("application")
        make, read = (lambda: logger.emit(body="x")), stored.log_bodies
    for _ in range(10):
        make()
    assert processor.counters.refused_items == 10
    assert len(caplog.records) == 1
    (tmp_path / "file").unlink()
    processor._pipeline._client._reopen_at = 0.0
    make()
    processor.shutdown()
    assert read(tmp_path / "file" / "log") == ["x"]


def test_an_item_that_cannot_be_encoded_costs_itself(processor, tmp_path) -> None:
    """Counted, and nothing is raised."""
    _, tracer = tracer_of(processor)
    tracer.start_span(object()).end()
    tracer.start_span("good").end()
    assert processor.counters.unencodable_items == 1
    assert stored.span_names(tmp_path) == ["good"]


@pytest.mark.parametrize("name", [None, "", 5])
def test_a_logger_of_any_name_does_not_trouble_the_application(tmp_path, name) -> None:
    """The SDK checks no names of scopes; one that is no text cannot be encoded, none at all can."""
    processor = CometLogRecordProcessor(data_dir=tmp_path)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    provider.get_logger(name).emit(LogRecord(body="line"))
    encodable = name != 5
    assert (processor.counters.stored_items, processor.counters.unencodable_items) == (encodable, not encodable)
    provider.shutdown()


def test_an_exporter_leaves_out_its_own_lines_beside_those_of_a_logger_without_a_name(tmp_path) -> None:
    """One odd record in a batch must not bring the others back into the pipeline."""
    exporter = CometLogRecordExporter(data_dir=tmp_path)
    records = [
        ReadableLogRecord(LogRecord(body="line"), Resource({}), InstrumentationScope(name))  # type: ignore[arg-type]
        for name in (None, "comet_otel.shared_client", "application")
    ]
    assert exporter.export(records) is LogRecordExportResult.SUCCESS
    assert exporter.counters.stored_items == 2
    exporter.shutdown()


class Refusing:
    """What refuses to be looked at."""

    def __getattr__(self, name: str) -> object:
        """Raise."""
        raise OSError(name)


@pytest.mark.parametrize("make_item", [lambda: None, Refusing])
def test_what_is_no_item_is_counted(processor, tmp_path, make_item) -> None:
    """Neither processor raises, whatever it is given."""
    processor.on_end(make_item())
    records = CometLogRecordProcessor(data_dir=tmp_path)
    records.on_emit(make_item())
    assert (processor.counters.unencodable_items, records.counters.unencodable_items) == (1, 1)
    records.shutdown()


def test_a_span_with_flags_that_are_a_plain_number_is_stored(processor, tmp_path) -> None:
    """Whoever makes spans by hand may know no other ones; the encoder does not write them."""
    context_of_hand = SpanContext(1, 2, is_remote=False, trace_flags=1)  # type: ignore[arg-type]
    processor.on_end(ReadableSpan("by hand", context=context_of_hand, resource=Resource({})))
    assert stored.span_names(tmp_path) == ["by hand"]


def test_instrumentation_is_suppressed_while_storing(processor, monkeypatch) -> None:
    """What instrumented libraries do for us makes no spans; afterwards they make them again."""
    seen = []
    original = SharedClient.append

    def append(client: SharedClient, *arguments: Any) -> None:
        seen.append(context.get_value(_SUPPRESS_INSTRUMENTATION_KEY))
        original(client, *arguments)

    monkeypatch.setattr(SharedClient, "append", append)
    _, tracer = tracer_of(processor)
    tracer.start_span("one").end()
    assert seen == [True]
    assert context.get_value(_SUPPRESS_INSTRUMENTATION_KEY) is None


def test_a_span_that_ends_while_another_is_stored_is_stored_too(processor, tmp_path, monkeypatch) -> None:
    """By the same thread, further down its stack."""
    original = SharedClient.append
    _, tracer = tracer_of(processor)
    names = iter(["inner"])

    def append(client: SharedClient, *arguments: Any) -> None:
        for name in names:
            tracer.start_span(name).end()
        original(client, *arguments)

    monkeypatch.setattr(SharedClient, "append", append)
    tracer.start_span("outer").end()
    assert stored.span_names(tmp_path) == ["inner", "outer"]


def test_spans_that_make_spans_come_to_an_end(processor, tmp_path, monkeypatch) -> None:
    """The loop is cut, however it branches, and what was cut off is counted; afterwards all is as before."""
    original = SharedClient.append
    _, tracer = tracer_of(processor)

    def append(client: SharedClient, *arguments: Any) -> None:
        tracer.start_span("again").end()
        tracer.start_span("again").end()
        original(client, *arguments)

    monkeypatch.setattr(SharedClient, "append", append)
    tracer.start_span("first").end()
    assert processor.counters.stored_items == 1 + _processor.NESTED_MAX
    assert processor.counters.refused_items == 2 + _processor.NESTED_MAX
    monkeypatch.undo()
    tracer.start_span("next").end()
    assert stored.span_names(tmp_path).count("next") == 1


def test_lines_logged_while_storing_lines_come_to_an_end(log_pipeline, tmp_path, monkeypatch) -> None:
    """A library below us that logs each call is cut off; our own lines are never stored."""
    original = SharedClient.append

    def append(client: SharedClient, *arguments: Any) -> None:
        log_pipeline.get_logger("library").emit(body="called")
        log_pipeline.get_logger("comet_storage.anything").emit(body="own")
        original(client, *arguments)

    monkeypatch.setattr(SharedClient, "append", append)
    logging.getLogger("application").warning("line")
    assert stored.log_bodies(tmp_path) == ["called"] * _processor.NESTED_MAX + ["line"]


def test_trouble_with_storing_lines_does_not_feed_itself(tmp_path, caplog) -> None:
    """With the root logger's handler in the pipeline, a record that fails must not make records that fail."""
    (tmp_path / "file").touch()
    processor = CometLogRecordProcessor(data_dir=tmp_path / "file" / "log")
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    root = logging.getLogger()
    handler = handler_module.LoggingHandler(logger_provider=provider)
    root.addHandler(handler)
    try:
        for number in range(20):
            logging.getLogger("application").warning("line %d", number)
    finally:
        root.removeHandler(handler)
        provider.shutdown()
    assert processor.counters.refused_items == 20


def test_a_logging_handler_that_raises_does_not_reach_the_application(processor, monkeypatch) -> None:
    """Not even for our own line about a failure."""

    class Raising(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("a handler of the application's")

    def append(*_: object) -> None:
        raise ValueError("bug")

    logger = logging.getLogger("comet_otel._export")
    raising = Raising()
    logger.addFilter(raising)
    try:
        monkeypatch.setattr(SharedClient, "append", append)
        processor.on_end(span(1))
    finally:
        logger.removeFilter(raising)
    assert processor.counters.refused_items == 1


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("disk"), MemoryError(), RecursionError()])
def test_no_exception_reaches_the_application(processor, monkeypatch, error) -> None:
    """Whatever goes wrong below."""

    def append(*_: object) -> None:
        raise error

    monkeypatch.setattr(SharedClient, "append", append)
    processor.on_end(span(1))
    assert processor.counters.refused_items == 1


def test_threads_store_at_the_same_time(processor, tmp_path) -> None:
    """Each span once, in one lane, whatever the others do."""
    _, tracer = tracer_of(processor)
    barrier = threading.Barrier(4)

    def work(thread: int) -> None:
        barrier.wait()
        for number in range(100):
            tracer.start_span(f"{thread}-{number}").end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored.span_names(tmp_path) == sorted(f"{thread}-{number}" for thread in range(4) for number in range(100))
    assert len(stored.entries(tmp_path, "traces:v1")) == 1
    assert processor.counters.stored_items == 400


FIRST_ITEMS = """
import sys
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from comet_otel import CometLogRecordProcessor, CometSpanProcessor

spans, logs = TracerProvider(), LoggerProvider()
spans.add_span_processor(CometSpanProcessor(data_dir=sys.argv[1]))
logs.add_log_record_processor(CometLogRecordProcessor(data_dir=sys.argv[1]))
tracer, logger = spans.get_tracer("t"), logs.get_logger("t")
before = set(sys.modules)
tracer.start_span("first").end()
logger.emit(body="first")
print(*set(sys.modules) - before)
"""


@pytest.mark.slow
def test_the_first_items_import_nothing(tmp_path) -> None:
    """A process that forks while one of its threads imports leaves the child with an import that never ends."""
    command = [sys.executable, "-c", FIRST_ITEMS, str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split() == []
