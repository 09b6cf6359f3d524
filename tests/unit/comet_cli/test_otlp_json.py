"""Requests in OTLP's JSON: the receiver reads the same message from it as from the bytes."""

from __future__ import annotations

import json
import random

import pytest

from comet_cli.otlp_json import NotTelemetryError, parse_request, request_json
from comet_otel.receiver.json_transcoder import transcode
from comet_otel.streams import Signal
from tests.support.otlp_json import random_request


@pytest.mark.parametrize("signal", Signal)
def test_nothing_changes_on_the_way_through_json(signal) -> None:
    """For requests with every field and value that the generator of the receiver's tests knows."""
    chance = random.Random(signal.value)
    for _ in range(200):
        payload = random_request(signal, chance).SerializeToString()
        text = json.dumps(request_json(payload, signal))
        found = parse_request(transcode(signal, text.encode()), signal)
        # As bytes: not-a-number equals nothing.
        assert found.SerializeToString() == parse_request(payload, signal).SerializeToString()


def test_identifiers_are_hex_and_attributes_of_their_names_stay() -> None:
    """The key of an attribute is a value."""
    request = parse_request(b"", Signal.TRACES)
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=bytes(range(16)), span_id=b"12345678")
    span.attributes.add(key="traceId").value.string_value = "AAAA"
    found = request_json(request.SerializeToString(), Signal.TRACES)
    (written,) = found["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert written["traceId"] == "000102030405060708090a0b0c0d0e0f"
    assert written["attributes"] == [{"key": "traceId", "value": {"stringValue": "AAAA"}}]


def test_other_bytes_are_refused() -> None:
    """With an error that names the signal."""
    with pytest.raises(NotTelemetryError, match="no request of logs"):
        request_json(b"\xff\xff", Signal.LOGS)
