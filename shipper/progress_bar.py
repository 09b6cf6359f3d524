"""The progress bar of ``run --once``, where there is a terminal to show it on."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from shipper.observation import Observation

if TYPE_CHECKING:
    from typing_extensions import Self


class ProgressBars:
    """One bar per stream and destination: entries delivered of those that were there, and that came meanwhile."""

    def __init__(self, *, shown: bool, console: Console | None = None) -> None:
        """Show nothing unless it is wanted and standard error is a terminal."""
        console = console or Console(stderr=True)
        self._bars: dict[tuple[str, str], TaskID] = {}
        self._progress: Progress | None = None
        if shown and console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("entries"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, observation: Observation) -> None:
        """Bring the bars up to what was observed."""
        if self._progress is None:
            return
        for report in observation.pipelines:
            state = report.state
            key = (state.destination, state.stream)
            done = state.delivered_entries + state.dead_lettered_entries
            if key not in self._bars:
                self._bars[key] = self._progress.add_task(f"{state.destination} {state.stream}")
            self._progress.update(self._bars[key], completed=done, total=done + report.pending)
