"""How fast a destination is fed: within limits, slowly after an outage, and less when it says that it is too much.

One pace is shared by all pipelines of a destination. A request books its time: it may go at once, or when those before
it have had theirs.
"""

from __future__ import annotations

import threading
from typing import Final

from shipper.delivery.clock import Clock
from shipper.settings import PacingConfig

START_BYTES_PER_SECOND: Final = 256 * 1024.0
"""What a destination gets in the first second after an outage; it doubles every second."""

LEAST_BYTES_PER_SECOND: Final = 16 * 1024.0
"""Throttling never goes below this."""

FAST_BYTES_PER_SECOND: Final = 256 * 1024 * 1024.0
"""A limit that has grown to this is none any more."""

_BURST_SECONDS: Final = 0.25
"""What was not used so long ago may still be used."""

_GROWTH_SECONDS: Final = 1.0
_LINEAR_GROWTH: Final = 0.1
_AVERAGE_SECONDS: Final = 5.0


class Pace:
    """The speed limit of one destination. Safe to use from several threads."""

    def __init__(self, config: PacingConfig, clock: Clock) -> None:
        """Begin with the configured limits alone."""
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._limit: float | None = None
        self._known_good = FAST_BYTES_PER_SECOND
        self._grown_at = 0.0
        self._free_at = float("-inf")
        self._request_free_at = float("-inf")
        self._measured, self._measured_at = 0.0, clock.monotonic()

    def bytes_per_second(self) -> float | None:
        """Return the limit that holds now; None for none."""
        with self._lock:
            return self._current()

    def book(self, size: int) -> float:
        """Book a request of that many bytes, and return when it may go, by the monotonic clock."""
        with self._lock:
            return self._book(size)

    def book_if_free(self, size: int) -> float | None:
        """Book a request that may go now; None if none may, and `free_at` says when.

        For what is not urgent: it does not stand in the way of what is urgent and comes a moment later.
        """
        with self._lock:
            return self._book(size) if self._free() <= self._clock.monotonic() else None

    def free_at(self) -> float:
        """Return when the next request may go, by the monotonic clock."""
        with self._lock:
            return self._free()

    def _free(self) -> float:
        limited = self._current() is not None
        return max(self._free_at if limited else float("-inf"), self._request_free_at)

    def _book(self, size: int) -> float:
        now = self._clock.monotonic()
        start = now
        limit, requests = self._current(), self._config.max_requests_per_second
        if limit is not None:
            free_at = max(self._free_at, now - _BURST_SECONDS)
            start, self._free_at = max(start, free_at), free_at + size / limit
        if requests is not None:
            free_at = max(self._request_free_at, now - _BURST_SECONDS)
            start, self._request_free_at = max(start, free_at), free_at + 1 / requests
        return start

    def succeeded(self, size: int) -> None:
        """Take note of a request that the destination took; a limit grows by it."""
        with self._lock:
            now = self._clock.monotonic()
            decay = max(0.0, 1 - (now - self._measured_at) / _AVERAGE_SECONDS)
            self._measured = self._measured * decay + size / _AVERAGE_SECONDS
            self._measured_at = now
            if self._limit is None or now - self._grown_at < _GROWTH_SECONDS:
                return
            self._grown_at = now
            if self._limit < self._known_good:
                self._limit = min(2 * self._limit, max(self._known_good, 1.0))
            else:
                self._limit += max(_LINEAR_GROWTH * self._limit, LEAST_BYTES_PER_SECOND)
            ceiling = self._config.max_bytes_per_second or FAST_BYTES_PER_SECOND
            if self._limit >= ceiling:
                self._limit, self._known_good = None, FAST_BYTES_PER_SECOND

    def throttled(self) -> None:
        """The destination asked for less: half of what it got."""
        with self._lock:
            now = self._clock.monotonic()
            if self._limit is not None and now - self._grown_at < _GROWTH_SECONDS:
                return  # one answer to several requests that were under way at the same time
            got = self._limit if self._limit is not None else max(self._measured, START_BYTES_PER_SECOND)
            self._limit = self._known_good = max(got / 2, LEAST_BYTES_PER_SECOND)
            self._grown_at = now

    def back_after_outage(self) -> None:
        """Begin slowly: everybody comes back at the same time, and the destination has just been put on its feet."""
        if not self._config.slow_start:
            return
        with self._lock:
            self._limit = START_BYTES_PER_SECOND
            self._grown_at = self._clock.monotonic()
            self._free_at = max(self._free_at, self._grown_at)

    def _current(self) -> float | None:
        limits = [float(limit) for limit in (self._limit, self._config.max_bytes_per_second) if limit is not None]
        return min(limits, default=None)
