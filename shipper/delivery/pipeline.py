"""One stream's way from the log to one destination: read, join, send, acknowledge.

Each stream of each destination has a pipeline of its own, so that a destination that refuses one signal does not hold
up the others. A request is acknowledged after the destination took it and not before; being killed at any instant
therefore costs nothing but sending the unacknowledged requests again.

The pipeline's thread reads, decides and acknowledges; sending is done by the threads of a crew. While the destination
does not answer as it should, a single request at a time goes out, as a probe, with growing pauses; there is no time
after which it gives up.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from comet_storage import AckError, Client, CometError, Consumer
from shipper.delivery.attempt import Attempts
from shipper.delivery.budget import Budget, Share
from shipper.delivery.clock import Clock, SystemClock
from shipper.delivery.lines import Line, Reading, ShardLines, all_lines, bytes_held, nothing_queued, read_ahead, to_try
from shipper.delivery.outage import Outage
from shipper.delivery.progress import PipelineState, Progress
from shipper.delivery.requests import Request
from shipper.delivery.senders import Crew, ThreadCrew
from shipper.delivery.suspects import Suspects
from shipper.delivery.verdicts import Verdicts
from shipper.outcome import Outcome, Retry

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from shipper.delivery.dead_letters import DeadLetters
    from shipper.delivery.pace import Pace
    from shipper.sending.protocol import Sender
    from shipper.settings import DestinationConfig

POLL_SECONDS: Final = 0.1
"""How soon something new in the log is noticed."""

DISCOVERY_SECONDS: Final = 1.0
"""How soon a new shard, or one that another shipper let go, is noticed."""

WATCH_SECONDS: Final = 2.0
"""How soon other credentials end a pause."""

_SLICE_SECONDS: Final = 0.5
"""A request takes no longer than this of what a speed limit gives, so that others need not wait behind it for long."""

_LEAST_PAUSE: Final = 0.001
"""Shorter ones are only the rounding of times."""

_logger = logging.getLogger(__name__)


class Pipeline(threading.Thread):
    """Delivers one stream to one destination until it is told to stop, or, with ``once``, until nothing is left.

    Args:
        client: the log.
        destination: where it goes, and how.
        route: the stream, and what is in it.
        sender: sends the requests. Closed by whoever made it.
        pace: the destination's speed limit.
        dead_letters: where refused requests go.
        stop: ends the pipeline when it is set, behind the requests that are under way.
        once: end when nothing is left.
        assignment: ``(id, total)``: only shards whose number modulo ``total`` is ``id``.
        clock: another time than the computer's.
        crew: another way to send than by threads.
        budget: what this pipeline and others may hold in memory together; one of its own without it.
        watch: returns another value when it is time to try again: there are other credentials.
    """

    def __init__(
        self,
        client: Client,
        destination: DestinationConfig,
        route: Route,
        sender: Sender,
        pace: Pace,
        dead_letters: DeadLetters,
        stop: threading.Event,
        *,
        once: bool = False,
        assignment: tuple[int, int] | None = None,
        clock: Clock | None = None,
        crew: Crew | None = None,
        budget: Budget | None = None,
        watch: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(name=f"shipper-{destination.name}-{route.stream}", daemon=True)
        self.drained = False
        self._client = client
        self._destination = destination
        self._route = route
        self._pace = pace
        self._stopping = stop
        self._once = once
        self._assignment = assignment
        self._clock = clock or SystemClock()
        self._crew = crew or ThreadCrew(self.name, destination.window)
        self._progress = Progress(_logger, destination.name, route.signal.value, route.stream, self._clock)
        self._attempts = Attempts(sender, destination, route, self._progress)
        self._outage = Outage(destination.retry)
        self._watch, self._watched = watch, watch()
        self._verdicts = Verdicts(client, destination, route, dead_letters, pace, self._progress, self._clock)
        self._consumer: Consumer | None = None
        self._shards: dict[int, ShardLines] = {}
        self._suspects = Suspects(self._shards, self._verdicts, self._progress, self._clock)
        self._share = Share(budget or Budget(), lambda: bytes_held(self._shards.values()))
        self._discovered_at = float("-inf")
        self._turn = 0
        self._window = 1
        self._in_flight = 0
        self._completed: deque[tuple[Consumer, Line, Request, Outcome]] = deque()
        self._wake = threading.Event()
        self._abandoned = threading.Event()
        self._trouble = ""

    def state(self) -> PipelineState:
        """Return how it goes."""
        return self._progress.snapshot()

    def abandon(self) -> None:
        """Do not wait any longer for the requests that are under way; they will be sent again by the next shipper."""
        self._abandoned.set()
        self._wake.set()

    def run(self) -> None:
        """Work until told to stop."""
        while not self._stopping.is_set() and not self.drained:
            try:
                pause = self.step()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not end this stream for good
                pause = self._log_failed(error)
            if pause > 0 and not self.drained:
                # What a pause is for can only be ended by the order to stop, or by a request that is done.
                self._wait(pause)
        self._finish()
        self._crew.close()
        self._close_consumer()
        self._progress.enter("stopped")

    def _finish(self) -> None:
        """Wait for what is under way, and acknowledge what was taken of it; send what is left of begun entries."""
        while not self._abandoned.is_set() and (self._send_begun() or self._in_flight):
            if not self._completed:
                self._clock.wait(self._wake, POLL_SECONDS)
                self._wake.clear()
            try:
                self._settle_completed()
            except Exception as error:  # noqa: BLE001 - as above; what is not acknowledged is sent again
                self._log_failed(error)

    def step(self) -> float:
        """Settle what is done, send what may go, and return the seconds until there may be something to do again."""
        self._settle_completed()
        consumer = self._consumer
        if consumer is None:
            consumer = self._consumer = Consumer(self._client, self._destination.group, stream=self._route.stream)
        self._discover(consumer)
        now = self._clock.monotonic()
        pause = self._probe(consumer, now) if self._outage.under_way else self._send_all(consumer, now)
        self._trouble = ""
        if self._in_flight == 0 and not self._outage.under_way and nothing_queued(self._shards.values()):
            pause = min(pause, self._finish_or_idle(consumer))
        self._share.note()
        return pause

    def _wait(self, seconds: float) -> None:
        if self._in_flight or self._completed:
            self._clock.wait(self._wake, min(seconds, POLL_SECONDS))
            self._wake.clear()
        else:
            self._clock.wait(self._stopping, seconds)

    # What there is to send.

    def _discover(self, consumer: Consumer) -> None:
        now = self._clock.monotonic()
        if now < self._discovered_at + DISCOVERY_SECONDS and self._shards:
            return
        self._discovered_at = now
        mine = self._assigned(consumer)
        for shard in mine:
            if shard not in self._shards and (position := consumer.position(shard)) is not None:
                fresh_first = self._destination.order == "fresh-first"
                self._shards[shard] = ShardLines(consumer, shard, position, self._clock, fresh_first=fresh_first)
        if mine and not self._shards:
            self._progress.enter("standby")

    def _lines(self) -> list[tuple[ShardLines, Line]]:
        """The lines of all shards: what is fresh first, and in each class another shard first each time."""
        shards = list(self._shards.values())
        if shards:
            self._turn = (self._turn + 1) % len(shards)
            shards = shards[self._turn :] + shards[: self._turn]
        pairs = [(shard, line) for shard in shards for line in shard.lines()]
        return sorted(pairs, key=lambda pair: not pair[1].fresh)

    def _reading(self) -> Reading:
        limit = self._verdicts.request_limit()
        speed = self._pace.bytes_per_second()
        if speed is not None:
            limit = min(limit, max(int(speed * _SLICE_SECONDS), 1))
        wait = 0.0 if self._once else self._destination.max_request_wait
        return Reading(self._clock, self._route.signal, limit, self._verdicts.request_limit(), wait, self._share)

    def _next_request(self, shard: ShardLines, line: Line, reading: Reading) -> Request | None:
        """The request that a line has to send next, if it may send one; read, if there is none waiting."""
        if self._destination.ordered and line.under_way:
            return None
        if not line.queue:
            shard.fill(line, reading)
        return line.queue[0] if line.queue else None

    # Sending.

    def _send_all(self, consumer: Consumer, now: float) -> float:
        """Send as much as window and pace allow."""
        if self._suspects.fill_the_memory(consumer):
            return self._suspects.wait()
        pause = POLL_SECONDS
        reading = self._reading()
        progressed = True
        while progressed and self._in_flight < self._window and not self._outage.under_way:
            progressed = False
            for shard, line in self._lines():
                room = self._window - self._in_flight
                if room <= 0 or self._outage.under_way:
                    break
                if not line.fresh and shard.fresh is not None and room < 2 <= self._window:  # noqa: PLR2004
                    continue  # the last place in the window is kept for what is fresh
                if line.not_before > now:
                    pause = min(pause, line.not_before - now)
                    continue
                request = self._next_request(shard, line, reading)
                if request is None:
                    continue
                wait = self._book(shard, line, request) - now
                if wait > 0:
                    pause = min(pause, max(wait, _LEAST_PAUSE))
                    continue
                self._send(consumer, line, request)
                progressed = True
        return 0.0 if read_ahead(self._lines(), reading) else pause

    def _book(self, shard: ShardLines, line: Line, request: Request) -> float:
        """When a request may go. A backlog behind fresh entries takes what is free, and stands in nobody's way."""
        if request.not_before is None:
            if line.fresh or shard.fresh is None:
                request.not_before = self._pace.book(request.size)
            else:
                request.not_before = self._pace.book_if_free(request.size)
        return self._pace.free_at() if request.not_before is None else request.not_before

    def _probe(self, consumer: Consumer, now: float) -> float:
        """Send one request, when it is time to, to see whether the destination is well again."""
        if self._in_flight:
            return POLL_SECONDS
        if now < self._outage.next_try and self._watch() == self._watched:
            pause = self._outage.next_try - now
            return pause if self._watched is None else min(pause, WATCH_SECONDS)
        self._watched = self._watch()
        reading = self._reading()
        # Where requests were refused, another one may show that it was theirs and not the destination's fault.
        candidates = list(to_try(self._lines(), reading, 2 if self._outage.refused else 1))
        if not candidates:
            self._outage.over()
            return 0.0
        line, request = min(candidates, key=lambda candidate: candidate[1].last_try)
        self._send(consumer, line, request)
        return POLL_SECONDS

    def _send_begun(self) -> bool:
        """Send the pieces that are left of entries of which some were taken; return whether there are any."""
        if self._consumer is None or self._outage.under_way:
            return False
        begun = [line for _, line in self._lines() if line.queue and line.queue[0].begun]
        for line in begun:
            request = line.queue[0]
            request.not_before = request.not_before or self._pace.book(request.size)
            if not line.under_way and request.not_before <= self._clock.monotonic():
                self._send(self._consumer, line, request)
        return bool(begun)

    def _send(self, consumer: Consumer, line: Line, request: Request) -> None:
        line.queue.remove(request)
        line.under_way.append(request)
        line.last_try = request.last_try = self._clock.monotonic()
        request.attempts += 1
        request.first_try = request.first_try or self._clock.wall()
        self._in_flight += 1
        self._progress.in_flight(self._in_flight)
        request_id = request.id(self._client.log_id, self._route.stream)

        def job() -> None:
            self._completed.append((consumer, line, request, self._attempts.make(request, request_id)))
            self._wake.set()

        try:
            self._crew.submit(job)
        except RuntimeError as error:  # the system gives no more threads
            self._completed.append((consumer, line, request, Retry("cannot start a thread", str(error))))

    # What came of it.

    def _settle_completed(self) -> None:
        while self._completed:
            consumer, line, request, outcome = self._completed.popleft()
            self._in_flight -= 1
            self._progress.in_flight(self._in_flight)
            if request in line.under_way:
                line.under_way.remove(request)
            if consumer is not self._consumer:
                self._verdicts.came_too_late(outcome)
                continue
            self._settle(consumer, line, request, outcome)

    def _settle(self, consumer: Consumer, line: Line, request: Request, outcome: Outcome) -> None:
        """Do what an outcome asks for."""
        now = self._clock.monotonic()
        try:
            reaction = self._verdicts.judge(consumer, line, request, outcome)
        except AckError as error:
            # Another shipper has the lease, or the group was deleted: the log has accounted for it.
            _logger.warning("%s: delivered but not acknowledged: %s", self.name, error)
            self._close_consumer()
            return
        if reaction.success:
            if request.pieces is not None:
                request.pieces.begun = True
            if self._outage.under_way:
                self._outage.over()
                self._pace.back_after_outage()
                self._window = 1
            self._outage.succeeded()
            self._window = min(2 * self._window, self._destination.window)
            line.failures, line.not_before = 0, float("-inf")
            self._suspects.clear(consumer)
        elif reaction.failure is not None:
            pause = self._outage.failed(reaction.failure, now, refused=reaction.refused)
            if line.failed_in != self._outage.number:
                line.failed_in = self._outage.number
                line.failures += 1
            line.not_before = now + self._outage.line_pause(line.failures)
            self._window = 1
            self._progress.trouble("retrying" if isinstance(reaction.failure, Retry) else "paused", *pause)
        if self._outage.refused:
            self._suspects.acquit()

    def _finish_or_idle(self, consumer: Consumer) -> float:
        """Nothing is left to send: decide about what was rejected, say so, and end if that was asked for."""
        if not self._suspects.clear(consumer):
            return self._suspects.wait()
        if any(line.noticed is not None for line in all_lines(self._shards.values())):
            return POLL_SECONDS
        if self._shards:
            self._progress.enter("idle")
        if self._once and self._all_done(consumer):
            self.drained = True
        return POLL_SECONDS

    def _all_done(self, consumer: Consumer) -> bool:
        return all(consumer.lag(shard) == 0 for shard in self._assigned(consumer))

    def _assigned(self, consumer: Consumer) -> list[int]:
        number, total = self._assignment or (0, 1)
        return [shard for shard in consumer.shards() if shard % total == number]

    # Trouble with the log.

    def _log_failed(self, error: Exception) -> float:
        """Report trouble with the log once, and go on with a fresh consumer after a pause."""
        trouble = f"{type(error).__name__}: {error}"
        if trouble != self._trouble:
            self._trouble = trouble
            known = isinstance(error, CometError | OSError)
            text = "cannot use the log, which is tried again" if known else "an error in the shipper, which goes on"
            _logger.error("%s: %s: %s", self.name, text, trouble, exc_info=None if known else error)
        self._close_consumer()
        return self._outage.log_pause()

    def _close_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._shards.clear()
        self._share.note()
        self._verdicts.forget()
        self._discovered_at = float("-inf")
        if consumer is not None:
            try:
                consumer.close()
            except (CometError, OSError) as error:
                _logger.debug("%s: closing the consumer: %s", self.name, error)
