"""A timer's signal whose handler a test chooses, put back afterwards."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def alarm_actions() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Yield what sets the action of a timer's signal."""
    before = signal.getsignal(signal.SIGALRM)

    def install(action: Callable[[], None]) -> None:
        def handle(number: int, frame: FrameType | None) -> None:
            action()

        signal.signal(signal.SIGALRM, handle)

    try:
        yield install
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
