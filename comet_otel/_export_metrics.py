"""The exporters' own metrics, by the semantic conventions for SDK components (``otel.sdk.exporter.*``).

Off unless ``OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED`` is ``true``, as the SDK's own are. *Exported* means stored in
the log: what becomes of it on the way to a collector is the shipper's to tell.
"""

from __future__ import annotations

import collections
import os
import time
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import get_meter_provider
from opentelemetry.sdk.environment_variables import OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from comet_otel.streams import Signal

METER_NAME: Final = "opentelemetry-sdk"
"""What all components of the SDK report under."""

UNENCODABLE: Final = "unencodable"
"""``error.type`` of items that cannot be expressed in OTLP; that of others is the class of the error."""

_ITEMS: Final = {
    "traces": ("span", "{span}"),
    "logs": ("log", "{log_record}"),
    "metrics": ("metric_data_point", "{data_point}"),
}
"""By signal: what its items are called in the metrics' names, and their unit."""

_instances: Final[collections.Counter[str]] = collections.Counter()


def are_enabled() -> bool:
    """Say whether components of the SDK are to report about themselves."""
    return os.environ.get(OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED, "").strip().lower() == "true"


class ExportMetrics:
    """What one exporter reports about itself."""

    def __init__(self, signal: Signal, component_type: str, meter_provider: MeterProvider | None) -> None:
        """Make the instruments; `meter_provider` is by default the global one, also one that is set later."""
        item, unit = _ITEMS[signal.value]
        number = _instances[component_type]
        _instances[component_type] += 1
        self._attributes = {
            "otel.component.type": component_type,
            "otel.component.name": f"{component_type}/{number}",
        }
        meter = (meter_provider or get_meter_provider()).get_meter(METER_NAME)
        self._inflight = meter.create_up_down_counter(
            f"otel.sdk.exporter.{item}.inflight",
            unit=unit,
            description="The number of items which were passed to the exporter, but that have not been exported yet.",
        )
        self._exported = meter.create_counter(
            f"otel.sdk.exporter.{item}.exported",
            unit=unit,
            description="The number of items for which the export has finished, either successful or failed.",
        )
        self._duration = meter.create_histogram(
            "otel.sdk.exporter.operation.duration",
            unit="s",
            description="The duration of exporting a batch of telemetry records.",
        )

    def begin(self, items: int) -> float:
        """Note that an export of so many items begins; return what `end` is to be given."""
        self._inflight.add(items, self._attributes)
        return time.perf_counter()

    def end(self, began: float, items: int, *, unencodable: int, error_type: str | None) -> None:
        """Note what became of them: `unencodable` were left out, the others were stored or met the error."""
        took = time.perf_counter() - began
        self._inflight.add(-items, self._attributes)
        outcome = self._attributes if error_type is None else {**self._attributes, "error.type": error_type}
        if items > unencodable:
            self._exported.add(items - unencodable, outcome)
        if unencodable:
            self._exported.add(unencodable, {**self._attributes, "error.type": UNENCODABLE})
        self._duration.record(took, outcome)
