"""Which temporality and aggregation a metric reader is to use, from an argument or the standard variables."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION,
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE,
)
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)

import comet_storage
from comet_otel._logging import warn

if TYPE_CHECKING:
    from collections.abc import Collection

    from opentelemetry.sdk.metrics.view import Aggregation

_INSTRUMENTS: Final = (
    Counter,
    UpDownCounter,
    Histogram,
    ObservableCounter,
    ObservableUpDownCounter,
    ObservableGauge,
)

_DELTA_INSTRUMENTS: Final[dict[str, tuple[type, ...]]] = {
    "cumulative": (),
    "delta": (Counter, Histogram, ObservableCounter),
    "lowmemory": (Counter, Histogram),
}
"""Instruments that report increments under each preference; up-down counters never do, as the specification says."""

_HISTOGRAM_AGGREGATIONS: Final[dict[str, type[Aggregation]]] = {
    "explicit_bucket_histogram": ExplicitBucketHistogramAggregation,
    "base2_exponential_bucket_histogram": ExponentialBucketHistogramAggregation,
}

_logger = logging.getLogger(__name__)


def temporality(preference: str | None) -> dict[type, AggregationTemporality]:
    """Return the temporality of every instrument class under a preference, by default the variable's.

    Raises:
        ConfigError: the preference is given and is none of ``cumulative``, ``delta`` and ``lowmemory``.
    """
    name = _choice(
        preference,
        "temporality_preference",
        OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE,
        _DELTA_INSTRUMENTS,
    )
    delta = _DELTA_INSTRUMENTS[name]
    return {
        instrument: AggregationTemporality.DELTA if instrument in delta else AggregationTemporality.CUMULATIVE
        for instrument in _INSTRUMENTS
    }


def aggregation(histogram_aggregation: str | None) -> dict[type, Aggregation]:
    """Return the aggregation of histograms by its standard name, by default the variable's.

    Raises:
        ConfigError: the name is given and is not one of the two standard ones.
    """
    name = _choice(
        histogram_aggregation,
        "default_histogram_aggregation",
        OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION,
        _HISTOGRAM_AGGREGATIONS,
    )
    return {Histogram: _HISTOGRAM_AGGREGATIONS[name]()}


def _choice(argument: object, argument_name: str, variable: str, choices: Collection[str]) -> str:
    default = next(iter(choices))
    rule = f"must be one of {', '.join(choices)}"
    if argument is not None:
        if not isinstance(argument, str) or argument.lower() not in choices:
            raise comet_storage.ConfigError(f"{argument_name} is {argument!r}: {rule}")
        return argument.lower()
    name = os.environ.get(variable, "").strip().lower() or default
    if name not in choices:
        warn(_logger, "the environment variable %s is %r and %s is used: %s", variable, name, default, rule)
        return default
    return name
