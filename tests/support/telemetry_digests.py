"""A digest of each span, log record and data point in a request, with everything that it says: equal if it is equal.

Resource, scope, and a metric's description belong to an item, wherever in a request they stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

_LENGTH = 20


def span_digests(request: Any) -> list[str]:
    """Return the digests of an ``ExportTraceServiceRequest``."""
    return [
        _digest(resource.resource, resource.schema_url, scope.scope, scope.schema_url, span)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def log_digests(request: Any) -> list[str]:
    """Return the digests of an ``ExportLogsServiceRequest``."""
    return [
        _digest(resource.resource, resource.schema_url, scope.scope, scope.schema_url, record)
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def point_digests(request: Any) -> list[str]:
    """Return the digests of an ``ExportMetricsServiceRequest``."""
    return list(_point_digests(request))


def _point_digests(request: Any) -> Iterator[str]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                facts = (
                    *(metric.name, metric.description, metric.unit, kind),
                    *(getattr(data, "aggregation_temporality", 0), getattr(data, "is_monotonic", False)),
                )
                for point in data.data_points:
                    yield _digest(
                        resource.resource, resource.schema_url, scope.scope, scope.schema_url, repr(facts), point
                    )


DIGESTS = {"traces": span_digests, "logs": log_digests, "metrics": point_digests}


def _digest(*parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part.SerializeToString(deterministic=True)
        found.update(len(data).to_bytes(4, "big"))
        found.update(data)
    return found.hexdigest()[:_LENGTH]
