"""Requests that come at the same time share an append call, and its frame: one checksum, one compression, one sync.

A request waits for others no longer than `group_wait`, and not at all when it is large, or when no other request is on
its way. While groups of a signal are being stored, what comes meanwhile gathers to the next one.

Where appends are quick, as they are with ``durability="process"`` on a disk that is well, a group is stored on the
event loop itself, because handing it to a thread and back costs as much as storing it. All else goes to worker threads:
syncs, encoded bodies, and everything for some seconds after the log was slow, or refused something.

What is large, or turns out to be when it is decompressed or counted, has a queue and a thread of its own for each
signal: whoever sends many requests of a few bytes that stand for many holds up nobody else's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from comet_otel.receiver.errors import InternalError, NotStoredError, OverloadedError, ReceiverError
from comet_otel.receiver.preparing import LARGE_BYTES, Request
from comet_otel.receiver.storing import Stored
from comet_otel.streams import Signal

__all__ = ["Grouping"]

GROUP_BYTES: Final = 64 * 1024
"""Bytes that are worth a frame of their own: the group waits for no more."""

GROUP_BYTES_MAX: Final = 1024 * 1024
GROUP_REQUESTS_MAX: Final = 512
"""Most that a group has, unless one request alone is larger."""

GROUPS_AT_ONCE: Final = 2
"""Groups of one signal that threads store at the same time: one is prepared while the other compresses or syncs."""

LARGE_WAITING_MAX: Final = 16
"""Large requests of a signal that wait for their turn; more are told to come back."""

ENCODED_BYTES_QUICK: Final = 4 * 1024
"""A body in gzip or JSON that is larger than this may be much work; in zstd, any may."""

SLOW_SECONDS: Final = 0.05
DISTRUST_SECONDS: Final = 5.0
"""A group that took so long on the event loop sends all groups to threads for so long."""

_Answer: TypeAlias = Stored | ReceiverError
_Waiting: TypeAlias = tuple[Request, asyncio.Future[_Answer]]


class _Gathering:
    """The requests of one signal that are waiting, and how many groups of it threads are storing."""

    def __init__(self, signal: Signal, *, is_large: bool = False) -> None:
        self.signal = signal
        self.groups_at_once = 1 if is_large else GROUPS_AT_ONCE
        self.requests_max = 1 if is_large else GROUP_REQUESTS_MAX
        self.waiting: deque[_Waiting] = deque()
        self.bytes = 0
        self.running = 0
        self.timer: asyncio.TimerHandle | None = None
        # The first append of a lane claims it, and may have to recover it: that is a thread's work.
        self.threads_until = float("inf")


class Grouping:
    """Forms groups on the event loop and has them stored.

    Args:
        store: stores requests of one signal; called on the event loop and in threads. Its answer is None for a request
            that it has marked as large, and not stored.
        group_wait: seconds that a small request waits at most.
        appends_are_quick: whether an append returns without a sync.

    Attributes:
        arriving: requests that have begun to come and are not handed over yet.
    """

    def __init__(
        self,
        store: Callable[[Signal, Sequence[Request]], list[Stored | ReceiverError | None]],
        *,
        group_wait: float,
        appends_are_quick: bool,
    ) -> None:
        self.arriving = 0
        self._store = store
        self._group_wait = group_wait
        self._appends_are_quick = appends_are_quick
        self._gatherings = {signal: _Gathering(signal) for signal in Signal}
        self._large = {signal: _Gathering(signal, is_large=True) for signal in Signal}
        threads = len(Signal) * (GROUPS_AT_ONCE + 1)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="comet-receiver-store")
        self._loop = asyncio.get_running_loop()

    def submit(self, request: Request) -> asyncio.Future[Stored | ReceiverError]:
        """Hand over a request; the answer is there once it is stored, or refused."""
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        if len(request.body) > LARGE_BYTES:
            request.is_large = True
            self._submit_large(request, answer)
            return answer
        gathering = self._gatherings[request.signal]
        gathering.waiting.append((request, answer))
        gathering.bytes += len(request.body)
        if not self.arriving or gathering.bytes >= GROUP_BYTES or not self._group_wait:
            self._start(gathering)
        elif gathering.timer is None:
            gathering.timer = self._loop.call_later(self._group_wait, self._start, gathering)
        return answer

    def _submit_large(self, request: Request, answer: asyncio.Future[_Answer]) -> None:
        gathering = self._large[request.signal]
        if len(gathering.waiting) >= LARGE_WAITING_MAX:
            answer.set_result(OverloadedError("too many large requests at once; try again later"))
            return
        gathering.waiting.append((request, answer))
        gathering.bytes += len(request.body)
        self._start(gathering)

    def close(self) -> None:
        """Wait for what is being stored, and end the threads."""
        self._threads.shutdown(wait=True)

    def _start(self, gathering: _Gathering) -> None:
        """Take the next group and have it stored; if too many are being stored, the end of one starts it."""
        if gathering.timer is not None:
            gathering.timer.cancel()
            gathering.timer = None
        while gathering.waiting and gathering.running < gathering.groups_at_once:
            group = _next_group(gathering)
            if self._is_quick(gathering, group):
                self._store_here(gathering, group)
            else:
                gathering.running += 1
                self._threads.submit(self._store_in_thread, gathering, group)

    def _is_quick(self, gathering: _Gathering, group: list[_Waiting]) -> bool:
        return (
            self._appends_are_quick
            and not gathering.running
            and gathering.threads_until <= self._loop.time()
            and sum(len(request.body) for request, _ in group) <= GROUP_BYTES_MAX
            and all(
                (request.encoding == "identity" and not request.is_json)
                or (request.encoding != "zstd" and len(request.body) <= ENCODED_BYTES_QUICK)
                for request, _ in group
            )
        )

    def _store_here(self, gathering: _Gathering, group: list[_Waiting]) -> None:
        begin = self._loop.time()
        answers = self._answers(gathering, group)
        now = self._loop.time()
        if now - begin > SLOW_SECONDS or any(isinstance(answer, NotStoredError) for answer in answers):
            gathering.threads_until = now + DISTRUST_SECONDS
        self._tell(group, answers)

    def _store_in_thread(self, gathering: _Gathering, group: list[_Waiting]) -> None:
        answers = self._answers(gathering, group)
        self._loop.call_soon_threadsafe(self._thread_is_done, gathering, group, answers)

    def _thread_is_done(self, gathering: _Gathering, group: list[_Waiting], answers: list[_Answer | None]) -> None:
        gathering.running -= 1
        if any(isinstance(answer, NotStoredError) for answer in answers):
            gathering.threads_until = self._loop.time() + DISTRUST_SECONDS
        elif gathering.threads_until == float("inf") and any(isinstance(answer, Stored) for answer in answers):
            gathering.threads_until = 0.0
        self._tell(group, answers)
        if gathering.timer is None or gathering.bytes >= GROUP_BYTES:
            self._start(gathering)

    def _tell(self, group: list[_Waiting], answers: Sequence[_Answer | None]) -> None:
        for (request, future), answer in zip(group, answers, strict=True):
            if future.done():  # whoever asked may have gone
                continue
            if answer is None:
                self._submit_large(request, future)
            else:
                future.set_result(answer)

    def _answers(self, gathering: _Gathering, group: list[_Waiting]) -> list[_Answer | None]:
        try:
            return self._store(gathering.signal, [request for request, _ in group])
        except BaseException as error:  # noqa: BLE001 - an answer that never comes would be worse than any other
            return [InternalError(f"storing failed: {type(error).__name__}")] * len(group)


def _next_group(gathering: _Gathering) -> list[_Waiting]:
    group: list[_Waiting] = []
    size = 0
    while gathering.waiting and len(group) < gathering.requests_max:
        length = len(gathering.waiting[0][0].body)
        if group and size + length > GROUP_BYTES_MAX:
            break
        size += length
        group.append(gathering.waiting.popleft())
    gathering.bytes -= size
    return group
