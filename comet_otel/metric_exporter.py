"""Exporter of metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

from comet_otel import _metric_preferences, encoding
from comet_otel._export import PipelineExporter
from comet_otel.streams import Signal

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from datetime import timedelta

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData
    from opentelemetry.sdk.metrics.view import Aggregation

    from comet_storage import CometConfig


class CometMetricExporter(PipelineExporter, MetricExporter):
    """Stores metrics in a log on the local disk, from which ``comet-shipper`` forwards them.

    When `export` returns success, the data points survive the death of every process on the node. It never raises an
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
        preferred_temporality: dict[type, AggregationTemporality] | None = None,
        preferred_aggregation: dict[type, Aggregation] | None = None,
        temporality_preference: str | None = None,
        default_histogram_aggregation: str | None = None,
    ) -> None:
        """Join the log in `data_dir`; the first seven arguments are those of `CometSpanExporter`.

        Args:
            data_dir: directory of the log.
            durability: ``process`` or ``always``.
            compression: ``zstd`` or ``none``.
            max_total_size: bytes that the log may take on disk.
            max_age: seconds after which data goes.
            meter_provider: what the exporter reports about itself to.
            config: complete configuration of the log.
            preferred_temporality: temporality per instrument class; wins over `temporality_preference` for its classes.
            preferred_aggregation: aggregation per instrument class; wins over `default_histogram_aggregation`.
            temporality_preference: ``cumulative``, ``delta`` or ``lowmemory``. Default:
                ``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE``, else ``cumulative``.
            default_histogram_aggregation: ``explicit_bucket_histogram`` or ``base2_exponential_bucket_histogram``.
                Default: ``OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION``, else the former.

        Raises:
            ConfigError: an argument has a wrong value.
        """
        super().__init__(
            preferred_temporality={
                **_metric_preferences.temporality(temporality_preference),
                **(preferred_temporality or {}),
            },
            preferred_aggregation={
                **_metric_preferences.aggregation(default_histogram_aggregation),
                **(preferred_aggregation or {}),
            },
        )
        self._start(
            Signal.METRICS,
            encoding.METRICS,
            meter_provider,
            data_dir=data_dir,
            durability=durability,
            compression=compression,
            max_total_size=max_total_size,
            max_age=max_age,
            config=config,
        )

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:  # noqa: ARG002
        """Store a batch of metrics. The limit of time is not needed: nothing here waits."""
        return MetricExportResult.SUCCESS if self._pipeline.export(metrics_data) else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Make durable what was stored; return whether that was done within `timeout_millis` milliseconds."""
        return super().force_flush(timeout_millis)
