"""One append to a shard at a time in this process: threads take turns, and a thread never waits for itself."""

from __future__ import annotations

import contextlib
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
        self._turn_of = 0

    def _wait_for_turn(self) -> None:
        """Return when the append that is under way has ended; the caller tests and sets, with no call in between.

        Raises:
            ReentrantAppendError: it is this thread's own, further up its stack.
            LogBusyError: it did not end within the lock timeout.
        """
        # Whoever has a turn works in a ``with`` block, so its frame does not tell.
        reentrant = self._turn_of == threading.get_ident()
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

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Keep this process's appends to the shard out."""
        thread = threading.get_ident()
        while True:
            if not self._busy:
                self._busy = True
                self._turn_of = thread
                break
            self._wait_for_turn()
        try:
            yield
        finally:
            self._turn_of = 0
            self._busy = False
