"""How the package reports its own trouble."""

from __future__ import annotations

import logging

import pytest

from comet_otel._logging import QUIET_SECONDS, TroubleLog, is_own_line


class ManualClock:
    """Time that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock to move by hand."""
    return ManualClock()


@pytest.fixture
def trouble(clock) -> TroubleLog:
    """Return a report that goes by that clock."""
    return TroubleLog(logging.getLogger("comet_otel.test"), "the disk", clock=clock)


def test_first_failure_is_reported_at_once_and_the_rest_in_summary(trouble, clock, caplog) -> None:
    """A thousand failures in a minute are two lines."""
    for _ in range(1000):
        trouble.failed("is slow")
    assert caplog.messages == ["the disk: is slow"]
    clock.now = QUIET_SECONDS
    trouble.failed("is slow")
    assert caplog.messages[1:] == ["the disk: is slow (1000 failures since the last line)"]


def test_recovery_is_reported_once(trouble, caplog) -> None:
    """The end of a reported trouble is worth one line, and success without trouble none."""
    trouble.recovered()
    assert caplog.messages == []
    trouble.failed("is full")
    trouble.recovered()
    trouble.recovered()
    assert caplog.messages == ["the disk: is full", "the disk: works again"]


def test_trouble_that_comes_and_goes_is_limited_too(trouble, caplog) -> None:
    """Alternating failure and success cannot write more than two lines in the quiet time."""
    for _ in range(100):
        trouble.failed("is full")
        trouble.recovered()
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("scope", "own"),
    [
        ("comet_otel", True),
        ("comet_otel._export", True),
        ("comet_storage.engine", True),
        ("comet_other", False),
        ("my.comet_otel", False),
        ("", False),
    ],
)
def test_own_lines_are_told_by_the_name_of_their_logger(scope, own) -> None:
    """Only this distribution's own loggers are meant, not names that look alike."""
    assert is_own_line(scope) is own
