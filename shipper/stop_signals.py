"""SIGTERM and SIGINT as something that a loop can wait for."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While entered, the two signals only set a flag and wake `wait`.

    They do no more, because a handler runs between any two steps of the main thread, perhaps while it holds the very
    lock that setting an event, or writing a log line, would wait for. Enter it in the main thread.
    """

    def __init__(self) -> None:
        """Prepare; nothing is changed before it is entered."""
        self.received = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0)
        self._writer.settimeout(0)
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
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
        """Wait until a signal comes, `wake` is called or the time is over; return whether a signal has come."""
        if not self.received:
            select.select([self._reader], [], [], seconds)
            with contextlib.suppress(BlockingIOError):
                self._reader.recv(64)
        return self.received

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self.received = True
