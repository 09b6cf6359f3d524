"""SIGTERM, SIGINT and SIGHUP as something that a loop can wait for."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

_STOP = (signal.SIGTERM, signal.SIGINT)
_RELOAD = signal.SIGHUP


class StopSignals:
    """While entered, the signals only set a flag and wake `wait`.

    They do no more, because a handler runs between any two steps of the main thread, perhaps while it holds the very
    lock that setting an event, or writing a log line, would wait for. Enter it in the main thread.
    """

    def __init__(self) -> None:
        """Prepare; nothing is changed before it is entered."""
        self.received = False
        """Whether one came that tells to stop."""
        self._reload = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._writer.settimeout(0)
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._on_signal) for number in (*_STOP, _RELOAD)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() returned, it takes
        signal.set_wakeup_fd(self._previous_fd)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float) -> bool:
        """Wait until a signal comes or the time is over; return whether one has come that tells to stop."""
        if not self.received and not self._reload:
            select.select([self._reader], [], [], seconds)
            with contextlib.suppress(BlockingIOError):
                self._reader.recv(64)
        return self.received

    def take_reload(self) -> bool:
        """Return whether a signal to read the settings again has come since this was last asked."""
        asked, self._reload = self._reload, False
        return asked

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        if number == _RELOAD:
            self._reload = True
        else:
            self.received = True
