"""One append to a shard at a time in this process: threads take turns, and a thread never waits for itself."""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from collections.abc import Iterator
from types import CodeType, FrameType

from comet_storage._shard.context import ShardContext
from comet_storage.errors import LogBusyError, ReentrantAppendError

_FIRST_WAIT = 20e-6
_LONGEST_WAIT = 1e-3


class Turns:
    """The busy flag of a shard's writer.

    Test and set stand side by side wherever the flag is taken, with no call in between: the interpreter changes
    threads and runs signal handlers only at calls and backward jumps, so nothing can come between them. A lock's
    acquire and release would cost 250 ns more per append.

    Args:
        context: the shard.
        append_code: code of the method that takes a turn without :meth:`turn`.
    """

    def __init__(self, context: ShardContext, append_code: CodeType) -> None:
        self.context = context
        self.name = context.name
        self._append_code = append_code
        self._busy = False
        self._holder: _Holder | None = None
        self._deadlines: dict[int, float] | None = None
        """Until when threads may wait for a lock that they need besides: those that waited for their turn before."""

    def _wait_for_turn(self) -> None:
        """Return when the append that is under way has ended; the caller tests and sets, with no call in between.

        Raises:
            ReentrantAppendError: it is this thread's own, further up its stack.
            LogBusyError: it did not end within the lock timeout.
        """
        self._free_abandoned_turn()
        # Whoever has a turn works in a ``with`` block, so its frame does not tell.
        holder = self._holder
        reentrant = holder is not None and holder.thread == threading.get_ident()
        frame = sys._getframe(1)  # noqa: SLF001 - the only way to see whether this thread is inside an append
        caller: FrameType | None = frame.f_back
        while caller is not None and not reentrant:
            reentrant = caller.f_code is self._append_code and caller.f_locals.get("self") is self
            caller = caller.f_back
        if reentrant:
            raise ReentrantAppendError(
                f"append to {self.name} from inside an append to it by the same thread; nothing was stored"
            )
        door = self.context.door
        deadline = door.monotonic() + self.context.settings.lock_timeout
        wait = _FIRST_WAIT
        while self._busy:
            if door.monotonic() >= deadline:
                raise LogBusyError(f"another thread's append to {self.name} has not ended; nothing was stored")
            door.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
            self._free_abandoned_turn()
        if self._deadlines is not None:
            self._deadlines[threading.get_ident()] = deadline

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Keep this process's appends to the shard out."""
        holder = _Holder(threading.get_ident(), _executing(sys._getframe(1)))  # noqa: SLF001 - whose block it is
        while True:
            if not self._busy:
                self._busy = True
                self._holder = holder
                break
            self._wait_for_turn()
        try:
            yield
        finally:
            if self._holder is holder:
                self._holder = None
                self._busy = False

    def _free_abandoned_turn(self) -> None:
        """Free a turn whose ``with`` block is over although it was never left.

        An exception that a signal handler raises while the block is entered or left comes before the one line of
        ``contextlib`` that would tell; then whoever keeps the traceback keeps the turn. A frame that is over can be
        cleared, and one that is not, also in a suspended greenlet, refuses.
        """
        holder = self._holder
        if holder is None or holder.frame is None:
            return
        try:
            holder.frame.clear()
        except RuntimeError:
            return
        # Nothing is called in between: no other waiter frees the turn of whoever came next.
        if self._holder is holder:
            self._holder = None
            self._busy = False


class _Holder:
    """Who has a turn that :meth:`Turns.turn` gave."""

    __slots__ = ("frame", "thread")

    def __init__(self, thread: int, frame: FrameType | None) -> None:
        self.thread = thread
        self.frame = frame


def _executing(frame: FrameType | None) -> FrameType | None:
    """The function that executes a ``with`` block, behind the generators and the ``contextlib`` that serve it."""
    while frame is not None and (frame.f_code.co_flags & inspect.CO_GENERATOR or frame.f_code in _CONTEXTLIB):
        frame = frame.f_back
    return frame


_CONTEXTLIB = frozenset(
    method.__code__
    for method in (
        contextlib._GeneratorContextManager.__enter__,  # noqa: SLF001 - their frames are over before the block begins
        contextlib._GeneratorContextManager.__exit__,  # noqa: SLF001 - as above
    )
)
