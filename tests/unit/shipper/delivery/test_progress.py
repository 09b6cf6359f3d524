"""One line per change of state, whatever an outage looks like."""

from __future__ import annotations

import logging

from shipper.delivery.clock import SystemClock
from shipper.delivery.progress import Progress
from shipper.outcome import Partial, Pause, Retry
from tests.support.delivery import ManualClock

LOGGER = logging.getLogger("progress-test")


def test_an_outage_with_two_faces_is_told_twice_and_not_at_every_try(caplog) -> None:
    """A name with two addresses, of which each fails in its own way, fails by turns; the next outage is news again."""
    caplog.set_level(logging.INFO, LOGGER.name)
    progress = Progress(LOGGER, "central", "traces", "traces:v1", SystemClock())
    for _ in range(2):
        for _ in range(10):
            progress.trouble("retrying", Retry("UNAVAILABLE", "connection refused"), 1.0)
            progress.trouble("paused", Pause("certificate refused", "who is that?"), 1.0)
        assert progress.snapshot().state == "paused"
        assert "certificate refused" in progress.snapshot().reason
        progress.delivered(1, 1, 100)
    lines = [record.message for record in caplog.records]
    assert sum("cannot deliver: UNAVAILABLE" in line for line in lines) == 2
    assert sum("cannot deliver: certificate refused" in line for line in lines) == 2
    assert sum("delivering again" in line for line in lines) == 2


def test_messages_about_declined_items_that_differ_each_time_do_not_flood_the_log(caplog) -> None:
    """One a second is told; all of them are counted."""
    caplog.set_level(logging.INFO, LOGGER.name)
    clock = ManualClock()
    progress = Progress(LOGGER, "central", "traces", "traces:v1", clock)
    for number in range(1000):
        progress.partial(Partial(1, f"span {number} is too old"))
        clock.now += 0.01
    assert 5 <= len(caplog.records) <= 15
    assert progress.snapshot().rejected_items == 1000
