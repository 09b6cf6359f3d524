"""How many bytes of requests the pipelines of one process hold together, so that its memory has a bound."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

HELD_BYTES_MAX: Final = 20 * 1024 * 1024
"""What a window of four requests of the default size takes, and one that is read ahead. The memory is up to
twice that, since gRPC makes a copy of what it sends."""


class Budget:
    """Shared by the pipelines of a process."""

    def __init__(self, most: int = HELD_BYTES_MAX) -> None:
        """Let them hold so many bytes together."""
        self._most = most
        self._lock = threading.Lock()
        self._held: dict[object, int] = {}

    def take(self, holder: object, held: int, more: int) -> bool:
        """Have one that holds so many bytes hold so many more, if that is within the limit; return whether it is.

        One that holds nothing is always let through, so that each of them gets on.
        """
        with self._lock:
            self._held[holder] = held
            if held and sum(self._held.values()) + more > self._most:
                return False
            self._held[holder] += more
            return True

    def note(self, holder: object, held: int) -> None:
        """Take note of what one holds."""
        with self._lock:
            self._held[holder] = held
            if not held:
                del self._held[holder]


class Share:
    """One pipeline's part of a budget."""

    def __init__(self, budget: Budget, held: Callable[[], int]) -> None:
        """Ask ``held`` how many bytes the pipeline holds."""
        self._budget = budget
        self._held = held

    def take(self, more: int) -> bool:
        """Return whether so many bytes may be read."""
        return self._budget.take(self, self._held(), more)

    def note(self) -> None:
        """Look again at what is held."""
        self._budget.note(self, self._held())
