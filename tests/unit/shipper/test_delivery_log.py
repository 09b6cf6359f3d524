"""What the shipper says about its work."""

from __future__ import annotations

import logging

import pytest

from shipper.delivery_log import DeliveryLog
from shipper.outcome import Partial, Pause, Retry


@pytest.fixture
def log(caplog) -> DeliveryLog:
    """Return a log whose clock advances by a second per look."""
    caplog.set_level(logging.INFO)
    times = iter(range(1000))
    return DeliveryLog(logging.getLogger("shipper.test"), "traces", "http://c:4317", clock=lambda: float(next(times)))


def test_a_line_is_written_per_change_and_not_per_try(log, caplog) -> None:
    """An outage of a week is two lines: its beginning and its end."""
    log.delivered(10, 1000)
    log.delivered(10, 1000)
    for _ in range(500):
        log.failed(Retry("UNAVAILABLE", "connection refused"))
    log.delivered(10, 1000)
    assert caplog.messages == [
        "traces: delivering to http://c:4317",
        "traces: cannot deliver to http://c:4317: UNAVAILABLE (connection refused); the data is kept and sent again",
        "traces: delivering again, after 1.0 s",
    ]
    assert log.counters.failures == 500
    assert (log.counters.requests, log.counters.entries, log.counters.bytes) == (3, 30, 3000)


def test_a_new_reason_for_failing_is_a_change(log, caplog) -> None:
    """From unreachable to unauthorized is something to know; new details of the same reason are not."""
    log.failed(Retry("UNAVAILABLE", "connection refused by 10.0.0.1:1234"))
    log.failed(Retry("UNAVAILABLE", "connection refused by 10.0.0.1:5678"))
    log.failed(Pause("UNAUTHENTICATED", "token expired"))
    assert len(caplog.messages) == 2
    assert "needs attention" in caplog.messages[1]


def test_items_declined_within_a_request_are_counted_and_their_reason_is_told_once(log, caplog) -> None:
    """Partial success is not retried, so this is the only trace that it leaves."""
    log.partial(Partial(3, "too old"))
    log.partial(Partial(4, "too old"))
    log.partial(Partial(0, "please upgrade"))
    assert log.counters.rejected_items == 7
    assert caplog.messages == [
        "traces: the collector declined 3 items of a request: too old",
        "traces: the collector declined 0 items of a request: please upgrade",
    ]
