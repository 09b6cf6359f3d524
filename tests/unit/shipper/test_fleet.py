"""Which streams a destination is sent, and what becomes of destinations when settings change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from comet_otel.streams import LOGS, METRICS, TRACES, Signal
from comet_storage import Client
from demo.processes import free_port
from shipper.endpoint import parse_endpoint
from shipper.fleet import Fleet, routes
from shipper.settings import DestinationConfig, RetryConfig, ShipperConfig, SignalConfig


def destination(name: str, **options) -> DestinationConfig:
    """Return a destination where nobody listens."""
    endpoint = parse_endpoint(f"http://127.0.0.1:{free_port()}")
    signals = tuple(SignalConfig(signal=signal, endpoint=endpoint) for signal in Signal)
    return DestinationConfig(
        **{"name": name, "group": f"shipper-{name}", "signals": signals, "retry": RetryConfig(longest=0.5), **options}
    )


def test_a_destination_gets_the_standard_stream_of_each_of_its_signals() -> None:
    """In OpenTelemetry's order."""
    assert [route.stream for route in routes(destination("all"))] == [TRACES, METRICS, LOGS]
    one = destination("one", signals=destination("all").signals[2:])
    assert [(route.stream, route.http_path) for route in routes(one)] == [(LOGS, "v1/logs")]


def test_streams_that_are_named_are_sent_and_no_others() -> None:
    """Each as the signal that it holds."""
    named = destination("named", streams=(("shop:v2", Signal.TRACES), (LOGS, Signal.LOGS)))
    assert [(route.stream, route.http_path) for route in routes(named)] == [("shop:v2", "v1/traces"), (LOGS, "v1/logs")]


@pytest.mark.slow
def test_only_destinations_that_changed_are_exchanged(tmp_path) -> None:
    """The others keep their pipelines; what all have in common changes all."""
    stays, changes, goes = destination("stays"), destination("changes"), destination("goes")
    config = ShipperConfig(data_dir=Path(tmp_path / "log"), destinations=(stays, changes, goes))
    with Client(config.data_dir) as client:
        client.append(f"{TRACES}:shard:0000", [b""])
        fleet = Fleet(client, config)
        fleet.tend()
        try:
            before = {run.config.name: run for run in fleet._runs}
            new = replace(config, destinations=(replace(changes, window=2), stays, destination("comes")))
            fleet.apply(fleet.prepare(new))
            after = {run.config.name: run for run in fleet._runs}
            assert list(after) == ["changes", "stays", "comes"]
            assert after["stays"] is before["stays"]
            assert after["changes"] is not before["changes"]
            assert [report.alive for report in fleet.reports()] == [True] * 3
            assert [report.state.state for report in before["goes"].reports()] == ["stopped"]
            fleet.apply(fleet.prepare(replace(new, assignment=(0, 2))))
            assert fleet._runs[1] is not after["stays"]
        finally:
            fleet.stop()
        assert fleet.dead() == []
        assert {report.state.state for report in fleet.reports()} == {"stopped"}


def test_nothing_is_drained_before_the_log_was_looked_into(tmp_path) -> None:
    """A run that is to end with the backlog does not end because it could not see any."""
    with Client(tmp_path / "log") as client:
        fleet = Fleet(client, ShipperConfig(data_dir=tmp_path / "log", destinations=(destination("one"),), once=True))
        try:
            assert not fleet.drained()
            fleet.tend()
            assert fleet.drained()
        finally:
            fleet.stop()
