"""OTLP/HTTP as an ASGI application: one path for each signal, and the pages for those who operate it."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from comet_otel.receiver import answers
from comet_otel.receiver.allowance import Allowance
from comet_otel.receiver.decompression import ACCEPTED_ENCODINGS, normalized_encoding
from comet_otel.receiver.duplicates import REQUEST_ID_HEADER
from comet_otel.receiver.errors import (
    HeadersTooLargeError,
    MethodNotAllowedError,
    OverloadedError,
    ReceiverError,
    TooLargeError,
    UnauthenticatedError,
    UnknownPathError,
    UnsupportedMediaTypeError,
)
from comet_otel.receiver.intake import Intake
from comet_otel.receiver.metrics import CONTENT_TYPE
from comet_otel.receiver.preparing import Request
from comet_otel.streams import ROUTES, Signal

__all__ = ["HttpApp"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]

DRAIN_SECONDS: Final = 5.0
"""How long the rest of a body is read, to no end, before its refusal is sent: a client that is still sending, and finds
the connection closed, may never see the answer."""

RESERVED_BYTES_MIN: Final = 1024 * 1024
YIELD_AFTER_SECONDS: Final = 1.0

_SIGNALS: Final = {f"/{route.http_path}": route.signal for route in ROUTES}
_PAGES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_PAGE_METHODS: Final = frozenset({"GET", "HEAD"})
_TEXT: Final = "text/plain; charset=utf-8"
_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()


class _DisconnectedError(Exception):
    """The client went before its body was complete."""


def _plain_path(path: str) -> str:
    """Return one of the paths that are known, if this is another way to write it.

    Clients that join an endpoint and a path put a slash too many between or behind them; what goes through a proxy may
    have the server's name in front (RFC 9112, 3.2.2).
    """
    if path in _SIGNALS or path in _PAGES:
        return path
    if path.startswith(("http://", "https://")):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return "/" + "/".join(part for part in path.split("/") if part)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        self.method: str = scope["method"]
        self.path = _plain_path(scope["path"])
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.media_type = self._header(b"content-type").partition(";")[0].strip().lower()
        self.signal: Signal | None = _SIGNALS.get(self.path)
        self.body_complete = False
        self._receive = receive
        self._send = send

    def _header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def authorization(self) -> str:
        """The header of that name."""
        return self._header(b"authorization")

    @property
    def request_id(self) -> str:
        """What the shipper calls the request; empty for others."""
        return self._header(_REQUEST_ID) if _REQUEST_ID in self.headers else ""

    @property
    def content_encoding(self) -> str:
        """The header of that name."""
        return self._header(b"content-encoding")

    @property
    def content_length(self) -> int:
        """Bytes of the body, where the client says so; 0 where it does not. The HTTP library has checked it."""
        return int(self.headers.get(b"content-length", b"0"))

    async def next_piece(self) -> bytes:
        """Return the next piece of the body.

        Raises:
            _DisconnectedError: there comes none.
        """
        message = await self._receive()
        if message["type"] != "http.request":
            raise _DisconnectedError
        self.body_complete = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    async def drain(self, most: int) -> None:
        """Read the rest of the body, up to so many bytes, unless the client waits to be asked for it."""
        if b"100-continue" in self.headers.get(b"expect", b"").lower() or self.content_length > 2 * most:
            return
        while not self.body_complete and most > 0:
            most -= len(await self.next_piece())

    async def answer(self, status: int, content_type: str, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Send an answer; without the whole body read, the connection ends with it."""
        closing = () if self.body_complete else ((b"connection", b"close"),)
        standard = ((b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)))
        await self._send({"type": "http.response.start", "status": status, "headers": [*standard, *headers, *closing]})
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, error: ReceiverError) -> None:
        """Send an error in the encoding of the request."""
        headers = []
        if (seconds := answers.retry_after(error)) is not None:
            headers.append((b"retry-after", seconds.encode()))
        if isinstance(error, MethodNotAllowedError):
            headers.append((b"allow", error.allowed.encode()))
        if isinstance(error, UnauthenticatedError):
            headers.append((b"www-authenticate", b"Bearer"))
        if isinstance(error, UnsupportedMediaTypeError):
            headers.append((b"accept-encoding", ", ".join(ACCEPTED_ENCODINGS).encode()))
        if self.media_type == answers.PROTOBUF:
            await self.answer(error.http_status, answers.PROTOBUF, answers.protobuf_status(error), *headers)
        else:
            await self.answer(error.http_status, answers.JSON, answers.json_status(error), *headers)


class _Charge:
    """What a body on its way takes of the bytes in flight.

    A large body takes all that it will need before it is read: several that each had a part, and waited for the rest,
    would wait for each other. One that stands still gives back what it has not used, when others wait.
    """

    def __init__(self, memory: Allowance, request: Request) -> None:
        self._memory = memory
        self._request = request
        self._unused = 0
        self._last_unused = 0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> _Charge:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def reserve(self, size: int) -> None:
        """Take so many bytes, if they are many."""
        if size >= RESERVED_BYTES_MIN:
            await self._memory.take(size)
            self._request.charged = self._unused = self._last_unused = size
            self._look_later()

    async def use(self, size: int) -> None:
        """Count bytes that have come: as reserved, or taken now."""
        reserved = min(size, self._unused)
        self._unused -= reserved
        if size > reserved:
            await self._memory.take(size - reserved)
            self._request.charged += size - reserved

    def complete(self, size: int) -> None:
        """Have so many bytes charged in all for the body that is there now.

        Raises:
            OverloadedError: there are not so many.
        """
        more = size - self._request.charged
        if more > 0:
            if not self._memory.try_take(more):
                raise OverloadedError("too many bytes in flight at once; try again later")
            self._request.charged += more

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(YIELD_AFTER_SECONDS, self._look)

    def _look(self) -> None:
        came, self._last_unused = self._last_unused - self._unused, self._unused
        if came or not self._memory.contended:
            self._look_later()
            return
        unused, self._unused = self._unused, 0
        self._request.charged -= unused
        self._memory.give(unused)


class HttpApp:
    """The application; the server calls it once for each request."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        exchange = _Exchange(scope, receive, send)
        with contextlib.suppress(_DisconnectedError):
            try:
                self._check_headers(exchange)
                if exchange.path in _PAGES:
                    await self._page(exchange)
                else:
                    await self._export(exchange)
            except ReceiverError as error:
                error.detached()
                self._intake.metrics.answered("http", exchange.signal, error, 0, None)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(exchange.drain(self._intake.config.max_body_bytes), DRAIN_SECONDS)
                await exchange.refuse(error)

    def _check_headers(self, exchange: _Exchange) -> None:
        # The HTTP library measures headers only as long as they are not complete.
        most = self._intake.config.max_header_bytes
        if sum(len(name) + len(value) for name, value in exchange.headers.items()) > most:
            raise HeadersTooLargeError(f"the headers have more than {most} bytes")

    async def _export(self, exchange: _Exchange) -> None:
        if exchange.signal is None:
            raise UnknownPathError(f"nothing is at this path; there are {', '.join((*_SIGNALS, *sorted(_PAGES)))}")
        if exchange.method != "POST":
            raise MethodNotAllowedError("requests of this path are sent by POST", "POST")
        self._intake.authorize(exchange.authorization)
        if exchange.media_type not in {answers.PROTOBUF, answers.JSON}:
            raise UnsupportedMediaTypeError(f"the content type must be {answers.PROTOBUF} or {answers.JSON}")
        is_json = exchange.media_type == answers.JSON
        encoding = normalized_encoding(exchange.content_encoding)
        request = Request(exchange.signal, b"", encoding, is_json, exchange.request_id)
        with self._intake.arrival():
            try:
                request.body = await self._read_body(exchange, request)
            except BaseException:
                self._intake.memory.give(request.charged)
                raise
        answer = await self._intake.accept("http", request)
        if isinstance(answer, ReceiverError):
            await exchange.refuse(answer)
        else:
            body = answers.response(exchange.signal, answer, as_json=is_json)
            await exchange.answer(200, exchange.media_type, body)

    async def _read_body(self, exchange: _Exchange, request: Request) -> bytes:
        """Return the body, and leave charged what it takes."""
        most = self._intake.config.max_body_bytes
        too_large = f"the body has more than {most} bytes"
        if exchange.content_length > most:
            raise TooLargeError(too_large)
        with contextlib.ExitStack() as stack:
            charge = stack.enter_context(_Charge(self._intake.memory, request))
            await charge.reserve(self._intake.memory_needed(exchange.content_length))
            piece = await exchange.next_piece()
            await charge.use(len(piece))
            if exchange.body_complete and len(piece) <= most:
                return piece
            pieces = io.BytesIO()  # and not a list: a malicious body can come byte by byte
            pieces.write(piece)
            while not exchange.body_complete:
                piece = await exchange.next_piece()
                if pieces.tell() + len(piece) > most:
                    raise TooLargeError(too_large)
                await charge.use(len(piece))
                pieces.write(piece)
            if pieces.tell() > most:
                raise TooLargeError(too_large)
            charge.complete(self._intake.memory_needed(pieces.tell()))
        return pieces.getvalue()

    async def _page(self, exchange: _Exchange) -> None:
        if exchange.method not in _PAGE_METHODS:
            raise MethodNotAllowedError("this page is read by GET", "GET, HEAD")
        await exchange.drain(self._intake.config.max_header_bytes)
        if exchange.path == "/healthz":
            await exchange.answer(200, _TEXT, b"ok\n")
        elif exchange.path == "/readyz":
            if await self._intake.is_ready():
                await exchange.answer(200, _TEXT, b"ready\n")
            else:
                await exchange.answer(503, _TEXT, b"the log takes nothing now\n")
        else:
            self._intake.authorize(exchange.authorization)
            await exchange.answer(200, CONTENT_TYPE, self._intake.metrics.page())
