"""Requests on their way over HTTP: each ends at its deadline, whatever the other side does.

A socket's time-out begins anew with each byte, so that a server that sends one byte now and then would hold a request
for as long as it likes. Here each exchange knows its socket, which is shut down when the time is over, or when the
shipper is told to stop. And the head of an answer is whole, or the answer is none: Python's own reader takes the end of
the connection for the end of the head, and "200" without the rest for a success.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from typing import Any


class Exchange:
    """One request and its answer."""

    def __init__(self) -> None:
        """Prepare; the connection is told later."""
        self.ended = False
        """Whether it was ended from this side."""
        self.sending = False
        """Whether the request was not yet sent to its end."""
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def uses(self, connection: Any) -> None:
        """Take note of the connection that it goes over."""
        with self._lock:
            self._socket = connection.sock if isinstance(connection.sock, socket.socket) else None
            ended = self.ended
        if ended:
            self.end()

    def end(self) -> None:
        """Break it off: whoever waits for the socket gets an error."""
        with self._lock:
            self.ended = True
            used = self._socket
        if used is not None:
            with contextlib.suppress(OSError):
                used.shutdown(socket.SHUT_RDWR)


class Exchanges:
    """The exchanges of one sender.

    Attributes:
        pool_classes: connection pools for `urllib3`, by scheme, that tell each exchange its connection.
    """

    def __init__(self, urllib3: Any, seconds: float) -> None:
        """Give each exchange that many seconds."""
        self._seconds = seconds
        self._current = threading.local()
        self._lock = threading.Lock()
        self._under_way: set[Exchange] = set()
        self._closed = False
        self.pool_classes = _pool_classes(urllib3, self._current)

    @contextlib.contextmanager
    def begin(self) -> Iterator[Exchange]:
        """Begin the exchange of the calling thread."""
        exchange = Exchange()
        timer = threading.Timer(self._seconds, exchange.end)
        timer.daemon = True
        with self._lock:
            self._under_way.add(exchange)
            exchange.ended = self._closed
        self._current.exchange = exchange
        timer.start()
        try:
            yield exchange
        finally:
            timer.cancel()
            self._current.exchange = None
            with self._lock:
                self._under_way.discard(exchange)

    def close(self) -> None:
        """End all that are under way, and those that begin from now on."""
        with self._lock:
            self._closed = True
            under_way = list(self._under_way)
        for exchange in under_way:
            exchange.end()


class _WholeHeadResponse(http.client.HTTPResponse):
    """An answer whose head ends as it should."""

    def begin(self) -> None:
        """Read the head.

        Raises:
            ConnectionError: the connection ends within it.
        """
        stream: Any = self.fp
        self.fp = _WholeLines(stream)  # type: ignore[assignment]  # as much of a stream as reading a head takes
        try:
            super().begin()
        finally:
            self.fp = stream


class _WholeLines:
    """Reads lines that end."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._some = False

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._stream.readline(limit)
        if not line.endswith(b"\n") and (line or self._some) and len(line) != limit:
            raise ConnectionResetError("the connection ended within the head of the answer")
        self._some = True
        return line

    def close(self) -> None:
        self._stream.close()


def _pool_classes(urllib3: Any, current: threading.local) -> dict[str, type]:
    """Return pools whose connections report to the exchange of the thread that uses them."""

    def watched(connection_class: Any) -> type:
        class Watched(connection_class):  # type: ignore[misc]  # urllib3 is loaded when the sender is made
            response_class = _WholeHeadResponse

            def connect(self) -> None:
                super().connect()
                current.exchange.uses(self)

            def _new_conn(self) -> Any:
                made = super()._new_conn()
                # Until TLS is agreed on, and a proxy has answered.
                self.sock = made
                current.exchange.uses(self)
                self.sock = None
                return made

            def request(self, *arguments: Any, **options: Any) -> None:
                exchange = current.exchange
                if self.sock is not None:
                    exchange.uses(self)
                exchange.sending = True
                super().request(*arguments, **options)
                exchange.sending = False

        return Watched

    def pool(pool_class: Any) -> type:
        return type(pool_class.__name__, (pool_class,), {"ConnectionCls": watched(pool_class.ConnectionCls)})

    return {"http": pool(urllib3.HTTPConnectionPool), "https": pool(urllib3.HTTPSConnectionPool)}
