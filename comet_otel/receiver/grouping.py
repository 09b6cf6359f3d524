"""Requests that come at the same time share an append call, and its frame: one checksum, one compression, one sync.

A request waits for others no longer than `group_wait`, and not at all when it is large, or when no other request is on
its way. While a group of a signal is being stored, what comes meanwhile gathers to the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from comet_otel.receiver.errors import InternalError, ReceiverError
from comet_otel.receiver.preparing import Request
from comet_otel.receiver.storing import Stored
from comet_otel.streams import Signal

__all__ = ["Grouping"]

GROUP_BYTES: Final = 64 * 1024
"""Bytes that are worth a frame of their own: the group waits for no more."""

GROUP_BYTES_MAX: Final = 1024 * 1024
GROUP_REQUESTS_MAX: Final = 512
"""Most that a group has, unless one request alone is larger."""

GROUPS_AT_ONCE: Final = 2
"""Groups of one signal that are stored at the same time: one is prepared while the other compresses or syncs."""

_Answer = Stored | ReceiverError


class _Gathering:
    """The requests of one signal that are waiting, and how many groups of it are being stored."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Request, asyncio.Future[_Answer]]] = deque()
        self.bytes = 0
        self.running = 0
        self.timer: asyncio.TimerHandle | None = None


class Grouping:
    """Forms groups on the event loop and hands them to worker threads.

    Attributes:
        arriving: requests that have begun to come and are not handed over yet.
    """

    def __init__(
        self, store: Callable[[Signal, Sequence[Request]], list[Stored | ReceiverError]], *, group_wait: float
    ) -> None:
        self.arriving = 0
        self._store = store
        self._group_wait = group_wait
        self._gatherings = {signal: _Gathering() for signal in Signal}
        self._threads = ThreadPoolExecutor(len(Signal) * GROUPS_AT_ONCE, thread_name_prefix="comet-receiver-store")
        self._loop = asyncio.get_running_loop()

    def submit(self, request: Request) -> asyncio.Future[Stored | ReceiverError]:
        """Hand over a request; the answer is there once it is stored, or refused."""
        gathering = self._gatherings[request.signal]
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        gathering.waiting.append((request, answer))
        gathering.bytes += len(request.body)
        if not self.arriving or gathering.bytes >= GROUP_BYTES or not self._group_wait:
            self._start(gathering)
        elif gathering.timer is None:
            gathering.timer = self._loop.call_later(self._group_wait, self._start, gathering)
        return answer

    def close(self) -> None:
        """Wait for what is being stored, and end the threads."""
        self._threads.shutdown(wait=True)

    def _start(self, gathering: _Gathering) -> None:
        if gathering.running >= GROUPS_AT_ONCE or not gathering.waiting:
            return  # `_finished` starts the next
        if gathering.timer is not None:
            gathering.timer.cancel()
            gathering.timer = None
        group: list[tuple[Request, asyncio.Future[_Answer]]] = []
        size = 0
        while gathering.waiting and len(group) < GROUP_REQUESTS_MAX:
            length = len(gathering.waiting[0][0].body)
            if group and size + length > GROUP_BYTES_MAX:
                break
            size += length
            group.append(gathering.waiting.popleft())
        gathering.bytes -= size
        gathering.running += 1
        self._threads.submit(self._run, gathering, group)

    def _run(self, gathering: _Gathering, group: list[tuple[Request, asyncio.Future[_Answer]]]) -> None:
        answers: list[_Answer]
        try:
            answers = self._store(group[0][0].signal, [request for request, _ in group])
        except BaseException as error:
            answers = [InternalError(f"storing failed: {type(error).__name__}")] * len(group)
            raise
        finally:
            self._loop.call_soon_threadsafe(self._finished, gathering, group, answers)

    def _finished(
        self, gathering: _Gathering, group: list[tuple[Request, asyncio.Future[_Answer]]], answers: list[_Answer]
    ) -> None:
        gathering.running -= 1
        for (_, future), answer in zip(group, answers, strict=True):
            if not future.done():  # whoever asked may have gone
                future.set_result(answer)
        if gathering.waiting and (gathering.timer is None or gathering.bytes >= GROUP_BYTES):
            self._start(gathering)
