"""What a client counts: its writers' work, and what went wrong."""

from __future__ import annotations

from comet_storage._os.door import Door
from comet_storage.errors import LogFullError


class Problems:
    """The errors that a client met, in appends and in the background.

    Attributes:
        last: the latest one, None before the first.
        at: when that was, by the door's monotonic clock; ``at_ns`` by the wall clock.
        full: there was no room, and no append has been measured to succeed since.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self.count = 0
        self.last: BaseException | None = None
        self.at = 0.0
        self.at_ns = 0
        self.full = False

    def note(self, error: BaseException) -> None:
        """Count an error."""
        self.count += 1
        self.last = error.with_traceback(None)
        self.at = self._door.monotonic()
        self.at_ns = self._door.wall_clock_ns()
        self.full = self.full or isinstance(error, LogFullError)
