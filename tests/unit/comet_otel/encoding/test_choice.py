"""Who encodes: the direct encoder for the SDK that it knows, the stock encoder for every other."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.metrics.export import NumberDataPoint

from comet_otel.encoding import SPANS, _choice, _logs, _metrics, _spans, _stock
from tests.unit.comet_otel.telemetry import span


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch) -> None:
    """Begin as a process that has said nothing yet."""
    monkeypatch.setattr(_choice, "_reported", set())


def test_the_direct_encoder_is_used_for_the_installed_sdk(caplog) -> None:
    """It knows this version, finds its classes as it knows them, and says nothing."""
    assert _choice.codec("SPANS") is SPANS is _spans.CODEC
    assert _choice.codec("LOG_RECORDS") is _logs.CODEC
    assert _choice.codec("METRICS") is _metrics.CODEC
    assert caplog.messages == []


def test_an_unknown_version_is_left_to_the_stock_encoder_with_one_line(caplog) -> None:
    """All three signals work as before, and one line says why they cost more."""
    codecs = [_choice.codec(name, "1.46.0") for name in ("SPANS", "LOG_RECORDS", "METRICS")]
    assert [type(codec).__module__ for codec in codecs] == [_stock.__name__] * 3
    reason = "the direct encoder was tested with 1.45 only"
    assert caplog.messages == [f"opentelemetry-sdk 1.46.0: the slower stock encoder is used, because {reason}"]


@pytest.mark.parametrize("version", ["1.4.5", "1.450.0", "2.45.0", "1", "", "1.44.9"])
def test_versions_that_look_alike_are_unknown(version) -> None:
    """The minor version is compared as a whole."""
    assert _choice.codec("SPANS", version) is not SPANS


@pytest.mark.parametrize("version", ["1.45.0", "1.45.2", "1.45.0.dev"])
def test_bug_fixes_of_a_known_version_are_known(version) -> None:
    """They change no classes."""
    assert _choice.codec("SPANS", version) is SPANS


def _with_another_field(original: type) -> type:
    def construct(self, *arguments, **keywords) -> None:
        original.__init__(self, *arguments, **keywords)
        self._new_field = 1

    return type(original.__name__, (original,), {"__init__": construct})


@pytest.mark.parametrize("name", ["ReadableSpan", "Event", "Link", "Status"])
def test_a_class_with_a_new_field_is_left_to_the_stock_encoder(monkeypatch, caplog, name) -> None:
    """What the direct encoder has never heard of it would leave out in silence."""
    monkeypatch.setattr(_spans, name, _with_another_field(getattr(_spans, name)))
    codec = _choice.codec("SPANS")
    assert type(codec).__module__ == _stock.__name__
    assert len(caplog.messages) == 1
    assert f"TypeError: {name} has the fields" in caplog.messages[0]
    assert codec.encode([span(1)]).payloads == SPANS.encode([span(1)]).payloads


def test_a_data_point_with_a_new_field_is_left_to_the_stock_encoder(monkeypatch) -> None:
    """As for spans; the other signals are not touched."""
    known = NumberDataPoint.__dataclass_fields__
    field = copy.copy(known["value"])
    field.name = "flags"
    monkeypatch.setattr(NumberDataPoint, "__dataclass_fields__", {**known, "flags": field})
    assert type(_choice.codec("METRICS")).__module__ == _stock.__name__
    assert _choice.codec("SPANS") is SPANS


@pytest.mark.parametrize("name", ["SPANS", "LOG_RECORDS", "METRICS"])
def test_a_container_that_keeps_its_attributes_elsewhere_is_left_to_the_stock_encoder(monkeypatch, name) -> None:
    """Every signal has attributes."""

    def construct(self, maxlen=None, attributes=None, immutable=True, max_value_len=None) -> None:
        self._elsewhere = dict(attributes or {})
        self.dropped = 0

    monkeypatch.setattr(BoundedAttributes, "__init__", construct)
    assert type(_choice.codec(name)).__module__ == _stock.__name__


def test_a_span_whose_property_says_something_else_is_left_to_the_stock_encoder(monkeypatch) -> None:
    """A private field with the old name and another meaning is noticed as well."""
    monkeypatch.setattr(_spans.ReadableSpan, "start_time", property(lambda self: self._start_time * 1000))
    assert type(_choice.codec("SPANS")).__module__ == _stock.__name__


WITH_THE_SDK_OF = """
import logging, sys
import opentelemetry.sdk.version
opentelemetry.sdk.version.__version__ = sys.argv[1]
logging.basicConfig(format="%(name)s: %(message)s")
from comet_otel.encoding import encode_logs, encode_metrics, encode_spans
from opentelemetry.sdk.metrics.export import MetricsData
from tests.unit.comet_otel.telemetry import log_record, metrics_data, span
for number in range(3):
    for payload in encode_spans([span(1), span(2)]), encode_logs([log_record("x")]), encode_metrics(metrics_data()):
        print(len(payload), "google.protobuf" in sys.modules)
"""


@pytest.mark.slow
def test_a_process_with_another_sdk_encodes_the_same_and_says_so_once() -> None:
    """The stock encoder, and protobuf with it, is loaded there and nowhere else."""

    def run(version: str) -> tuple[list[list[str]], str]:
        child = subprocess.run(
            [sys.executable, "-c", WITH_THE_SDK_OF, version], check=True, capture_output=True, text=True, timeout=60
        )
        return [line.split() for line in child.stdout.splitlines()], child.stderr

    known, silence = run("1.45.2")
    unknown, line = run("1.46.0")
    assert [length for length, _ in known] == [length for length, _ in unknown]
    assert {loaded for _, loaded in known} == {"False"}
    assert {loaded for _, loaded in unknown} == {"True"}
    assert silence == ""
    assert line.count("\n") == 1
    assert line.startswith("comet_otel.encoding._choice: opentelemetry-sdk 1.46.0: the slower stock encoder is used")
