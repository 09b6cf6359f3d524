"""Exporter of log records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from comet_otel import encoding
from comet_otel._export import PipelineExporter
from comet_otel._logging import is_own_line
from comet_otel.streams import Signal

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from opentelemetry.metrics import MeterProvider
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
        compression: str | None = None,
        max_total_size: float | str | None = None,
        max_age: float | timedelta | str | None = None,
        meter_provider: MeterProvider | None = None,
        config: CometConfig | Mapping[str, Any] | str | None = None,
    ) -> None:
        """Join the log in `data_dir`; the arguments are those of `CometSpanExporter`.

        Raises:
            ConfigError: an argument has a wrong value.
        """
        self._start(
            Signal.LOGS,
            encoding.LOG_RECORDS,
            meter_provider,
            data_dir=data_dir,
            durability=durability,
            compression=compression,
            max_total_size=max_total_size,
            max_age=max_age,
            config=config,
        )

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Store a batch of log records."""
        stored = self._pipeline.export(_foreign(batch))
        return LogRecordExportResult.SUCCESS if stored else LogRecordExportResult.FAILURE


def _foreign(batch: Sequence[ReadableLogRecord]) -> Sequence[ReadableLogRecord]:
    """Return the records that are not this distribution's own lines."""
    try:
        return [record for record in batch if not _is_own(record)]
    except Exception:  # noqa: BLE001 - what this is can be no batch; the pipeline refuses and counts it
        return batch


def _is_own(record: ReadableLogRecord) -> bool:
    scope = record.instrumentation_scope
    return scope is not None and is_own_line(scope.name)
