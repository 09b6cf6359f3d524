"""A number that is shared out: bytes in flight, requests being stored."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from comet_otel.receiver.errors import OverloadedError

__all__ = ["Allowance"]

WAITERS_MAX: Final = 4096


class Allowance:
    """So much may be taken at once; who finds too little left waits a while, and is then refused.

    When something is given back, the youngest of those that wait come first: under a load that is too high for all of
    them, most are then served quickly and the rest are refused, instead of all being served too late.

    Waiting happens on one event loop. `try_take` and `give` may be called by any thread.
    """

    def __init__(self, most: int, *, wait_seconds: float, what: str) -> None:
        self.most = most
        self._free = most
        self._wait_seconds = wait_seconds
        self._what = what
        self._lock = threading.Lock()
        self._waiters: dict[asyncio.Future[None], int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0

    @property
    def taken(self) -> int:
        """How much is taken now."""
        return self.most - self._free

    @property
    def contended(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiters)

    def try_take(self, amount: int) -> bool:
        """Take an amount if it is there."""
        with self._lock:
            if self._free < amount:
                return False
            self._free -= amount
            return True

    async def take(self, amount: int) -> None:
        """Take an amount, waiting for it if need be.

        Raises:
            OverloadedError: it was not there in time, or too many wait already.
        """
        if self.try_take(amount):
            return
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
        loop = self._loop
        waiter = loop.create_future()
        if len(self._waiters) >= WAITERS_MAX:
            self._refuse(next(iter(self._waiters)))
        self._waiters[waiter] = amount
        timer = loop.call_later(self._wait_seconds, self._refuse, waiter)
        # What was given back between the first look and now woke nobody.
        self._serve()
        try:
            await waiter
        except asyncio.CancelledError:
            # Cancelled at the same moment in which it was served.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give(amount)
            raise
        finally:
            timer.cancel()
            self._waiters.pop(waiter, None)

    def give(self, amount: int) -> None:
        """Give an amount back."""
        with self._lock:
            self._free += amount
        if self._waiters and self._loop is not None:
            if threading.get_ident() == self._loop_thread:
                self._serve()
            else:
                self._loop.call_soon_threadsafe(self._serve)

    def _serve(self) -> None:
        while self._waiters:
            waiter = next(reversed(self._waiters))
            if not waiter.done():
                if not self.try_take(self._waiters[waiter]):
                    return
                waiter.set_result(None)
            del self._waiters[waiter]

    def _refuse(self, waiter: asyncio.Future[None]) -> None:
        self._waiters.pop(waiter, None)
        if not waiter.done():
            waiter.set_exception(OverloadedError(f"too many {self._what} at once; try again later"))
