"""OTLP/gRPC: three methods over raw bytes, on gRPC's own asynchronous server.

The methods are declared to take a stream, of which they read one message: on the wire that is the same, and it lets a
method look at the caller, and at the room there is, before the message is read at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio

from comet_otel.receiver import answers
from comet_otel.receiver.allowance import Allowance
from comet_otel.receiver.config import ReceiverConfig
from comet_otel.receiver.duplicates import REQUEST_ID_HEADER
from comet_otel.receiver.errors import OverloadedError, ReceiverError, TooSlowError, UndecodableError
from comet_otel.receiver.intake import Intake
from comet_otel.receiver.preparing import Request
from comet_otel.streams import ROUTES, Signal

__all__ = ["GrpcServer"]

QUICK_READS: Final = 64
QUICK_SECONDS: Final = 0.05
"""So many messages at once may come within so short a time without a place."""

YIELD_AFTER_SECONDS: Final = 1.0
"""When others want a place, a message that takes longer than this to come gives its own up."""

WAITING_BYTES_MAX: Final = 1024 * 1024
"""A message of this size or more that finds no room is refused at once."""

_LOOK_SECONDS: Final = 0.05
_STREAMS_PER_CONNECTION: Final = 1024
_WINDOW_BYTES: Final = 256 * 1024
"""Of a message that nobody reads yet, so much may come: most come whole, and need no second round."""
_KEEPALIVE_SECONDS: Final = 60

_CODES: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}

_Context = grpc.aio.ServicerContext[bytes, bytes]


class GrpcServer:
    """Serves the three methods from `start` to `stop`."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Listen, begin to serve, and return the port; 1 for a Unix domain socket.

        Raises:
            OSError: the address cannot be had.
        """
        server = grpc.aio.server(options=_options(self._intake.config))
        server.add_generic_rpc_handlers([_Methods(self._intake)])
        try:
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await server.start()
        self._server = server
        return port

    async def stop(self, grace: float) -> None:
        """Take no more calls, and give those that are being answered so many seconds."""
        if self._server is not None:
            await self._server.stop(grace)


class _Methods(grpc.GenericRpcHandler):
    """The methods by their full names."""

    def __init__(self, intake: Intake) -> None:
        reading = _Reading(intake.config)
        self._handlers: dict[str, Any] = {
            route.grpc_method: grpc.stream_unary_rpc_method_handler(_Export(intake, route.signal, reading).__call__)
            for route in ROUTES
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a method; None where there is none."""
        return self._handlers.get(handler_call_details.method)


class _Export:
    """One of the methods."""

    def __init__(self, intake: Intake, signal: Signal, reading: _Reading) -> None:
        self._intake = intake
        self._reading = reading
        self._signal = signal

    async def __call__(self, _messages: object, context: _Context) -> bytes:
        """Answer one call."""
        answer: Any
        try:
            metadata = _metadata(context)
            self._intake.authorize(metadata.get("authorization", ""))
            request = Request(self._signal, b"", request_id=metadata.get(REQUEST_ID_HEADER, ""))
            with self._intake.arrival():
                request.body = await self._read(request, context)
        except ReceiverError as error:
            self._intake.metrics.answered("grpc", self._signal, error, 0, None)
            answer = error
        else:
            answer = await self._intake.accept("grpc", request)
        if isinstance(answer, ReceiverError):
            await context.abort(_CODES[answer.grpc_code], str(answer), answers.grpc_trailers(answer))
        return answers.response(self._signal, answer, as_json=False)

    async def _read(self, request: Request, context: _Context) -> bytes:
        """Return the message, and leave charged what it takes."""
        body = await self._reading.message(context)
        if not isinstance(body, bytes):
            raise UndecodableError("the call carries no message")
        memory = self._intake.memory
        if len(body) < WAITING_BYTES_MAX:
            await memory.take(len(body))
        elif not memory.try_take(len(body)):
            # It is in memory already: to wait with it would be to keep what there is no room for.
            raise OverloadedError("too many bytes in flight at once; try again later")
        request.charged = len(body)
        return body


class _Reading:
    """Who may read a message, of which nobody knows the size before it is there.

    Most messages are there at once, and what can come in so short a time is little. One that takes longer needs a
    place, of which there are few, because it may become as large as the limit; without one it is refused, to come back.
    One that has had a place for long gives it up to others.

    Attributes:
        body_timeout: seconds within which a message must come.
        quick: how many messages may be waited for without a place.
        places: places that are free.
        wanted_at: when somebody found none, by the event loop's clock.
    """

    def __init__(self, config: ReceiverConfig) -> None:
        self.body_timeout = config.body_timeout
        self.quick = Allowance(QUICK_READS, wait_seconds=config.admission_timeout, what="messages")
        self.places = max(1, config.max_bytes_in_flight // 2 // config.max_body_bytes)
        self.wanted_at = float("-inf")

    async def message(self, context: _Context) -> Any:
        """Return what is read: the message, or a mark that there is none.

        Raises:
            OverloadedError: it came slowly, and there was no place for it.
            TooSlowError: it did not come in time.
        """
        await self.quick.take(1)
        patience = _Patience(self)
        try:
            # Awaited here and not in a task of its own, which would take the event loop more rounds than all the rest.
            return await context.read()
        except asyncio.CancelledError:
            if patience.error is None:
                raise
            raise patience.error from None
        finally:
            patience.end()


class _Patience:
    """How long one message is waited for: looks at it from time to time, and ends the waiting by cancelling it."""

    def __init__(self, reading: _Reading) -> None:
        self.error: ReceiverError | None = None
        self._reading = reading
        self._has_place = False
        self._loop = asyncio.get_running_loop()
        self._begin = self._loop.time()
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(QUICK_SECONDS, self._look_first)

    def end(self) -> None:
        """Wait no more: the message is there, or will not be."""
        self._timer.cancel()
        if self._has_place:
            self._reading.places += 1
        elif self.error is None:
            self._reading.quick.give(1)

    def _look_first(self) -> None:
        if not self._reading.places:
            self._reading.wanted_at = self._loop.time()
            self._fail(OverloadedError("the message comes slowly, as do others; try again later"))
            self._reading.quick.give(1)
            return
        self._reading.places -= 1
        self._has_place = True
        self._reading.quick.give(1)
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now - self._begin > self._reading.body_timeout:
            self._fail(TooSlowError("the message did not come in time"))
        elif now - self._begin > YIELD_AFTER_SECONDS and now - self._reading.wanted_at < YIELD_AFTER_SECONDS:
            self._fail(OverloadedError("the message came slowly while others waited; try again later"))
        else:
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def _fail(self, error: ReceiverError) -> None:
        self.error = error
        if self._task is not None:
            self._task.cancel()


def _metadata(context: _Context) -> dict[str, str]:
    found: Sequence[tuple[str, str | bytes]] = context.invocation_metadata() or ()  # type: ignore[assignment]
    return {key: value for key, value in found if isinstance(value, str)}


def _options(config: ReceiverConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_body_bytes),
        ("grpc.max_metadata_size", config.max_header_bytes),
        ("grpc.absolute_max_metadata_size", config.max_header_bytes),
        ("grpc.max_concurrent_streams", _STREAMS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.server_handshake_timeout_ms", int(config.header_timeout * 1000)),
        ("grpc.max_connection_idle_ms", int(config.keep_alive_timeout * 1000)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A window that grows with the connection would be memory that nobody has counted.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        # Two receivers on one port would each get half of the calls, and neither of them know.
        ("grpc.so_reuseport", 0),
    ]
