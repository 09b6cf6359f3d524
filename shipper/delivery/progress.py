"""How delivery of one stream to one destination goes: counters, state, and one log line whenever the state changes."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from shipper.delivery.clock import Clock
from shipper.outcome import Failure, Partial, Pause, Reject, Retry, Split

State: TypeAlias = Literal["starting", "idle", "delivering", "retrying", "paused", "standby", "stopped"]

_AVERAGE_SECONDS: Final = 10.0

_PARTIAL_SECONDS: Final = 1.0
"""What a destination says of declined items is told at most so often."""

_CONSEQUENCES: Final = {
    Retry: "the data is kept and sent again",
    Pause: "the destination or its configuration needs attention; the data is kept and sent again now and then",
    Reject: "the collector refuses this request; it is sent again in halves, and what is refused alone is put aside",
    Split: "the request is too large; it is sent again in parts",
}

_WORKING: Final = frozenset({"idle", "delivering"})


@dataclass(frozen=True)
class PipelineState:
    """What there is to know about a pipeline, at one moment. Counters are since the start of the process.

    Attributes:
        destination: the destination's name.
        signal: the signal's name.
        stream: the stream.
        state: ``starting``, ``idle`` (nothing to send), ``delivering``, ``retrying`` (the destination cannot take it
            now), ``paused`` (somebody has to mend something), ``standby`` (another shipper has all shards), or
            ``stopped``.
        reason: why it is retrying or paused, as code and message.
        since: since when it is in this state, in seconds since 1970.
        delivered_entries: entries of the log that were delivered.
        delivered_items: spans, log records or data points in them.
        delivered_bytes: bytes of them, before compression.
        delivered_requests: requests in which they went.
        rejected_items: items that the destination declined within delivered requests.
        dead_lettered_entries: entries that were given up, or of which pieces were.
        dead_lettered_items: items in what was given up.
        retried_requests: tries that ended without the destination having taken or judged the request.
        failed_requests: tries that it refused: paused, too large, rejected.
        duplicates_possible: requests that the destination may have got although it did not say so, and which were sent
            again.
        inflight_requests: requests under way.
        inflight_items: spans, log records or data points in them.
        last_success: when a request was last taken, in seconds since 1970.
        last_error: the last failure, as code and message.
        bytes_per_second: delivered bytes, averaged over some ten seconds.
        next_try: when the next try comes, in seconds since 1970; None where none is waited for.
    """

    destination: str
    signal: str
    stream: str
    state: State = "starting"
    reason: str = ""
    since: float = 0.0
    delivered_entries: int = 0
    delivered_items: int = 0
    delivered_bytes: int = 0
    delivered_requests: int = 0
    rejected_items: int = 0
    dead_lettered_entries: int = 0
    dead_lettered_items: int = 0
    retried_requests: int = 0
    failed_requests: int = 0
    duplicates_possible: int = 0
    inflight_requests: int = 0
    inflight_items: int = 0
    last_success: float | None = None
    last_error: str = ""
    bytes_per_second: float = 0.0
    next_try: float | None = None


class Progress:
    """Keeps the state of one pipeline. Its thread writes, any thread reads."""

    def __init__(self, logger: logging.Logger, destination: str, signal: str, stream: str, clock: Clock) -> None:
        """Begin with zeros."""
        self._logger = logger
        self._names = (destination, signal, stream)
        self._title = f"{destination}/{signal}" if stream.partition(":")[0] == signal else f"{destination}/{stream}"
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, Any] = dict.fromkeys(_COUNTERS, 0)
        self._state: State = "starting"
        self._reason, self._code = "", ""
        self._since = clock.wall()
        self._failing_since: float | None = None
        self._told: set[tuple[State, str]] = set()
        self._last_success: float | None = None
        self._last_error = ""
        self._rate, self._rate_at = 0.0, clock.monotonic()
        self._next_try: float | None = None
        self._partial_message: str | None = None
        self._partial_at = float("-inf")

    def snapshot(self) -> PipelineState:
        """Return the state as of now."""
        with self._lock:
            return PipelineState(
                *self._names,
                state=self._state,
                reason=self._reason,
                since=self._since,
                last_success=self._last_success,
                last_error=self._last_error,
                bytes_per_second=self._rate * math.exp(-self._rate_age() / _AVERAGE_SECONDS),
                next_try=self._next_try,
                **self._counts,
            )

    def count(self, counter: str, number: int = 1) -> None:
        """Add to one of the counters of `PipelineState`."""
        with self._lock:
            self._counts[counter] += number

    def in_flight(self, number: int) -> None:
        """Say how many requests are under way."""
        with self._lock:
            self._counts["inflight_requests"] = number

    def delivered(self, entries: int, items: int, size: int) -> None:
        """Count a request that the destination took."""
        with self._lock:
            self._counts["delivered_requests"] += 1
            self._counts["delivered_entries"] += entries
            self._counts["delivered_items"] += items
            self._counts["delivered_bytes"] += size
            self._last_success = self._clock.wall()
            age, self._rate_at = self._rate_age(), self._clock.monotonic()
            self._rate = self._rate * math.exp(-age / _AVERAGE_SECONDS) + size / _AVERAGE_SECONDS
        self.enter("delivering")

    def partial(self, outcome: Partial) -> None:
        """Count what the destination declined within a request that it took, and tell its message."""
        self.count("rejected_items", outcome.rejected_items)
        now = self._clock.monotonic()
        # A message that names what it is about is another one each time.
        if outcome.message != self._partial_message and now >= self._partial_at + _PARTIAL_SECONDS:
            self._partial_message, self._partial_at = outcome.message, now
            self._logger.warning(
                "%s: the collector declined %d items of a request: %s",
                self._title,
                outcome.rejected_items,
                outcome.message or "(it gave no reason)",
            )

    def failed(self, outcome: Failure) -> None:
        """Count a try that failed."""
        with self._lock:
            self._counts["retried_requests" if isinstance(outcome, Retry) else "failed_requests"] += 1
            self._last_error = _text(outcome)

    def trouble(self, state: Literal["retrying", "paused"], outcome: Failure, seconds: float) -> None:
        """Say that delivery waits, why, and for how long."""
        with self._lock:
            self._next_try = self._clock.wall() + seconds
        if self._enter(state, _text(outcome), outcome.code):
            self._logger.warning(
                "%s: cannot deliver: %s (%s); %s",
                self._title,
                outcome.code,
                outcome.message or "no details",
                _CONSEQUENCES[Pause if state == "paused" else type(outcome)],
            )

    def enter(self, state: State) -> None:
        """Say that delivery goes on, or has nothing to do."""
        before, failing_since = self._state, self._failing_since
        with self._lock:
            self._next_try = None
        if not self._enter(state, "", ""):
            return
        if failing_since is not None and state == "delivering":
            self._logger.info("%s: delivering again, after %.1f s", self._title, self._clock.wall() - failing_since)
        elif state == "standby":
            self._logger.info("%s: another shipper delivers this stream; standing by", self._title)
        elif before in {"starting", "standby"} and state == "delivering":
            self._logger.info("%s: delivering", self._title)

    def _enter(self, state: State, reason: str, code: str) -> bool:
        """Change the state; return whether it is another one, or has a reason that this outage did not have before."""
        with self._lock:
            changed = (state, code) != (self._state, self._code) and (state, code) not in self._told
            # From idle to delivering and back is no news, nor is another word for the same trouble.
            if state != self._state:
                self._since = self._clock.wall()
            if state in {"retrying", "paused"}:
                self._failing_since = self._failing_since or self._clock.wall()
                # A name with two addresses, of which each fails in its own way, fails by turns.
                self._told.add((state, code))
            elif state in _WORKING:
                self._failing_since = None
                self._told.clear()
            self._state, self._reason, self._code = state, reason, code
            return changed

    def _rate_age(self) -> float:
        return self._clock.monotonic() - self._rate_at


_COUNTERS: Final = tuple(name for name, kind in PipelineState.__annotations__.items() if kind == "int")


def _text(outcome: Failure) -> str:
    return f"{outcome.code}: {outcome.message}" if outcome.message else outcome.code
