"""Instrumented services that are killed: each tells which of its spans or log records it may rely on."""

from __future__ import annotations

import os
import struct
import threading
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from comet_otel import CometLogRecordProcessor, CometSpanExporter, CometSpanProcessor
from comet_otel.streams import LOGS, TRACES
from comet_storage import Client, CometConfig, StorageConfig, shard_stream_name
from comet_storage.names import parse_stream

THREADS = 2
BATCH_SPANS = 64
_ID = struct.Struct("<Q")


def busy_config() -> CometConfig:
    """Segments that last for a moment only, and a flusher that is always at work."""
    return CometConfig(storage=StorageConfig(max_file_size=64 * 1024, sync_interval=0.02))


def end_spans(out: Connection, into: Connection, directory: str) -> None:
    """Several threads end spans, also within one another; each span is told of when its ``end`` has returned."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(CometSpanProcessor(data_dir=directory, config=busy_config()))
    tracer = provider.get_tracer("service", "1.0")

    def work(thread: int) -> None:
        number = 0
        while True:
            number += 1
            request = tracer.start_as_current_span("request", attributes={"thread": thread, "number": number})
            with request as outer:
                inner = tracer.start_span("query", attributes={"statement": "select " + "x, " * (number % 40)})
                inner.end()
                _tell(out, inner.get_span_context().span_id)
            _tell(out, outer.get_span_context().span_id)

    _run_threads(work)


def emit_log_records(out: Connection, into: Connection, directory: str) -> None:
    """Several threads emit log records; each is told of when ``emit`` has returned."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(CometLogRecordProcessor(data_dir=directory, config=busy_config()))
    logger = provider.get_logger("service")

    def work(thread: int) -> None:
        number = thread << 32
        salt = int.from_bytes(os.urandom(3), "big") << 40
        while True:
            number += 1
            logger.emit(body=f"{salt + number:x}", attributes={"thread": thread, "text": "x" * (number % 200)})
            _tell(out, salt + number)

    _run_threads(work)


def export_batches(out: Connection, into: Connection, directory: str) -> None:
    """Several threads end spans, which the SDK exports in batches; each batch is told of when ``export`` succeeded."""
    exporter = CometSpanExporter(data_dir=directory, config=busy_config())
    export = exporter.export

    def export_and_tell(spans: Any) -> SpanExportResult:
        result = export(spans)
        if result is SpanExportResult.SUCCESS:
            _tell(out, *(span.context.span_id for span in spans))
        return result

    exporter.export = export_and_tell  # type: ignore[method-assign]
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, schedule_delay_millis=5, max_export_batch_size=BATCH_SPANS)
    )
    tracer = provider.get_tracer("service", "1.0")

    def work(thread: int) -> None:
        pause = threading.Event()
        while True:
            for number in range(BATCH_SPANS):
                tracer.start_span("request", attributes={"thread": thread, "number": number}).end()
            pause.wait(0.002)  # the queue is bounded: a service that is faster than its exporter drops spans

    _run_threads(work)


def _run_threads(work: Any) -> None:
    for thread in range(1, THREADS):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    work(0)


def _tell(out: Connection, *ids: int) -> None:
    # Up to 512 ids are 4 KiB, which a pipe takes whole or not at all.
    os.write(out.fileno(), b"".join(map(_ID.pack, ids)))


def ids_told(data: bytes) -> list[int]:
    """What a child told."""
    return [found for (found,) in _ID.iter_unpack(data[: len(data) // 8 * 8])]


def stored_span_ids(directory: Path) -> Counter[int]:
    """How often each span is in a log."""
    spans = (
        span
        for data in _entries(directory, TRACES)
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )
    return Counter(int.from_bytes(span.span_id, "big") for span in spans)


def stored_log_ids(directory: Path) -> Counter[int]:
    """How often each log record is in a log; its body is its id."""
    records = (
        record
        for data in _entries(directory, LOGS)
        for resource in ExportLogsServiceRequest.FromString(data).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    )
    return Counter(int(record.body.string_value, 16) for record in records)


def _entries(directory: Path, stream: str) -> list[bytes]:
    with Client(directory, busy_config()) as client:
        return [
            message.data
            for shard in client.shards(stream)
            for message in client.scan(shard_stream_name(*parse_stream(stream), shard))
        ]
