"""Exporter of spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from comet_otel import encoding
from comet_otel._export import ExportPipeline, PipelineExporter
from comet_otel.config import load_config
from comet_otel.streams import Signal, route_of_signal

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

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
        max_total_size: int | str | None = None,
        config: CometConfig | None = None,
    ) -> None:
        """Join the log in `data_dir`; one that cannot be opened is reported, and tried again later.

        Args:
            data_dir: directory of the log. Default: ``COMET_DATA_DIR``, else ``/var/lib/comet`` for root and
                ``comet-otel`` in the user's state directory for others.
            durability: ``process``, safe from the death of every process at once and from a power cut after a second
                (default), or ``always``, safe from both before `export` returns. Default: ``COMET_DURABILITY``.
            max_total_size: bytes that the log may take on disk, also as text such as ``512 MiB``. Default:
                ``COMET_MAX_TOTAL_SIZE``, else 1 GiB or a tenth of the volume, whichever is less.
            config: complete configuration of the log instead of one derived from these.

        Raises:
            ConfigError: an argument has a wrong value.
        """
        settings = load_config(data_dir=data_dir, durability=durability, max_total_size=max_total_size, config=config)
        self._pipeline = ExportPipeline(route_of_signal(Signal.TRACES), encoding.SPANS, settings)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Store a batch of spans."""
        return SpanExportResult.SUCCESS if self._pipeline.export(spans) else SpanExportResult.FAILURE
