"""The bars of `run --once`."""

from __future__ import annotations

import io

from rich.console import Console

from shipper.progress_bar import ProgressBars
from tests.support.observations import observation, report


def shown_on(console: Console, *, wanted: bool = True) -> str:
    """Return what two observations make of a console."""
    with ProgressBars(shown=wanted, console=console) as bars:
        bars.show(observation(report(pending=10)))
        bars.show(observation(report(pending=3, delivered_entries=6, dead_lettered_entries=1)))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_a_terminal_gets_a_bar_for_each_stream_of_each_destination() -> None:
    """Entries done of those that were there, given up ones included."""
    assert "central traces:v1" in (found := shown_on(Console(file=io.StringIO(), force_terminal=True, width=100)))
    assert " 7/10" in found


def test_nothing_is_drawn_where_there_is_no_terminal_or_nobody_wants_it() -> None:
    """A log file is no place for bars, nor is a daemon's terminal."""
    assert shown_on(Console(file=io.StringIO())) == ""
    assert shown_on(Console(file=io.StringIO(), force_terminal=True), wanted=False) == ""
