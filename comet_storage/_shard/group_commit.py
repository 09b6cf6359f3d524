"""Group commit: appends that wait for the disk share one sync (``durability="always"``).

Frames are stored in the segment at once, but published, to readers as well, only when a sync has covered them. One of
the waiting threads leads: it syncs what is stored by then, publishes it and wakes the others, of which one leads next.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable

from comet_storage._format.state_page import HINT_NUMBER, HINT_POSITION, PUBLISHED
from comet_storage._shard.page import Words
from comet_storage.errors import CometError

_PATIENCE_SECONDS = 0.05
"""After so long a waiting thread looks by itself whether it has to lead; it is woken earlier as a rule."""


class Ticket:
    """One append's wait.

    Attributes:
        position: end of its frame in the shard's log.
        done: its frame is durable and published, or never will be.
        error: why it never will be.
    """

    __slots__ = ("_lock", "done", "error", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.done = False
        self.error: CometError | None = None
        self._lock = threading.Lock()
        self._lock.acquire()

    def finish(self, error: CometError | None) -> None:
        """Say what became of it and wake its thread."""
        self.error = error
        self.done = True
        self.wake()

    def wake(self) -> None:
        """Have its thread look."""
        if self._lock.locked():
            self._lock.release()

    def wait(self) -> None:
        """Return when woken, or after a while."""
        self._lock.acquire(timeout=_PATIENCE_SECONDS)


class GroupCommit:
    """The appends of one shard that wait for the disk.

    Args:
        commit: syncs and publishes what is stored, or takes it back.
    """

    def __init__(self, commit: Callable[[], None]) -> None:
        self._commit = commit
        self._tickets: deque[Ticket] = deque()
        self._latest: dict[int, Ticket] = {}
        self._leading = False
        self._leader = 0

    def join(self, position: int) -> None:
        """This thread's append, stored up to ``position``, waits. In the writer's turn, so in the order of the log."""
        ticket = Ticket(position)
        self._latest[threading.get_ident()] = ticket
        self._tickets.append(ticket)

    def wait(self) -> None:
        """Return when this thread's append is durable.

        Raises:
            CometError: it is not and never will be.
        """
        # The latest one: a signal handler's append in between covers the one that it interrupted.
        ticket = self._latest.pop(threading.get_ident(), None)
        while ticket is not None and not ticket.done:
            # Test and set without a call in between (see Turns).
            if not self._leading:
                self._leading = True
                try:
                    self._leader = threading.get_ident()
                    self._commit()
                finally:
                    self._leader = 0
                    self._leading = False
                    self._wake_next()
            elif self._leader == threading.get_ident():
                # A signal handler that interrupted this thread's own commit.
                self._commit()
            else:
                ticket.wait()
        if ticket is not None and ticket.error is not None:
            raise ticket.error

    def finish(self, position: int) -> None:
        """Everything below ``position`` is durable and published. In the writer's turn."""
        while self._tickets and self._tickets[0].position <= position:
            self._tickets.popleft().finish(None)

    def fail(self, error: CometError) -> None:
        """What still waits was taken back. In the writer's turn."""
        while self._tickets:
            self._tickets.popleft().finish(error)

    def _wake_next(self) -> None:
        """Have one of the waiting threads look whether it has to lead."""
        with contextlib.suppress(IndexError):
            self._tickets[0].wake()


class StagedWords:
    """A state page's hot words as a writer sees them whose publications wait for the disk."""

    def __init__(self, words: Words, commits: GroupCommit) -> None:
        self._words = words
        self._commits = commits
        self.published = words[PUBLISHED]
        self.published_number = words[HINT_NUMBER]
        self._staged = self.published

    def __getitem__(self, index: int) -> int:
        found = self._words[index]
        # Where the page says something else than it was given, it is damaged, and the writer has to see that.
        return self._staged if index == PUBLISHED and found == self.published else found

    def __setitem__(self, index: int, value: int) -> None:
        if index == PUBLISHED:
            self._staged = value
            self._commits.join(value)
        elif index not in {HINT_NUMBER, HINT_POSITION}:
            self._words[index] = value

    def release(self) -> None:
        """Let go of the page's words."""
        self._words.release()

    def publish(self, position: int, number: int) -> None:
        """Let readers see everything below a position that is durable. In the writer's turn."""
        if position > self.published:
            self.published, self.published_number = position, number
            self._words[PUBLISHED] = position
            self._words[HINT_NUMBER] = number
            self._words[HINT_POSITION] = position

    def take_back(self) -> None:
        """Forget what is not published. In the writer's turn; its cursor has to follow."""
        self._staged = self.published
