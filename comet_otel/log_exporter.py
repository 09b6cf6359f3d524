"""Exporter of log records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from comet_otel import encoding
from comet_otel._export import ExportPipeline, PipelineExporter
from comet_otel._logging import is_own_line
from comet_otel.config import load_config
from comet_otel.streams import Signal, route_of_signal

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord

    from comet_storage import CometConfig


class CometLogRecordExporter(PipelineExporter, LogRecordExporter):
    """Stores log records in a log on the local disk, from which ``comet-shipper`` forwards them.

    When `export` returns success, the records survive the death of every process on the node. It never raises an
    exception and never waits for a network. Lines that this distribution itself logs are left out, so that trouble
    with storing records cannot make more records to store.
    """

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        durability: str | None = None,
        max_total_size: int | str | None = None,
        config: CometConfig | None = None,
    ) -> None:
        """Join the log in `data_dir`; the arguments are those of `CometSpanExporter`.

        Raises:
            ConfigError: an argument has a wrong value.
        """
        settings = load_config(data_dir=data_dir, durability=durability, max_total_size=max_total_size, config=config)
        self._pipeline = ExportPipeline(route_of_signal(Signal.LOGS), encoding.LOG_RECORDS, settings)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Store a batch of log records."""
        foreign = [record for record in batch if not _is_own(record)]
        return LogRecordExportResult.SUCCESS if self._pipeline.export(foreign) else LogRecordExportResult.FAILURE


def _is_own(record: ReadableLogRecord) -> bool:
    scope = record.instrumentation_scope
    return scope is not None and is_own_line(scope.name)
