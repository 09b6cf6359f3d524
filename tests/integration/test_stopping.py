"""Stopping the shipper: within seconds, whatever the collector does, and without losing anything."""

from __future__ import annotations

import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from demo.processes import HOST, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STOP_SECONDS_MAX = 9.0


@pytest.fixture
def black_hole() -> Iterator[socket.socket]:
    """Return a listener that accepts connections and never answers."""
    with socket.create_server((HOST, 0)) as listener:
        yield listener


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_delivering_shipper_and_loses_nothing(node, number) -> None:
    """In the middle of the backlog; the next run delivers the rest, and nothing twice."""
    application = node.start_application(rounds=400)
    wait_until(lambda: not application.alive(), "end of the application")
    node.start_collector("--work-seconds", "0.05")
    shipper = node.start_shipper("--max-request-bytes", "2048")
    node.wait_until_received(3, shipper)
    begin = time.monotonic()
    assert shipper.signal(number) == 0
    assert time.monotonic() - begin < STOP_SECONDS_MAX
    assert any(report.lost for report in node.reports()), "it was to be stopped in the middle"
    again = node.start_shipper()
    node.wait_until_drained(again)
    assert again.stop() == 0
    node.assert_nothing_lost()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_signal_stops_a_shipper_whose_collector_does_not_answer(node, black_hole, protocol) -> None:
    """Requests in flight are abandoned after a few seconds; they stay in the log."""
    application = node.start_application(rounds=50)
    wait_until(lambda: not application.alive(), "end of the application")
    endpoint = f"http://{HOST}:{black_hole.getsockname()[1]}"
    shipper = node.start_shipper("--timeout", "60", endpoint=endpoint, protocol=protocol)
    connection, _ = black_hole.accept()
    begin = time.monotonic()
    assert shipper.stop() == 0
    assert time.monotonic() - begin < STOP_SECONDS_MAX
    connection.close()
    node.start_collector()
    again = node.start_shipper()
    node.wait_until_drained(again)
    assert again.stop() == 0
    node.assert_nothing_lost()


def test_a_signal_stops_a_shipper_that_waits(node) -> None:
    """For a log that does not exist, or for the end of a pause."""
    shipper = node.start_shipper()
    wait_until(lambda: "waiting for a log" in shipper.last_words(), "line about waiting", shipper)
    assert shipper.stop() == 0
    node.start_application(rounds=1)
    shipper = node.start_shipper("--retry-max", "3600")
    wait_until(lambda: "cannot deliver" in shipper.last_words(), "failure", shipper)
    begin = time.monotonic()
    assert shipper.stop() == 0
    assert time.monotonic() - begin < STOP_SECONDS_MAX


def test_once_tells_that_it_was_stopped_before_the_end(node) -> None:
    """With exit code 1, so that a script knows that not everything was delivered."""
    application = node.start_application(rounds=10)
    wait_until(lambda: not application.alive(), "end of the application")
    shipper = node.start_shipper("--once")
    wait_until(lambda: "cannot deliver" in shipper.last_words(), "failure", shipper)
    assert shipper.stop() == 1
