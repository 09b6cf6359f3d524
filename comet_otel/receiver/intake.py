"""What both protocols do with a request that they have got: admit it, have it stored, count the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from comet_otel.receiver.allowance import Allowance
from comet_otel.receiver.config import ReceiverConfig
from comet_otel.receiver.duplicates import Duplicates
from comet_otel.receiver.errors import ReceiverError
from comet_otel.receiver.grouping import Grouping
from comet_otel.receiver.metrics import ReceiverMetrics
from comet_otel.receiver.preparing import LARGE_BYTES, LARGE_COPIES, Preparer, Request
from comet_otel.receiver.storing import Stored, Storing, entry_bytes_max
from comet_otel.receiver.tokens import Tokens
from comet_storage import Client, CometError

__all__ = ["Intake"]


class Intake:
    """The way of requests into one log. Made on the event loop, and used there.

    Attributes:
        config: the receiver's.
        memory: the bytes in flight.
        metrics: the figures.
    """

    def __init__(self, client: Client, config: ReceiverConfig, tokens: Tokens | None) -> None:
        wait = config.admission_timeout
        self.config = config
        self.memory = Allowance(config.max_bytes_in_flight, wait_seconds=wait, what="bytes in flight")
        self.metrics = ReceiverMetrics()
        self._client = client
        self._tokens = tokens
        self._requests = Allowance(config.max_concurrent_requests, wait_seconds=wait, what="requests")
        duplicates = Duplicates(config.duplicate_window)
        settings = client.config
        self._storing = Storing(
            client,
            Preparer(
                max_body_bytes=config.max_body_bytes,
                json_bytes_max=config.max_bytes_in_flight,
                entry_bytes_max=entry_bytes_max(settings),
                item_bytes_max=settings.storage.max_entry_bytes,
                duplicates=duplicates,
            ),
            duplicates,
        )
        self._grouping = Grouping(
            self._storing.store,
            group_wait=config.group_wait,
            appends_are_quick=settings.storage.durability != "always",
        )
        self._health: asyncio.Future[bool] | None = None
        self.metrics.watch(
            "comet_receiver_bytes_in_flight",
            "Bytes of bodies that have come and are not answered.",
            lambda: self.memory.taken,
        )
        self.metrics.watch(
            "comet_receiver_requests_in_flight", "Requests that are being stored.", lambda: self._requests.taken
        )

    @property
    def broken(self) -> CometError | None:
        """The error after which a new client is needed; None while this one works."""
        return self._storing.broken

    def authorize(self, authorization: str) -> None:
        """Return if the request may come in.

        Raises:
            UnauthenticatedError: it may not.
        """
        if self._tokens is not None:
            self._tokens.check(authorization)

    def memory_needed(self, size: int) -> int:
        """Return what a body of a size is charged of the bytes in flight: a large one more than it has."""
        return size if size <= LARGE_BYTES else min(LARGE_COPIES * size, self.config.max_bytes_in_flight)

    @contextlib.contextmanager
    def arrival(self) -> Iterator[None]:
        """Count, while entered, a request whose body is on its way, so that small complete ones wait for it."""
        self._grouping.arriving += 1
        try:
            yield
        finally:
            self._grouping.arriving -= 1

    async def accept(self, protocol: str, request: Request) -> Stored | ReceiverError:
        """Have a request stored, and return its answer. It gives back what the request was charged."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        answer: Stored | ReceiverError
        size = len(request.body)
        try:
            await self._requests.take(1)
        except ReceiverError as error:
            self.memory.give(request.charged)
            answer = error.detached()
        except BaseException:
            self.memory.give(request.charged)
            raise
        else:
            submitted = self._grouping.submit(request)
            if submitted.done():
                self._release(request)
                answer = submitted.result()
            else:
                # Not when whoever asked has gone, but when it is stored: only then is the memory free.
                submitted.add_done_callback(lambda _: self._release(request))
                answer = await asyncio.shield(submitted)
        self.metrics.answered(protocol, request.signal, answer, size, loop.time() - begin)
        return answer

    async def is_ready(self) -> bool:
        """Say whether a request would be stored now. A disk that does not answer is an answer too."""
        if self._health is None or self._health.done():
            self._health = asyncio.get_running_loop().run_in_executor(None, self._is_writable)
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self._health), self.config.admission_timeout)
        return False

    def close(self) -> None:
        """Wait for what is being stored."""
        self._grouping.close()

    def _is_writable(self) -> bool:
        return self.broken is None and self._client.health().writable

    def _release(self, request: Request) -> None:
        request.body = b""  # whoever still holds the request is not to hold what is not counted any more
        self._requests.give(1)
        self.memory.give(request.charged)
