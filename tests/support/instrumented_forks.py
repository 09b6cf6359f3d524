"""A process that forks again and again while its threads make telemetry, and children that make some as well."""

from __future__ import annotations

import logging
import multiprocessing
import os
import select
import sys
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from comet_otel import CometLogRecordProcessor, CometSpanExporter, CometSpanProcessor
from comet_otel.streams import LOGS, TRACES
from comet_storage import Client, CometConfig, ConcurrencyConfig, StorageConfig, shard_stream_name
from comet_storage.names import parse_stream
from tests.support.children import PATIENCE_SECONDS
from tests.support.forking import CHILDREN_AT_ONCE, FORKS
from tests.support.instrumented_child import busy_config

ITEMS_PER_CHILD = 3
QUIET_SECONDS = 300.0
"""Longest pause of the flusher."""
_PACE_SECONDS = 0.0005


def many_lanes(*, quiet: bool = False) -> CometConfig:
    """A lane for each process, so that none waits for another; `quiet`: a flusher that sleeps."""
    storage = StorageConfig(sync_interval=QUIET_SECONDS) if quiet else busy_config().storage
    return CometConfig(storage=storage, concurrency=ConcurrencyConfig(lanes=4 * CHILDREN_AT_ONCE))


class Telemetry:
    """Everything that a process may use at once, into one directory."""

    def __init__(self, directory: str, *, batches: bool = True, config: CometConfig | None = None) -> None:
        settings: dict[str, Any] = {"data_dir": directory, "config": config or many_lanes()}
        self._spans = TracerProvider(shutdown_on_exit=False)
        self._processors: tuple[Any, Any] = (CometSpanProcessor(**settings), CometLogRecordProcessor(**settings))
        self._spans.add_span_processor(self._processors[0])
        self._logs = LoggerProvider(shutdown_on_exit=False)
        self._logs.add_log_record_processor(self._processors[1])
        self._batches: TracerProvider | None = None
        if batches:
            self._batches = TracerProvider(shutdown_on_exit=False)
            self._batches.add_span_processor(BatchSpanProcessor(CometSpanExporter(**settings), max_queue_size=100_000))

    def make(self, name: str) -> list[str]:
        """Make one item of each kind; return the names of those that are stored by now."""
        self._spans.get_tracer("t").start_span(f"span {name}").end()
        self._logs.get_logger("t").emit(body=f"line {name}")
        if self._batches is not None:
            self._batches.get_tracer("t").start_span(f"batched {name}").end()
        return [f"span {name}", f"line {name}"]

    def check(self) -> None:
        """Nothing was refused."""
        assert [processor.counters.refused_items for processor in self._processors] == [0, 0]

    def flush(self) -> None:
        """Have the batches stored."""
        if self._batches is not None:
            assert self._batches.force_flush()

    def shut_down(self) -> None:
        """End everything; all of it must have been stored."""
        self.check()
        for provider in (self._spans, self._logs, self._batches):
            if provider is not None:
                provider.shutdown()


class Maker:
    """Makes telemetry in its own thread until told to stop."""

    def __init__(self, telemetry: Telemetry, name: str) -> None:
        self.made: list[str] = []
        self._telemetry, self._name = telemetry, name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """End, and return how many rounds were made."""
        self._stop.set()
        self._thread.join()
        return len(self.made) // 2

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(_PACE_SECONDS):
            self.made += self._telemetry.make(f"{self._name} {number}")
            number += 1


def fork_under_load(out: Connection, into: Connection, directory: str, forks: int, how: str) -> None:
    """Fork while two threads make telemetry; send the names of all that was made, and what went wrong."""
    logging.getLogger().addHandler(logging.NullHandler())
    sys.setswitchinterval(1e-4)
    fork = FORKS[how]
    bare = how == "c"
    # Where no hook runs, the child's interpreter itself hangs if another thread was waiting for the GIL; and the SDK's
    # batching processor has locks of its own, which only the hooks renew.
    telemetry = Telemetry(directory, batches=not bare, config=many_lanes(quiet=bare))
    makers = [Maker(telemetry, f"parent {number}") for number in range(0 if bare else 2)]
    problems: list[str] = []
    expected: list[str] = []
    living: dict[int, int] = {}

    def reap(most: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(living) > most:
            for descriptor in select.select(list(living), [], [], 1.0)[0]:
                data = os.read(descriptor, 1 << 16)
                os.close(descriptor)
                _, status = os.waitpid(living.pop(descriptor), 0)
                if status or not data:
                    problems.append(f"a child ended with status {status}: {data[-300:]!r}")
                expected.extend(data.decode().splitlines())
            if time.monotonic() > deadline:
                problems.append(f"{len(living)} children hang")
                return

    for number in range(forks):
        receiving, sending = os.pipe()
        pid = fork()
        if pid == 0:
            _live_as_child(sending, f"child {number}", telemetry)
        os.close(sending)
        living[receiving] = pid
        expected += telemetry.make(f"forking {number}")
        if not bare:
            expected.append(f"batched forking {number}")
        reap(CHILDREN_AT_ONCE - 1)
    reap(0)
    for maker in makers:
        rounds = maker.stop()
        expected += maker.made
        if not bare:
            name = maker.made[0].removeprefix("span ").removesuffix(" 0")
            expected += [f"batched {name} {number}" for number in range(rounds)]
    telemetry.shut_down()
    out.send((expected, problems))


def _live_as_child(out: int, name: str, telemetry: Telemetry) -> None:
    status = 1
    try:
        made = []
        for number in range(ITEMS_PER_CHILD):
            made += telemetry.make(f"{name} {number}")
        telemetry.check()
        if telemetry._batches is not None:
            telemetry.flush()
            made += [f"batched {name} {number}" for number in range(ITEMS_PER_CHILD)]
        os.write(out, "\n".join(made).encode())
        status = 0
    except BaseException as error:
        os.write(out, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(status)


def make_telemetry(directory: str, name: str, result: Any) -> None:
    """What a process of `multiprocessing` does: telemetry of its own, set up by itself unless it was inherited."""
    telemetry = _inherited[0] if _inherited else Telemetry(directory)
    made = []
    for number in range(ITEMS_PER_CHILD):
        made += telemetry.make(f"{name} {number}")
    telemetry.flush()
    result.put(made + [f"batched {name} {number}" for number in range(ITEMS_PER_CHILD)])


_inherited: list[Telemetry] = []


def use_multiprocessing(out: Connection, into: Connection, directory: str, method: str, processes: int) -> None:
    """Make telemetry here and in children that are started by `multiprocessing`; send the names of all of it."""
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # it has children
    telemetry = Telemetry(directory)
    if method == "fork":
        _inherited.append(telemetry)
    expected = telemetry.make("parent before")
    context = multiprocessing.get_context(method)
    result = context.Queue()
    children = [
        context.Process(target=make_telemetry, args=(directory, f"child {number}", result))
        for number in range(processes)
    ]
    for child in children:
        child.start()
    for _ in children:
        expected += result.get(timeout=PATIENCE_SECONDS)
    for child in children:
        child.join(PATIENCE_SECONDS)
    expected += telemetry.make("parent after")
    telemetry.flush()
    expected += ["batched parent before", "batched parent after"]
    telemetry.shut_down()
    out.send((expected, [f"exit code {child.exitcode}" for child in children if child.exitcode != 0]))


def stored_names(directory: Path) -> Counter[str]:
    """How often each span and line is in a log."""
    found = Counter[str]()
    with Client(directory, read_only=True) as client:
        for stream in (TRACES, LOGS):
            for shard in client.shards(stream):
                for message in client.scan(shard_stream_name(*parse_stream(stream), shard)):
                    found.update(_names_in(stream, message.data))
    return found


def _names_in(stream: str, data: bytes) -> list[str]:
    if stream == TRACES:
        request = ExportTraceServiceRequest.FromString(data)
        return [span.name for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]
    lines = ExportLogsServiceRequest.FromString(data)
    return [
        record.body.string_value
        for group in lines.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]
