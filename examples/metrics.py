"""Metrics, collected every few seconds and stored on disk.

    python examples/metrics.py ./telemetry

Delta temporality suits short jobs and restarts: each collection says what was added since the one before.
"""

from __future__ import annotations

import sys

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from comet_otel import CometMetricExporter


def main() -> None:
    """Measure some work."""
    data_dir = sys.argv[1] if len(sys.argv) > 1 else "./telemetry"
    exporter = CometMetricExporter(data_dir=data_dir, temporality_preference="delta")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=5_000)
    provider = MeterProvider(resource=Resource.create({"service.name": "fridge"}), metric_readers=[reader])
    meter = provider.get_meter("fridge")

    openings = meter.create_counter("door.openings", unit="{opening}")
    duration = meter.create_histogram("door.open.duration", unit="s")

    def temperature(_: CallbackOptions) -> list[Observation]:
        return [Observation(4.5, {"shelf": "top"})]

    meter.create_observable_gauge("temperature", callbacks=[temperature], unit="Cel")
    for seconds in (2.5, 7.0, 1.25):
        openings.add(1)
        duration.record(seconds)
    # The provider collects a last time at the end of the program by itself.


if __name__ == "__main__":
    main()
