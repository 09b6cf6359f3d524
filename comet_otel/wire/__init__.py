"""OTLP requests as bytes: counted, joined and split without message classes.

An ``Export*ServiceRequest`` of any signal is a list of resources, each a list of scopes, each a list of items (spans,
log records, metrics); a metric is again a list of data points. All of it is repeated, length-delimited protobuf fields,
so that whoever knows the few field numbers can move whole items about without looking into them.

Nothing here knows the OpenTelemetry SDK, or needs a protobuf library.
"""

from __future__ import annotations

from comet_otel.wire.coalescing import coalesce
from comet_otel.wire.counting import count_items
from comet_otel.wire.fields import Field, MalformedError, encode_field, encode_varint, is_framed, walk
from comet_otel.wire.splitting import Part, split_request

__all__ = [
    "Field",
    "MalformedError",
    "Part",
    "coalesce",
    "count_items",
    "encode_field",
    "encode_varint",
    "is_framed",
    "split_request",
    "walk",
]
