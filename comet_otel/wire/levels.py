"""Which fields of an OTLP request hold the next level: resources, scopes, items, and a metric's data points."""

from __future__ import annotations

from typing import Final

from comet_otel.streams import Signal

RESOURCES: Final = frozenset({1})
SCOPES: Final = frozenset({2})
ITEMS: Final = frozenset({2})
METRIC_DATA: Final = frozenset({5, 7, 9, 10, 11})
"""Gauge, sum, histogram, exponential histogram, summary; a metric has one of them."""
DATA_POINTS: Final = frozenset({1})

_ITEM_LEVELS: Final = (RESOURCES, SCOPES, ITEMS)

LEVELS: Final = {
    Signal.TRACES: _ITEM_LEVELS,
    Signal.LOGS: _ITEM_LEVELS,
    Signal.METRICS: (*_ITEM_LEVELS, METRIC_DATA, DATA_POINTS),
}
"""From the request down to what is counted and cannot be split: spans, log records, data points."""
