"""Exporter of spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from comet_otel import encoding
from comet_otel._export import PipelineExporter
from comet_otel.streams import Signal

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace import ReadableSpan

    from comet_storage import CometConfig


class CometSpanExporter(PipelineExporter, SpanExporter):
    """Stores spans in a log on the local disk, from which ``comet-shipper`` forwards them.

    When `export` returns success, the spans survive the death of every process on the node. It never raises an
    exception and never waits for a network.
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
        """Join the log in `data_dir`; one that cannot be opened is reported, and tried again later.

        Sizes and durations may be text, as in declarative configuration.

        Args:
            data_dir: directory of the log. Default: ``COMET_DATA_DIR``, else ``/var/lib/comet`` for root and
                ``comet-otel`` in the user's state directory for others.
            durability: ``process``, safe from the death of every process at once and from a power cut after a second
                (default), or ``always``, safe from both before `export` returns. Default: ``COMET_DURABILITY``.
            compression: ``zstd`` or ``none``. Default: ``COMET_COMPRESSION``, else ``zstd``.
            max_total_size: bytes that the log may take on disk, also as text such as ``512 MiB``. Default:
                ``COMET_MAX_TOTAL_SIZE``, else 1 GiB or a tenth of the volume, whichever is less.
            max_age: seconds after which data goes, also as text such as ``7d``; 0 for no limit. Default:
                ``COMET_MAX_AGE``, else no limit.
            meter_provider: what the exporter reports about itself to, if
                ``OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED`` is ``true``. Default: the global one.
            config: complete configuration of the log instead of one derived from these; also as a mapping of its
                sections, or as JSON text of one.

        Raises:
            ConfigError: an argument has a wrong value.
        """
        self._start(
            Signal.TRACES,
            encoding.SPANS,
            meter_provider,
            data_dir=data_dir,
            durability=durability,
            compression=compression,
            max_total_size=max_total_size,
            max_age=max_age,
            config=config,
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Store a batch of spans."""
        return SpanExportResult.SUCCESS if self._pipeline.export(spans) else SpanExportResult.FAILURE
