"""Temporality and aggregation by argument and by the standard variables."""

from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.common._internal.metrics_encoder import OTLPMetricExporterMixin
from opentelemetry.sdk.metrics import Histogram
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, ExponentialBucketHistogramAggregation

from comet_otel import _metric_preferences as preferences
from comet_storage import ConfigError

TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
AGGREGATION = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"


@pytest.mark.parametrize("preference", ["cumulative", "delta", "lowmemory"])
def test_temporality_is_that_of_the_stock_exporters(monkeypatch, preference) -> None:
    """By argument and by variable, in any case of letters, each preference means what it means elsewhere."""
    monkeypatch.setenv(TEMPORALITY, preference.upper())
    stock = OTLPMetricExporterMixin()._get_temporality({})
    assert preferences.temporality(None) == stock
    monkeypatch.delenv(TEMPORALITY)
    assert preferences.temporality(preference) == stock


def test_aggregation_of_histograms_follows_argument_and_variable(monkeypatch) -> None:
    """The argument wins over the variable, and explicit buckets are the default."""
    assert isinstance(preferences.aggregation(None)[Histogram], ExplicitBucketHistogramAggregation)
    monkeypatch.setenv(AGGREGATION, "base2_exponential_bucket_histogram")
    assert isinstance(preferences.aggregation(None)[Histogram], ExponentialBucketHistogramAggregation)
    explicit = preferences.aggregation("explicit_bucket_histogram")
    assert isinstance(explicit[Histogram], ExplicitBucketHistogramAggregation)


def test_wrong_variables_warn_and_wrong_arguments_raise(monkeypatch, caplog) -> None:
    """A deployment survives a misspelt variable; code with a wrong argument does not."""
    monkeypatch.setenv(TEMPORALITY, "sometimes")
    assert preferences.temporality(None) == preferences.temporality("cumulative")
    assert TEMPORALITY in caplog.text
    with pytest.raises(ConfigError, match="temporality_preference"):
        preferences.temporality("sometimes")
    with pytest.raises(ConfigError, match="default_histogram_aggregation"):
        preferences.aggregation("buckets")
    with pytest.raises(ConfigError, match="temporality_preference is 5"):
        preferences.temporality(5)  # type: ignore[arg-type]
