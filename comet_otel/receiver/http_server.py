"""The HTTP server: uvicorn, with the limits that it leaves to others.

uvicorn (with h11) bounds the size of headers and closes idle connections. It does not bound how long headers or a body
may take, nor how many connections there are. Both are done here, by a look at all connections once a second, so that a
request costs no timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from comet_otel.receiver import answers
from comet_otel.receiver.config import ReceiverConfig
from comet_otel.receiver.errors import ReceiverError, TooSlowError, UndecodableError
from comet_otel.receiver.http_app import HttpApp
from comet_otel.receiver.memory import give_memory_back
from comet_otel.receiver.metrics import ReceiverMetrics

__all__ = ["BACKLOG", "HttpServer"]

BACKLOG: Final = 1024
SWEEP_SECONDS: Final = 1.0
BODY_RATE_MIN: Final = 16 * 1024
"""Bytes a second that a body must come with, beyond the first `body_timeout` seconds."""

GRACE_SECONDS_MIN: Final = 0.1

TLS_CONNECTION_BYTES: Final = 256 * 1024
TLS_CONNECTIONS_MIN: Final = 64
"""Each TLS connection has a buffer of that size; together they may have half as much as the bytes in flight."""

CROWD: Final = 100
"""When so many connections have gone, so does the memory that they took."""

_quiet = logging.getLogger(f"{__name__}.library")
_quiet.setLevel(logging.CRITICAL)  # what a stranger's bytes look like is counted, and is no news


class _Connection(H11Protocol):
    """One connection. It is quiet while it waits for a request, from its first byte to the end of its headers."""

    def __init__(self, server: HttpServer, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.logger = _quiet
        self._limits = server
        self._quiet_since = self.loop.time()
        self._body_since = 0.0
        self._last_data = 0.0
        self._body_bytes = 0
        self._unread_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._limits.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        now = self.loop.time()
        was_idle = self.timeout_keep_alive_task is not None
        in_request = self.is_in_request()
        self._last_data = now
        if in_request:
            self._body_bytes += len(data)
        elif was_idle:
            self._quiet_since = now  # the headers of the next request begin
        super().data_received(data)
        if not in_request and self.is_in_request():
            self._limits.waiting.pop(self, None)
            self._body_since = now
            self._body_bytes = 0

    def on_response_complete(self) -> None:
        self._quiet_since = self.loop.time()
        self._limits.waiting[self] = None
        super().on_response_complete()
        if self.is_in_request():  # a pipelined one
            self._limits.waiting.pop(self, None)
            self._body_since = self._last_data = self.loop.time()
            self._body_bytes = 0

    def is_in_request(self) -> bool:
        """Say whether the headers of a request are complete and its answer is not."""
        cycle: RequestResponseCycle | None = self.cycle  # which uvicorn declares to be always there
        return cycle is not None and not cycle.response_complete

    def sweep(self, now: float, config: ReceiverConfig) -> None:
        """End the connection if its client is too slow."""
        if not self.transport.get_write_buffer_size():
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > config.body_timeout:
            # It does not read its answers. To close the connection would be to wait until it has read them.
            self.transport.abort()
            self._limits.metrics.closed("unread_answers")
            return
        if not self.is_in_request():
            # An idle connection, which has had its answer and sent nothing since, has a timer of its own.
            if self.timeout_keep_alive_task is None and now - self._quiet_since > config.header_timeout:
                self.end("slow_headers")
        elif self.cycle.more_body:
            if self.flow.read_paused:
                self._last_data = now  # it is we who do not read
            patience = config.body_timeout
            if now - self._last_data > patience or now - self._body_since > patience + self._body_bytes / BODY_RATE_MIN:
                self.end("slow_body")

    def end(self, reason: str) -> None:
        """Close the connection without waiting for its client; one that sends a body is told why."""
        self._limits.metrics.closed(reason)
        if self.is_in_request():
            cycle = self.cycle
            if not cycle.response_started:
                with contextlib.suppress(h11.LocalProtocolError):
                    self._send_error(TooSlowError("the body did not come in time"))
            cycle.disconnected = True
            cycle.message_event.set()
            self.transport.close()
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        if self.is_in_request():
            self.cycle.disconnected = True  # its body cannot be read on
            self.cycle.message_event.set()
        with contextlib.suppress(h11.LocalProtocolError):
            self._send_error(UndecodableError(msg))
        self.transport.close()

    def _send_error(self, error: ReceiverError) -> None:
        body = answers.json_status(error)
        headers = [("content-type", answers.JSON), ("content-length", str(len(body))), ("connection", "close")]
        events = (h11.Response(status_code=error.http_status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        for event in events:
            self.transport.write(self.conn.send(event) or b"")


class _TlsListener(socket.socket):
    """A socket that listens, and tells of each connection before its handshake: nobody else does until that is over."""

    def __init__(self, listener: socket.socket, server: HttpServer) -> None:
        super().__init__(fileno=listener.detach())
        self.settimeout(0)
        self._limits = server

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection and make room for it."""
        connection, address = super().accept()
        self._limits.admit_handshake(connection)
        return connection, address


class _Server(uvicorn.Server):
    """uvicorn's server on sockets that listen already, with connections of ours."""

    def __init__(self, config: uvicorn.Config, limits: HttpServer, context: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._limits = limits
        self._context = context

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            return _Connection(
                self._limits, config=self.config, server_state=self.server_state, app_state={}, _loop=loop
            )

        timeout = self._limits.config.header_timeout if self._context else None
        self.servers = [
            await loop.create_server(
                connection,
                sock=_TlsListener(listener, self._limits) if self._context else listener,
                ssl=self._context,
                backlog=BACKLOG,
                ssl_handshake_timeout=timeout,
            )
            for listener in sockets or []
        ]
        self.started = True


class HttpServer:
    """Serves an application on some sockets, from `start` to `stop`.

    Attributes:
        config: the receiver's.
        metrics: where closed connections are counted.
        waiting: the connections without a request, the longest quiet first.
    """

    def __init__(self, app: HttpApp, config: ReceiverConfig, metrics: ReceiverMetrics) -> None:
        self.config = config
        self.metrics = metrics
        self.waiting: dict[_Connection, None] = {}
        self._handshakes: dict[int, socket.socket] = {}
        self._max_connections = config.max_connections
        self._peak = 0
        self._app = app
        self._server: _Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        metrics.watch("comet_receiver_http_connections", "HTTP connections that are open.", self._open_connections)

    async def start(self, sockets: list[socket.socket], context: ssl.SSLContext | None) -> None:
        """Begin to accept connections on sockets that listen; with TLS, they are taken over."""
        settings = uvicorn.Config(
            self._app,
            http=H11Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # nobody asks where a request comes from
            h11_max_incomplete_event_size=self.config.max_header_bytes,
            # uvicorn hands it to the event loop, which takes any number of seconds.
            timeout_keep_alive=self.config.keep_alive_timeout,  # type: ignore[arg-type]
        )
        if context is not None:
            affordable = self.config.max_bytes_in_flight // 2 // TLS_CONNECTION_BYTES
            self._max_connections = min(self._max_connections, max(TLS_CONNECTIONS_MIN, affordable))
        self._server = _Server(settings, self, context)
        self._tasks = [
            asyncio.create_task(self._server.serve(sockets)),
            asyncio.create_task(self._sweep(self._server)),
        ]
        while not self._server.started:
            await asyncio.sleep(0)
            if self._tasks[0].done():
                await self._tasks[0]

    async def stop(self, grace: float) -> None:
        """Accept no more, and give requests that are being answered so many seconds."""
        if self._server is None:
            return
        # Given to asyncio.wait_for, which calls 0 seconds too few even where there is nothing to wait for.
        self._server.config.timeout_graceful_shutdown = max(grace, GRACE_SECONDS_MIN)  # type: ignore[assignment]
        self._server.should_exit = True
        self._tasks[1].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    def admit(self, connection: _Connection) -> None:
        """Take a connection in; where there are too many, the one that has been quiet for longest goes."""
        if self._handshakes:
            self._handshakes.pop(connection.transport.get_extra_info("socket").fileno(), None)
        if self._open_connections() > self._max_connections:
            oldest = next(iter(self.waiting), None)
            (connection if oldest is None else oldest).end("too_many")
            if oldest is None:
                return
            self.waiting.pop(oldest)
        self.waiting[connection] = None

    def admit_handshake(self, connection: socket.socket) -> None:
        """Take in a connection whose TLS handshake begins; where there are too many, the oldest of these ends.

        They may have what no other connection has, and a quarter of all places in any case.
        """
        most = self._max_connections
        if len(self._handshakes) >= max(1, most // 4, most - self._open_connections()):
            self._forget_closed_handshakes()
            if len(self._handshakes) >= max(1, most // 4, most - self._open_connections()):
                oldest = self._handshakes.pop(next(iter(self._handshakes)))
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
                self.metrics.closed("too_many")
        self._handshakes.pop(connection.fileno(), None)
        self._handshakes[connection.fileno()] = connection

    def _forget_closed_handshakes(self) -> None:
        # Those that came to nothing have been closed, and nobody told.
        self._handshakes = {number: found for number, found in self._handshakes.items() if found.fileno() >= 0}

    def _after_a_crowd(self) -> None:
        self._forget_closed_handshakes()
        count = self._open_connections() + len(self._handshakes)
        if self._peak - count >= CROWD:
            self._peak = count
            give_memory_back()
        self._peak = max(self._peak, count)

    def _open_connections(self) -> int:
        return 0 if self._server is None else len(self._server.server_state.connections)

    async def _sweep(self, server: _Server) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = loop.time()
            self._after_a_crowd()
            for connection in list(server.server_state.connections):
                if isinstance(connection, _Connection):
                    connection.sweep(now, self.config)
