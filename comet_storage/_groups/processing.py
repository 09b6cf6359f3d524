"""Handing a group's messages to a handler, batch by batch, with every shard on its own.

What a shard is doing is one of three things: its next batch is read and handed over; a batch failed and waits for its
next try; a batch was handed over in manual mode and waits to be acknowledged. A shard that waits holds up no other one.
Nothing is acknowledged before the handler returned, so whatever ends the loop, at any instant, costs at most handing
the same messages over once more.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from comet_storage._os.door import Door
from comet_storage.config import seconds
from comet_storage.errors import AckError, CometError, InvalidArgumentError
from comet_storage.types import MessageID, StreamMessage

Handler = Callable[[list[StreamMessage]], object]
OnError = Callable[[Exception, int], object]
OnBatch = Callable[[int, float], object]
DeadLetter = Callable[[list[StreamMessage], Exception], object]

PAUSE_MIN = 0.01
"""Shorter delays and intervals are taken for this: no failing handler and no idle loop keeps a processor busy."""
RETRY_DELAY_MAX = 60.0
"""Pauses grow to this, or to ``retry_delay`` if that is more."""
_STOP_LOOK_SECONDS = 0.05
_REASON_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """How to process; what each means is told at ``Consumer.process``."""

    shards: tuple[int, ...] | None = None
    batch_size: int = 100
    max_retries: int = 3
    poll_interval: float | timedelta = 0.1
    retry_delay: float | timedelta = 1.0
    auto_ack: bool = True
    on_error: OnError | None = None
    on_batch: OnBatch | None = None
    assignment: tuple[int, int] | None = None
    dead_letter: DeadLetter | None = None
    stop: threading.Event | None = None

    def validate(self) -> None:
        """Check every option.

        Raises:
            InvalidArgumentError: naming every wrong one at once.
        """
        problems = []
        if not _is_whole(self.batch_size) or self.batch_size < 1:
            problems.append(f"batch_size is {self.batch_size!r}: must be a whole number from 1 on")
        if not _is_whole(self.max_retries) or self.max_retries < 0:
            problems.append(f"max_retries is {self.max_retries!r}: must be a whole number from 0 on")
        for name, value in (("poll_interval", self.poll_interval), ("retry_delay", self.retry_delay)):
            if not _is_duration(value) or not seconds(value) >= 0:
                problems.append(f"{name} is {value!r}: must be 0 seconds or more")
        hooks = {"on_error": self.on_error, "on_batch": self.on_batch, "dead_letter": self.dead_letter}
        problems += [f"{name} is {hook!r}: must be callable, or None" for name, hook in hooks.items() if _no_hook(hook)]
        if self.assignment is not None and not _is_assignment(self.assignment):
            problems.append(f"assignment is {self.assignment!r}: must be (id, total) with 0 <= id < total")
        if self.stop is not None and not callable(getattr(self.stop, "is_set", None)):
            problems.append(f"stop is {self.stop!r}: must be an event, or None")
        if problems:
            raise InvalidArgumentError("; ".join(problems))

    def wants(self, shard: int) -> bool:
        """Whether a shard is this process's share."""
        return self.assignment is None or shard % self.assignment[1] == self.assignment[0]


class Source(Protocol):
    """The consumer that the messages come from."""

    def shards(self) -> list[int]:
        """Numbers of the shards that exist."""

    def read(self, shards: Iterable[int] | None = None, count: int = 100) -> list[StreamMessage]:
        """Unacknowledged messages, none where another consumer has the shard."""

    def ack(self, *ids: MessageID) -> None:
        """Mark as delivered."""

    def reject(self, *ids: MessageID, reason: str) -> None:
        """Mark as given up."""

    def is_settled(self, shard: int, end: int) -> bool:
        """Whether nothing below ``end`` is pending in a shard."""


@dataclass
class _ShardState:
    """Where one shard is."""

    failures: int = 0
    """How often the handler failed with the batch in hand."""
    pauses: int = 0
    """How often the shard was made to wait for it."""
    not_before: float = float("-inf")
    end: int | None = None
    """The number behind the batch in hand; None when the next one is to be read."""
    awaiting: bool = False
    """The handler returned, and did not acknowledge all of the batch in hand."""


class Processing:
    """One run of ``Consumer.process``."""

    def __init__(self, source: Source, door: Door, handler: Handler, options: ProcessOptions) -> None:
        self._source = source
        self._door = door
        self._handler = handler
        self._options = options
        self._poll_interval = max(PAUSE_MIN, seconds(options.poll_interval))
        self._retry_delay = max(PAUSE_MIN, seconds(options.retry_delay))
        self._states: dict[int, _ShardState] = {}
        self._turn = 0

    def run(self) -> None:
        """Process until stopped."""
        while not self._stopped():
            handed = False
            for shard in self._shards():
                if self._stopped():
                    return
                handed = self._step(shard) or handed
            if not handed:
                self._pause()

    def _shards(self) -> list[int]:
        """The shards of this process, beginning with another one each time."""
        try:
            found = self._source.shards() if self._options.shards is None else self._options.shards
        except CometError as error:
            self._raise_unless_retryable(error)
            self._report(error, 0)
            found = list(self._states)
        shards = sorted(shard for shard in set(found) if self._options.wants(shard))
        if shards:
            self._turn = (self._turn + 1) % len(shards)
        return shards[self._turn :] + shards[: self._turn]

    def _step(self, shard: int) -> bool:
        """Give one shard its turn; returns whether the handler was called."""
        state = self._states.setdefault(shard, _ShardState())
        if state.awaiting and state.end is not None and self._source.is_settled(shard, state.end):
            state = self._begin_anew(shard)
        if self._door.monotonic() < state.not_before:
            return False
        try:
            messages = self._source.read([shard], self._options.batch_size)
        except CometError as error:
            self._raise_unless_retryable(error)
            self._report(error, state.failures)
            self._delay(state)
            return False
        if state.end is not None:
            # The same batch again, without what is done with by now and what came meanwhile.
            messages = [message for message in messages if message.id.entry_number < (state.end or 0)]
        if not messages:
            self._begin_anew(shard)
            return False
        state.end = messages[-1].id.entry_number + 1
        state.awaiting = False
        started = self._door.monotonic()
        if self._hand_over(shard, state, messages) and self._options.on_batch is not None:
            self._options.on_batch(len(messages), self._door.monotonic() - started)
        return True

    def _hand_over(self, shard: int, state: _ShardState, messages: list[StreamMessage]) -> bool:
        """Call the handler; returns whether the shard is through with the batch, or waits for acknowledgements."""
        ids = [message.id for message in messages]
        try:
            self._handler(messages)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything; it is reported, and tried again
            state.failures += 1
            self._report(error, state.failures - 1)
            if state.failures <= self._options.max_retries or not self._gave_up(messages, ids, error, state):
                self._delay(state)
                return False
            self._begin_anew(shard)
            return True
        if self._options.auto_ack:
            try:
                self._source.ack(*ids)
            except CometError as error:
                self._raise_unless_retryable(error)
                self._report(error, state.failures)
                self._delay(state)
                return False
        if self._source.is_settled(shard, state.end or 0):
            self._begin_anew(shard)
        else:
            state.awaiting = True
            self._delay(state)
        return True

    def _gave_up(
        self, messages: list[StreamMessage], ids: Sequence[MessageID], error: Exception, state: _ShardState
    ) -> bool:
        """Hand a batch that failed too often to the dead-letter hook, and let it leave the group if that took it."""
        if self._options.dead_letter is None:
            return False
        try:
            self._options.dead_letter(messages, error)
            self._source.reject(*ids, reason=f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS])
        except Exception as failure:
            if isinstance(failure, AckError):
                raise
            self._report(failure, state.failures)
            return False
        return True

    def _begin_anew(self, shard: int) -> _ShardState:
        state = self._states[shard] = _ShardState()
        return state

    def _delay(self, state: _ShardState) -> None:
        """Let the shard wait: each time twice as long, within a limit, and never in step with other processes."""
        state.pauses += 1
        longest = max(RETRY_DELAY_MAX, self._retry_delay)
        pause = min(longest, self._retry_delay * 2.0 ** min(state.pauses - 1, 30))
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        state.not_before = self._door.monotonic() + pause * jitter

    def _pause(self) -> None:
        """Wait for the next look. In short steps: ``Event.wait`` deadlocks when a signal handler sets the event."""
        now = self._door.monotonic()
        waiting = [state.not_before for state in self._states.values() if state.not_before > now]
        until = min([now + self._poll_interval, *waiting])
        while (left := until - self._door.monotonic()) > 0 and not self._stopped():
            self._door.sleep(min(left, _STOP_LOOK_SECONDS))

    def _stopped(self) -> bool:
        return self._options.stop is not None and self._options.stop.is_set()

    def _report(self, error: Exception, retries: int) -> None:
        if self._options.on_error is not None:
            self._options.on_error(error, retries)

    @staticmethod
    def _raise_unless_retryable(error: CometError) -> None:
        if not error.retryable:
            raise error


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _no_hook(value: object) -> bool:
    """Callers without a type checker pass anything."""
    return value is not None and not callable(value)


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float | timedelta) and not isinstance(value, bool)


def _is_assignment(value: object) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2  # noqa: PLR2004 - a pair
        and all(map(_is_whole, value))
        and 0 <= value[0] < value[1]
    )
