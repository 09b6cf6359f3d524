"""What the exporters do while the log cannot be written: nothing that harms, everything counted, and they recover."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

import comet_storage
from comet_otel import CometLogRecordExporter, CometSpanExporter
from comet_storage._os.door import Door
from demo.processes import wait_until
from tests.support.filesystems import mounted_image, read_only_again
from tests.unit.comet_otel import stored
from tests.unit.comet_otel.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.slow]

OK, REFUSED = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


class Exports:
    """Exports one span after the other, and knows which were taken."""

    def __init__(self, exporter: CometSpanExporter) -> None:
        self._exporter = exporter
        self._number = 0
        self.taken: list[str] = []
        self.refused = 0

    def one(self) -> SpanExportResult:
        """Export one span."""
        self._number += 1
        result = self._exporter.export([span(self._number)])
        if result is OK:
            self.taken.append(f"span {self._number}")
        else:
            self.refused += 1
        return result

    def until(self, result: SpanExportResult) -> None:
        """Export until the answer is as expected."""
        wait_until(lambda: self.one() is result, f"an export that ends with {result}")


@pytest.fixture
def exporter_in() -> Iterator[Any]:
    """Return a function that makes an exporter into a directory; it is shut down in the end."""
    made = []

    def make(directory: Path, **settings: Any) -> CometSpanExporter:
        made.append(CometSpanExporter(data_dir=directory, **settings))
        return made[-1]

    yield make
    for exporter in made:
        exporter.shutdown(timeout=1000)


def check_counters(exporter: CometSpanExporter, exports: Exports) -> None:
    """Every export was counted as what it was."""
    assert exporter.counters.stored_items == len(exports.taken)
    assert exporter.counters.refused_items == exports.refused


def test_a_directory_that_is_removed_while_running_is_made_again(tmp_path, exporter_in, caplog) -> None:
    """What was in it is gone with it; within moments exports are stored in a new one, and a line says so."""
    exporter = exporter_in(tmp_path / "log")
    exports = Exports(exporter)
    assert exports.one() is OK
    shutil.rmtree(tmp_path / "log")
    wait_until(lambda: exports.one() is OK and (tmp_path / "log" / "log.json").exists(), "a new log")
    last = exports.taken[-1]
    assert "is opened again" in caplog.text
    check_counters(exporter, exports)
    exporter.shutdown()
    assert last in stored.span_names(tmp_path / "log")


def test_a_directory_that_cannot_be_made_again_is_refused_counted_and_recovered(tmp_path, exporter_in, caplog) -> None:
    """While something else is in its place exports fail at once; when it is gone they are stored."""
    exporter = exporter_in(tmp_path / "log")
    exports = Exports(exporter)
    assert exports.one() is OK
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "log").write_text("in the way")
    exports.until(REFUSED)
    for _ in range(100):
        assert exports.one() is REFUSED
    assert len([line for line in caplog.messages if "cannot be opened" in line]) == 1
    (tmp_path / "log").unlink()
    exports.until(OK)
    assert caplog.messages[-1].endswith("works again")
    check_counters(exporter, exports)


@pytest.mark.root
def test_a_foreign_owner_s_directory_is_refused_until_it_is_this_user_s(tmp_path, exporter_in, caplog) -> None:
    """Others could read and change what is in it."""
    directory = tmp_path / "log"
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, 12345)
    exporter = exporter_in(directory)
    exports = Exports(exporter)
    for _ in range(10):
        assert exports.one() is REFUSED
    assert len(caplog.records) == 1
    assert str(directory) in caplog.text
    os.chown(directory, 0, 0)
    exports.until(OK)
    check_counters(exporter, exports)


@pytest.mark.root
def test_a_read_only_volume_costs_what_cannot_be_stored_and_no_more(tmp_path, exporter_in) -> None:
    """A filesystem that turned read-only, as one does after errors, is written to again when it is mended."""
    with mounted_image(tmp_path, "ext4") as volume:
        exporter = exporter_in(volume / "log", config={"storage": {"write_method": "pwrite"}})
        exports = Exports(exporter)
        assert exports.one() is OK
        exporter.shutdown()
        with read_only_again(volume):
            exporter = exporter_in(volume / "log", config={"storage": {"write_method": "pwrite"}})
            exports = Exports(exporter)
            for _ in range(20):
                assert exports.one() is REFUSED
        exports.until(OK)
        check_counters(exporter, exports)
        exporter.shutdown()
        assert set(exports.taken) <= set(stored.span_names(volume / "log"))


@pytest.mark.root
def test_a_full_volume_costs_what_cannot_be_stored_and_no_more(tmp_path, exporter_in) -> None:
    """Others filled the disk before the log had anything to evict; exports are stored as soon as there is room."""
    with mounted_image(tmp_path, "ext4") as volume:
        exporter = exporter_in(volume / "log")
        exports = Exports(exporter)
        ballast = volume / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                while _written(file, size):
                    pass
        for _ in range(20):
            assert exports.one() is REFUSED
        assert exporter.force_flush(2000) in {True, False}
        ballast.unlink()
        exports.until(OK)
        check_counters(exporter, exports)
        exporter.shutdown()
        assert set(stored.span_names(volume / "log")) == set(exports.taken)


def _written(file: Any, size: int) -> bool:
    try:
        return file.write(bytes(size)) == size
    except OSError:
        return False


STUCK = """
import os, sys
from comet_storage import Client
client = Client(sys.argv[1])
with client._ledger.locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_log_that_a_stopped_process_keeps_locked_delays_little_and_is_used_when_it_is_free(
    tmp_path, exporter_in
) -> None:
    """The first export waits for the lock's time limit; those after it are refused at once; then they are stored."""
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, str(tmp_path / "log")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            holder.send_signal(signal.SIGSTOP)
            exporter = exporter_in(tmp_path / "log", config={"concurrency": {"lock_timeout": 0.3}})
            exports = Exports(exporter)
            waits = []
            for _ in range(200):
                began = time.monotonic()
                assert exports.one() is REFUSED
                waits.append(time.monotonic() - began)
            # The limit of a wait is 0.3 s, and the pause after it lasts nine times as long.
            assert sum(wait >= 0.25 for wait in waits) <= 1 + sum(waits) / 2.7
        finally:
            holder.kill()
    exports.until(OK)
    check_counters(exporter, exports)


class SlowDoor(Door):
    """Each write takes ten milliseconds longer."""

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write late."""
        time.sleep(0.01)
        super().write(fd, data, offset)


def test_slow_writes_slow_the_exporting_thread_alone_and_take_no_memory(tmp_path, monkeypatch) -> None:
    """Spans wait in the processor's bounded queue; nothing behind it gathers any."""
    monkeypatch.setattr(comet_storage, "Client", functools.partial(comet_storage.Client, _door=SlowDoor()))
    exporter = CometSpanExporter(data_dir=tmp_path / "log", config={"storage": {"write_method": "pwrite"}})
    provider = TracerProvider(shutdown_on_exit=False)
    processor = BatchSpanProcessor(exporter, max_queue_size=512, max_export_batch_size=64, schedule_delay_millis=10)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("t")
    for number in range(600):
        tracer.start_span(f"{number}").end()
    provider.force_flush()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(3000):
            tracer.start_span(f"{number}").end()
        assert tracemalloc.get_traced_memory()[0] - before < 8 << 20
    finally:
        tracemalloc.stop()
    provider.shutdown()
    assert exporter.counters.refused_items == 0
    assert len(stored.span_names(tmp_path / "log")) == exporter.counters.stored_items > 0


def test_trouble_with_the_log_writes_few_lines_into_an_application_s_own_log(tmp_path, caplog) -> None:
    """With the root logger's handler in the pipeline that has the trouble, nothing goes round in circles."""
    handler_module = pytest.importorskip("opentelemetry.instrumentation.logging.handler")
    (tmp_path / "log").write_text("in the way")
    exporter = CometLogRecordExporter(data_dir=tmp_path / "log")
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=10))
    handler = handler_module.LoggingHandler(logger_provider=provider)
    logging.getLogger().addHandler(handler)
    try:
        for number in range(200):
            logging.getLogger("application").warning("line %d", number)
        wait_until(lambda: exporter.counters.refused_items == 200, "all records refused")
        provider.force_flush()
    finally:
        logging.getLogger().removeHandler(handler)
        provider.shutdown()
    assert exporter.counters.refused_items == 200
    own = [record for record in caplog.records if record.name.startswith("comet_otel")]
    assert len(own) == 1
