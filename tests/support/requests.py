"""Takes OTLP requests apart, so that they can be compared however they were cut, joined or ordered on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import Message

from comet_otel.streams import Signal, route_of_signal
from comet_storage import Client, shard_stream_name
from comet_storage.names import parse_stream
from tests.support.otlp_json import REQUESTS

PARTS = {
    Signal.TRACES: ("resource_spans", "scope_spans", "spans"),
    Signal.METRICS: ("resource_metrics", "scope_metrics", "metrics"),
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records"),
}

Item = tuple[bytes, ...]
"""One span, log record or metric with all that is said about where it comes from."""


def items(signal: Signal, requests: Iterable[bytes]) -> Counter[Item]:
    """Return how often each item is in the requests."""
    return Counter(item for request in requests for item in _items(signal, REQUESTS[signal].FromString(request)))


def _items(signal: Signal, request: Message) -> Iterator[Item]:
    resources, scopes, leaves = PARTS[signal]
    for resource in getattr(request, resources):
        for scope in getattr(resource, scopes):
            for leaf in getattr(scope, leaves):
                yield (
                    resource.resource.SerializeToString(deterministic=True),
                    resource.schema_url.encode(),
                    scope.scope.SerializeToString(deterministic=True),
                    scope.schema_url.encode(),
                    leaf.SerializeToString(deterministic=True),
                )


def stored_requests(data_dir: Path, signal: Signal) -> list[bytes]:
    """Return all entries of a signal's stream."""
    stream = route_of_signal(signal).stream
    with Client(data_dir, read_only=True) as client:
        return [
            message.data
            for shard in client.shards(stream)
            for message in client.scan(shard_stream_name(*parse_stream(stream), shard))
        ]
