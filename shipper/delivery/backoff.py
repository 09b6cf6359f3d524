"""How long to wait before the next try: growing, with jitter, without an end."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_GROWTH: Final = 2.0
_JITTER: Final = 0.5
"""Part of each pause that is random, so that many nodes do not come back in step after an outage."""

ASKED_PAUSE_MAX: Final = 3600.0
"""Longest pause in seconds that a collector can ask for; a wrong clock or a typing error must not stop delivery."""


@dataclass
class Backoff:
    """The pauses of one destination and signal.

    Attributes:
        first: seconds of the first pause after a success.
        longest: seconds that pauses grow to. There is no time after which it gives up.
        random: returns numbers from 0 up to 1; given by tests.
    """

    first: float
    longest: float
    random: Callable[[], float] = field(default=random.random, repr=False)
    _next: float = field(default=0.0, init=False)

    def pause(self, asked: float | None = None) -> float:
        """Return the seconds to wait after one more failure.

        Args:
            asked: seconds that the collector asked for; the pause is never shorter than this, up to `ASKED_PAUSE_MAX`.
        """
        base = min(max(self._next, self.first), self.longest)
        self._next = min(base * _GROWTH, self.longest)
        jittered = base * (1 - _JITTER + _JITTER * self.random())
        if asked is None:
            return jittered
        return min(asked, ASKED_PAUSE_MAX) + jittered * _JITTER

    def succeeded(self) -> None:
        """Start again from the first pause."""
        self._next = 0.0
