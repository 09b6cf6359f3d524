"""Time as delivery uses it, so that a test can let two days pass in a second."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Where delivery gets its time from."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    def wall(self) -> float:
        """Return seconds since 1970."""

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Return when the event is set, or after that many seconds."""


class SystemClock:
    """The computer's time."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Return when the event is set, or after that many seconds."""
        event.wait(seconds)
