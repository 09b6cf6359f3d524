"""What the exporters report about themselves and about the log, and when they keep silent."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.environment_variables import OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from comet_otel import CometLogRecordExporter, CometMetricExporter, CometSpanExporter, _log_metrics, shared_client
from comet_otel.streams import TRACES
from comet_storage import Client, Consumer, LogFullError, RetentionConfig
from tests.unit.comet_otel.telemetry import log_record, metrics_data, span

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def enabled(monkeypatch) -> None:
    """Switch the SDK's own metrics on."""
    monkeypatch.setenv(OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED, "true")


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """Return a reader to collect by hand."""
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader) -> Iterator[MeterProvider]:
    """Return a meter provider with that reader."""
    made = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    yield made
    made.shutdown()


@pytest.fixture(autouse=True)
def _this_test_s_logs_alone(tmp_path, monkeypatch) -> None:
    """Leave out logs that exporters of other tests have still open."""
    everybody = shared_client.all_clients
    monkeypatch.setattr(
        shared_client, "all_clients", lambda: [each for each in everybody() if each.data_dir.is_relative_to(tmp_path)]
    )


def collected(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Collect, and return the data points of each metric."""
    data = reader.get_metrics_data()
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found.setdefault(metric.name, []).extend(metric.data.data_points)
    return found


def values(points: list[Any], key: str | None = None) -> dict[Any, Any]:
    """Return the value of each data point, by one of its attributes."""
    return {point.attributes.get(key) if key else None: point.value for point in points}


CASES = [
    (CometSpanExporter, "span", lambda: [span(1), span(2)], 2),
    (CometLogRecordExporter, "log", lambda: [log_record("a"), log_record("b")], 2),
    (CometMetricExporter, "metric_data_point", lambda: metrics_data(counters=2, points=3), 6),
]


@pytest.mark.parametrize(("exporter_class", "item", "batch", "count"), CASES)
@pytest.mark.usefixtures("enabled")
def test_exports_are_reported_by_the_semantic_conventions(
    tmp_path, reader, provider, exporter_class, item, batch, count
) -> None:
    """Items exported and in flight, the duration, and a component that is named by its class and a number."""
    exporter = exporter_class(data_dir=tmp_path, meter_provider=provider)
    exporter.export(batch())
    exporter.export(batch())
    found = collected(reader)
    (exported,) = found[f"otel.sdk.exporter.{item}.exported"]
    assert exported.value == 2 * count
    assert "error.type" not in exported.attributes
    assert exported.attributes["otel.component.type"] == f"comet_otel.{exporter_class.__name__}"
    name, _, number = exported.attributes["otel.component.name"].partition("/")
    assert name == f"comet_otel.{exporter_class.__name__}"
    assert number.isdecimal()
    assert values(found[f"otel.sdk.exporter.{item}.inflight"]) == {None: 0}
    (duration,) = found["otel.sdk.exporter.operation.duration"]
    assert duration.count == 2
    exporter.shutdown()


@pytest.mark.usefixtures("enabled")
def test_failed_exports_are_reported_with_the_kind_of_error(tmp_path, monkeypatch, reader, provider) -> None:
    """Refused by the log, left out by the encoder, and come after shutdown: each is told from the other."""
    exporter = CometSpanExporter(data_dir=tmp_path, meter_provider=provider)
    exporter.export([span(1), span(2, name=object()), span(3)])
    with monkeypatch.context() as patched:

        def refuse(*_: object) -> None:
            raise LogFullError("no room")

        patched.setattr(exporter._pipeline._client, "append", refuse)
        exporter.export([span(4)])

        def break_down(*_: object) -> None:
            raise RuntimeError("a bug")

        patched.setattr(exporter._pipeline._client, "append", break_down)
        exporter.export([span(5)])
    exporter.shutdown()
    exporter.export([span(6), span(7)])
    found = collected(reader)
    assert values(found["otel.sdk.exporter.span.exported"], "error.type") == {
        None: 2,
        "unencodable": 1,
        "LogFullError": 1,
        "RuntimeError": 1,
        "already_shutdown": 2,
    }
    assert values(found["otel.sdk.exporter.span.inflight"]) == {None: 0}


def test_nothing_is_reported_unless_the_sdk_s_own_metrics_are_on(tmp_path, reader, provider) -> None:
    """As for every component of the SDK, the variable is the switch."""
    exporter = CometSpanExporter(data_dir=tmp_path, meter_provider=provider)
    exporter.export([span(1)])
    exporter.shutdown()
    assert collected(reader) == {}


@pytest.mark.usefixtures("enabled")
def test_the_state_of_the_log_is_reported(tmp_path, monkeypatch, reader, provider) -> None:
    """Size and bound, what was appended, what each group has still to get, and what became of the rest."""
    monkeypatch.setattr(_log_metrics, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(_log_metrics, "PATIENCE_SECONDS", 30.0)
    exporter = CometSpanExporter(data_dir=tmp_path, max_total_size="64 MiB", meter_provider=provider)
    second = CometLogRecordExporter(data_dir=tmp_path, max_total_size="64 MiB", meter_provider=provider)
    with Client(tmp_path) as client, Consumer(client, group="shipper", stream=TRACES) as consumer:
        for number in range(1, 6):
            exporter.export([span(number)])
        messages = consumer.read()
        consumer.ack(*[message.id for message in messages[:2]])
        consumer.reject(messages[2].id, reason="no")
        found = collected(reader)
        assert values(found["comet.log.bytes"], "comet.log.directory")[str(tmp_path)] == client.allocated_bytes()
    assert values(found["comet.log.bound"], "comet.log.directory") == {str(tmp_path): 64 * 2**20}
    assert values(found["comet.log.appended"]) == {None: 5}
    assert values(found["comet.log.writable"]) == {None: 1}
    assert values(found["comet.log.errors"]) == {None: 0}
    for name, count in {"pending": 2, "delivered": 2, "rejected": 1, "evicted": 0, "lost": 0, "corrupt": 0}.items():
        (point,) = found[f"comet.log.entries.{name}"]
        assert point.value == count, name
        assert point.attributes == {
            "comet.log.directory": str(tmp_path),
            "comet.log.stream": TRACES,
            "comet.log.group": "shipper",
        }
    (age,) = found["comet.log.pending.age"]
    assert 0 < age.value < 3600
    exporter.shutdown()
    second.shutdown()
    assert "comet.log.bytes" not in collected(reader)


@pytest.mark.usefixtures("enabled")
def test_a_log_that_does_not_answer_costs_a_collection_a_moment_and_is_reported_as_it_was(
    tmp_path, monkeypatch, reader, provider
) -> None:
    """A stalled disk does not stall the metrics of the whole application."""
    exporter = CometSpanExporter(data_dir=tmp_path, meter_provider=provider)
    exporter.export([span(1)])
    monkeypatch.setattr(_log_metrics, "PATIENCE_SECONDS", 30.0)
    before = values(collected(reader)["comet.log.appended"])
    assert before == {None: 1}

    monkeypatch.setattr(_log_metrics, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(_log_metrics, "FRESH_SECONDS", 60.0)
    latest = _log_metrics._measurements._latest
    for shared, (_, figures) in list(latest.items()):
        latest[shared] = float("-inf"), figures
    answer, asked = threading.Event(), []

    def stall(client: Client) -> None:
        asked.append(client)
        answer.wait(30)

    monkeypatch.setattr(_log_metrics, "_measured", stall)
    began = time.monotonic()
    assert values(collected(reader)["comet.log.appended"]) == before
    assert time.monotonic() - began < 10
    assert len(asked) == 1  # not once per instrument
    answer.set()
    exporter.shutdown()


@pytest.mark.usefixtures("enabled")
def test_measurements_are_shared_by_the_instruments_of_one_collection(tmp_path, monkeypatch, reader, provider) -> None:
    """A collection asks the log once."""
    monkeypatch.setattr(_log_metrics, "PATIENCE_SECONDS", 30.0)
    monkeypatch.setattr(_log_metrics, "FRESH_SECONDS", 60.0)
    asked = []
    original = _log_metrics._measured
    monkeypatch.setattr(_log_metrics, "_measured", lambda client: (asked.append(client), original(client))[1])
    exporter = CometSpanExporter(data_dir=tmp_path, meter_provider=provider)
    exporter.export([span(1)])
    assert len(collected(reader)) > 5
    assert len(asked) == 1
    exporter.shutdown()


@pytest.mark.usefixtures("enabled")
def test_a_meter_provider_that_fails_costs_the_metrics_and_not_the_exporter(tmp_path, caplog) -> None:
    """An application that hands over something else still has its spans stored."""
    exporter = CometSpanExporter(data_dir=tmp_path, meter_provider=object())
    assert exporter.export([span(1)]).name == "SUCCESS"
    assert "no metrics about storing traces" in caplog.text
    exporter.shutdown()


def test_the_bound_in_force_is_the_one_of_whoever_made_the_log(tmp_path) -> None:
    """Another opener's different bound is not used, and not told."""
    exporter = CometSpanExporter(data_dir=tmp_path, max_total_size="64 MiB")
    exporter.shutdown()
    with Client(tmp_path) as client:
        assert client.max_total_size() == 64 * 2**20 != RetentionConfig().max_total_size
