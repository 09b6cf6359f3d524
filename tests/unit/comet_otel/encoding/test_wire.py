"""The wire format: lengths and numbers of every size."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common import trace_encoder
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from comet_otel.encoding import _wire, encode_spans
from tests.unit.comet_otel.telemetry import span

EDGES = [number + step for bits in range(0, 64, 7) for number in [1 << bits] for step in (-1, 0, 1)]


@pytest.mark.parametrize("number", [*EDGES, 2**63, 2**64 - 1])
def test_varints_of_every_length_are_those_of_protobuf(number) -> None:
    """One byte more for every seven bits."""
    written = _wire.varint(number)
    assert ExponentialHistogramDataPoint.Buckets.FromString(
        b"\x12" + bytes((len(written),)) + written
    ).bucket_counts == [number]
    assert len(written) == max(1, -(-number.bit_length() // 7))


@example(2**63 - 1)
@example(-(2**63))
@given(st.integers(-(2**63), 2**63 - 1))
def test_signed_integers_are_those_of_protobuf(number) -> None:
    """Negative ones take ten bytes."""
    assert b"\x18" + _wire.varint_int64(number) == AnyValue(int_value=number).SerializeToString()


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**100])
def test_integers_beyond_64_bits_are_refused(number) -> None:
    """They are never cut."""
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        _wire.varint_int64(number)


@given(st.integers(-(2**31), 2**31 - 1))
def test_zigzag_integers_are_those_of_protobuf(number) -> None:
    """Zero is left out."""
    assert _wire.sint32_field(b"\x30", number) == ExponentialHistogramDataPoint(scale=number).SerializeToString()


@given(st.integers(-(2**31), 2**31 - 1))
def test_enumerations_are_those_of_protobuf(number) -> None:
    """Unknown and negative numbers included."""
    assert _wire.enum_field(b"\x30", number) == Span(kind=number).SerializeToString()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "length", [0, 1, 127, 128, 255, 256, 511, 512, 513, 4_095, 4_096, 4_097, 16_383, 16_384, 2**21]
)
def test_texts_of_every_length_are_whole(length) -> None:
    """Whether or not their heads and themselves are worth keeping."""
    texts = {"key": "v" * length, "list": ("e" * length,), "k" * (length or 1): 1, "map": {"a": "m" * length}}
    one = span(1, name="n" * length, attributes=texts)
    for batch in ([one], [one], [one, one]):
        assert encode_spans(batch) == trace_encoder.encode_spans(batch).SerializeToString()
