"""What an outcome means for the entries of a request: acknowledged, kept, divided, or put aside as dead letters."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comet_otel import wire
from comet_storage import Client, CometError, Consumer
from shipper.delivery.clock import Clock
from shipper.delivery.dead_letters import DeadLetter, DeadLetters
from shipper.delivery.lines import Line
from shipper.delivery.pace import Pace
from shipper.delivery.progress import Progress
from shipper.delivery.requests import Request
from shipper.outcome import Delivered, Failure, Outcome, Partial, Pause, Reject, Retry, Split

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from shipper.settings import DestinationConfig

REJECTS_MAX: Final = 20
"""So many rejections in a row, without a success between them, are the destination's trouble and not the requests'."""

LEAST_REQUEST_BYTES: Final = 4 * 1024
"""A destination that finds this too large finds everything too large, and is not what it should be."""

_GROW_AFTER: Final = 200
"""After so many successes near the limit that a destination has shown, twice as much is tried."""

_CUT_OFF_MAX: Final = 3
"""A large request that is cut off so often while it is sent goes on in parts."""

_CUT_OFF_BYTES: Final = 64 * 1024
_TOLD_SECONDS: Final = 1.0
_NEVER_SENT: Final = frozenset({"cannot connect", "host name unknown"})

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reaction:
    """What the pipeline is to do.

    Attributes:
        success: the destination took the request.
        failure: why delivery has to wait; None if it can go on.
        refused: it waits because too many requests were rejected.
    """

    success: bool = False
    failure: Failure | None = None
    refused: bool = False


_GO_ON: Final = Reaction()


class Verdicts:
    """Decides about the requests of one pipeline. Used by its thread alone.

    Attributes:
        letter_trouble: why the last dead letter could not be stored; empty if it could.
    """

    NOTHING: Final = Delivered()
    """The outcome of a request without any bytes, which need not be sent."""

    def __init__(
        self,
        client: Client,
        destination: DestinationConfig,
        route: Route,
        dead_letters: DeadLetters,
        pace: Pace,
        progress: Progress,
        clock: Clock,
    ) -> None:
        """Begin without any experience with the destination."""
        self._client = client
        self._destination = destination
        self._route = route
        self._dead_letters = dead_letters
        self._pace = pace
        self._progress = progress
        self._clock = clock
        self._limit = destination.max_request_bytes
        self._near_limit = 0
        self._rejected_in_a_row = 0
        self._last: dict[Request, Reject | Split] = {}
        self.letter_trouble = ""
        self._told_at, self._untold = float("-inf"), 0

    def request_limit(self) -> int:
        """Return how large a request may be, by the configuration and by what the destination has shown."""
        return self._limit

    def judge(self, consumer: Consumer, line: Line, request: Request, outcome: Outcome) -> Reaction:
        """Do with the entries what the outcome asks for.

        Raises:
            CometError: the log could not take note of it; the request is to be sent again.
        """
        if outcome is self.NOTHING:
            self._done(consumer, request, "", refused=False)
            return _GO_ON  # the destination has said nothing, so it has not shown that it is well either
        if isinstance(outcome, Delivered | Partial):
            self._delivered(consumer, request, outcome)
            return Reaction(success=True)
        self._progress.failed(outcome)
        if isinstance(outcome, Reject):
            return self._rejected(line, request, outcome)
        if isinstance(outcome, Split):
            return self._too_large(consumer, line, request, outcome)
        if isinstance(outcome, Retry):
            if outcome.code not in _NEVER_SENT and not outcome.code.startswith("HTTP"):
                self._progress.count("duplicates_possible")
            if outcome.throttled:
                self._pace.throttled()
            if outcome.cut_off and request.attempts % _CUT_OFF_MAX == 0 and request.size > _CUT_OFF_BYTES:
                # So end those who refuse something large without a word.
                line.put_back(request.divided(self._route.signal, request.size // 2) or [request])
                return Reaction(failure=outcome)
        line.put_back([request])
        return Reaction(failure=outcome)

    def condemn(self, consumer: Consumer, request: Request) -> bool:
        """Put a request of one entry aside as a dead letter, and mark the entry as rejected.

        Returns whether it is done with; if not, the log has no room for the letter now, and `letter_trouble` says so.

        1. The letter is stored. A crash behind this has the entry sent, and refused, once more; the letter is known.
        2. The group's record says that the entry is rejected.

        Raises:
            CometError: the log could not take note of it; the entry stays.
        """
        outcome = self._last[request]
        items = self._items(request.body())
        letter = DeadLetter(
            destination=self._destination.name,
            signal=self._route.signal.value,
            stream=self._route.stream,
            shard=request.shard,
            first_entry=request.first,
            last_entry=request.last,
            piece=request.piece,
            reason="rejected" if isinstance(outcome, Reject) else "too large",
            code=outcome.code,
            message=outcome.message,
            attempts=request.attempts,
            first_try=request.first_try,
            last_try=self._clock.wall(),
            items=items,
            request_id=request.id(self._client.log_id, self._route.stream),
            body=request.body(),
        )
        if self._destination.dead_letters and not self._stored(letter):
            return False
        self._tell(letter)
        self._progress.count("dead_lettered_items", items or 0)
        self._done(consumer, request, f"{outcome.code}: {outcome.message}", refused=True)
        del self._last[request]
        return True

    def _tell(self, letter: DeadLetter) -> None:
        """Log one a second; status and metrics count them all."""
        now = self._clock.monotonic()
        if now < self._told_at + _TOLD_SECONDS:
            self._untold += 1
            return
        _logger.warning(
            "%s: gave up %s of shard %d of %s: %s (%s)%s%s",
            self._destination.name,
            f"piece {letter.piece} of entry {letter.first_entry}" if letter.piece else f"entry {letter.first_entry}",
            letter.shard,
            letter.stream,
            letter.code,
            letter.message or "no details",
            "; it is kept as a dead letter" if self._destination.dead_letters else "",
            f"; and {self._untold} others since the last such line" if self._untold else "",
        )
        self._told_at, self._untold = now, 0

    def _stored(self, letter: DeadLetter) -> bool:
        try:
            self._dead_letters.store(letter)
        except CometError as error:
            trouble = f"{type(error).__name__}: {error}"
            if not self.letter_trouble:
                _logger.error("%s: cannot keep a dead letter, tried again: %s", self._destination.name, trouble)  # noqa: TRY400 - the message says all
            self.letter_trouble = trouble
            return False
        self.letter_trouble = ""
        return True

    def came_too_late(self, outcome: Outcome) -> None:
        """A request came back after its shard was given up: whoever has it now sends it again."""
        if isinstance(outcome, Delivered | Partial):
            self._progress.count("duplicates_possible")

    def forget(self) -> None:
        """All requests were given up; what they hold is read and sent again."""
        self._last.clear()
        self._rejected_in_a_row = 0

    def _delivered(self, consumer: Consumer, request: Request, outcome: Delivered | Partial) -> None:
        if isinstance(outcome, Partial):
            self._progress.partial(outcome)
        entries = self._done(consumer, request, "", refused=False)
        self._rejected_in_a_row = 0
        self._last.pop(request, None)
        size = request.size
        self._pace.succeeded(size)
        self._progress.delivered(entries, request.items or 0, size)
        if self._limit < self._destination.max_request_bytes and 2 * size >= self._limit:
            self._near_limit += 1
            if self._near_limit >= _GROW_AFTER:
                self._near_limit = 0
                self._limit = min(2 * self._limit, self._destination.max_request_bytes)

    def _rejected(self, line: Line, request: Request, outcome: Reject) -> Reaction:
        self._rejected_in_a_row += 1
        self._last[request] = outcome
        if self._rejected_in_a_row >= REJECTS_MAX:
            line.put_back([request])
            return Reaction(
                failure=Pause(outcome.code, f"{self._rejected_in_a_row} requests in a row rejected: {outcome.message}"),
                refused=True,
            )
        halves = request.halves()
        if halves:
            del self._last[request]
            line.put_back(halves)
        else:
            line.suspects.append(request)
        return _GO_ON

    def _too_large(self, consumer: Consumer, line: Line, request: Request, outcome: Split) -> Reaction:
        size = request.size
        if size <= LEAST_REQUEST_BYTES:
            line.put_back([request])
            return Reaction(failure=Pause(outcome.code, f"even {size} bytes are too large for it: {outcome.message}"))
        limit = max(size // 2, LEAST_REQUEST_BYTES)
        parts = request.divided(self._route.signal, min(limit, self._limit))
        if parts:
            self._limit, self._near_limit = min(self._limit, limit), 0
            line.put_back(parts)
            return _GO_ON
        self._last[request] = outcome
        if self.letter_trouble or not self.condemn(consumer, request):
            line.suspects.append(request)
        return _GO_ON

    def _done(self, consumer: Consumer, request: Request, reason: str, *, refused: bool) -> int:
        """Acknowledge or reject the entries of a request, and return how many are done with by it.

        An entry that went in pieces is done with when the last one is, and rejected if any was refused.
        """
        pieces = request.pieces
        if pieces is not None:
            last, refused = pieces.left == 1, refused or pieces.refused
            if not last:
                pieces.left, pieces.refused = pieces.left - 1, refused
                return 0
        count = len(request.messages)
        if refused:
            consumer.reject(*(message.id for message in request.messages), reason=reason or "a piece of it was refused")
            self._progress.count("dead_lettered_entries", count)
        elif request.last - request.first == count - 1:
            consumer.ack_range(request.shard, request.first, request.last)
        else:
            consumer.ack(*(message.id for message in request.messages))
        if pieces is not None:
            pieces.left = 0
        return 0 if refused else count

    def _items(self, payload: bytes) -> int | None:
        try:
            return wire.count_items(payload, self._route.signal)
        except wire.MalformedError:
            return None
