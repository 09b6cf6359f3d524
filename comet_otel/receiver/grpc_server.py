"""OTLP/gRPC: three methods over raw bytes, on gRPC's own asynchronous server.

The methods are declared to take a stream, of which they read one message: on the wire that is the same, and it lets a
method look at the caller, and at the room there is, before the message is read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio

from comet_otel.receiver import answers
from comet_otel.receiver.config import ReceiverConfig
from comet_otel.receiver.duplicates import REQUEST_ID_HEADER
from comet_otel.receiver.errors import OverloadedError, ReceiverError, UndecodableError
from comet_otel.receiver.grpc_reading import Reading
from comet_otel.receiver.intake import Intake
from comet_otel.receiver.memory import ResidentMemory
from comet_otel.receiver.preparing import Request
from comet_otel.streams import ROUTES, Signal

__all__ = ["GrpcServer"]

WAITING_BYTES_MAX: Final = 1024 * 1024
"""A message of this size or more that finds no room is refused at once."""

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
        config = intake.config
        reading = Reading(config, ResidentMemory(config.max_bytes_in_flight // 2))
        self._handlers: dict[str, Any] = {
            route.grpc_method: grpc.stream_unary_rpc_method_handler(_Export(intake, route.signal, reading).__call__)
            for route in ROUTES
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a method; None where there is none."""
        return self._handlers.get(handler_call_details.method)


class _Export:
    """One of the methods."""

    def __init__(self, intake: Intake, signal: Signal, reading: Reading) -> None:
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
            answer = error.detached()
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
        needed = self._intake.memory_needed(len(body))
        if len(body) < WAITING_BYTES_MAX:
            await memory.take(needed)
        elif not memory.try_take(needed):
            # It is in memory already: to wait with it would be to keep what there is no room for.
            raise OverloadedError("too many bytes in flight at once; try again later")
        request.charged = needed
        return body


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
