"""Processor that stores log records the moment they are emitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord

from comet_otel import encoding
from comet_otel._interruptions import let_through
from comet_otel._logging import is_own_line
from comet_otel._processor import CrashProofProcessor
from comet_otel.streams import Signal

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from datetime import timedelta

    from opentelemetry.metrics import MeterProvider

    from comet_storage import CometConfig


class CometLogRecordProcessor(CrashProofProcessor[ReadWriteLogRecord], LogRecordProcessor):
    """Stores each log record before the call that emitted it returns, in a log on the local disk.

    The last lines before a crash are on the disk, as with `CometSpanProcessor`. Lines that this distribution itself
    logs are left out, so that trouble with storing records cannot make more records to store.
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
        super().__init__()
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

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Store the record as it is now; what processors behind this one change in it is not seen."""
        try:
            scope = log_record.instrumentation_scope
            own = scope is not None and is_own_line(scope.name)
        except Exception as error:  # noqa: BLE001 - one made by hand: the encoder tells what is wrong with it
            let_through(error)
            own = False
        if own:
            return
        # A readable record has the same fields, and costs as much to make as storing it.
        self._store(log_record)
