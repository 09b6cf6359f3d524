"""Which gRPC messages may be waited for: nobody knows the size of one before it is there.

Most messages are there at once, and what can come in so short a time is little. One that takes longer is slow: it comes
by a thin line, or it is very large, or it never comes. Slow ones are waited for as long as this process takes little
memory; then a few go on, the oldest, and the others are told to come back.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any, Final

import grpc.aio

from comet_otel.receiver.allowance import Allowance
from comet_otel.receiver.config import ReceiverConfig
from comet_otel.receiver.errors import OverloadedError, ReceiverError, TooSlowError
from comet_otel.receiver.memory import ResidentMemory

__all__ = ["Reading"]

QUICK_READS: Final = 64
QUICK_SECONDS: Final = 0.05
"""So many messages at once are waited for as quick ones, for so long; then they are slow."""

SLOW_READS: Final = 1024
"""Slow messages that are waited for at once, at most."""

YIELD_AFTER_SECONDS: Final = 1.0
"""While memory is short, a slow message that takes longer than this makes room for others."""

BODY_TIMEOUTS: Final = 6
"""A whole message may take so many times what the next piece of a body may take."""

LOOK_SECONDS: Final = 0.05


class Reading:
    """Reads messages, and keeps account of those that are slow."""

    def __init__(self, config: ReceiverConfig, memory: ResidentMemory) -> None:
        self._memory = memory
        self._timeout = BODY_TIMEOUTS * config.body_timeout
        self._quick = Allowance(QUICK_READS, wait_seconds=config.admission_timeout, what="messages")
        # So many slow ones at once are waited for in any case, whatever they may turn out to be.
        self._places = max(1, config.max_bytes_in_flight // 4 // config.max_body_bytes)
        self._slow: dict[_Patience, None] = {}
        self._refused_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    async def message(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> Any:
        """Return what is read: the message, or a mark that there is none.

        Raises:
            OverloadedError: it came slowly, and there was no room for it.
            TooSlowError: it did not come in time.
        """
        await self._quick.take(1)
        patience = _Patience(self)
        try:
            # Awaited here and not in a task of its own, which would take the event loop more rounds than all the rest.
            return await context.read()
        except asyncio.CancelledError:
            if patience.error is None:
                raise
            raise patience.error from None
        finally:
            patience.timer.cancel()
            if patience.is_quick:
                self._quick.give(1)
            self._slow.pop(patience, None)

    def is_slow(self, patience: _Patience) -> None:
        """Go on waiting for a message that did not come at once, or refuse it."""
        patience.is_quick = False
        self._quick.give(1)
        count = len(self._slow)
        if count >= SLOW_READS or (count >= self._places and self._memory.is_short()):
            self._refuse(patience, "the message comes slowly, as do others; try again later")
            return
        self._slow[patience] = None
        if self._timer is None:
            self._look_later()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """End what takes too long, and, while memory is short, what takes the place of others."""
        now = asyncio.get_running_loop().time()
        for patience in [found for found in self._slow if now - found.begin > self._timeout]:
            patience.end(TooSlowError("the message did not come in time"))
        if self._slow and self._memory.is_short():
            # First the oldest, so that the others have its place, and then all that have none.
            wanted = now - self._refused_at < YIELD_AFTER_SECONDS or len(self._slow) > self._places
            for patience in [found for found in self._slow if wanted and now - found.begin > YIELD_AFTER_SECONDS]:
                self._refuse(patience, "the message came slowly while others waited; try again later")
            for patience in list(islice(self._slow, self._places, None)):
                self._refuse(patience, "the message comes slowly, and memory is short; try again later")
        self._timer = None
        if self._slow:
            self._look_later()

    def _refuse(self, patience: _Patience, why: str) -> None:
        self._refused_at = asyncio.get_running_loop().time()
        patience.end(OverloadedError(why))
        self._slow.pop(patience, None)


class _Patience:
    """How long one message is waited for. To end the waiting is to cancel it.

    Attributes:
        begin: when it began, by the event loop's clock.
        error: why it was ended.
        is_quick: whether it counts as a quick one still.
        timer: makes it a slow one.
    """

    def __init__(self, reading: Reading) -> None:
        loop = asyncio.get_running_loop()
        self.begin = loop.time()
        self.error: ReceiverError | None = None
        self.is_quick = True
        self.timer = loop.call_later(QUICK_SECONDS, reading.is_slow, self)
        self._task = asyncio.current_task()

    def end(self, error: ReceiverError) -> None:
        """Wait no more."""
        if self.error is None and self._task is not None:
            self.error = error
            self._task.cancel()
