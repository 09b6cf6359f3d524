"""The receiver as a whole: its parts put together, started and stopped, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Any

from comet_otel.receiver.addresses import Address, listen, out_of_sight, remove_socket_file
from comet_otel.receiver.config import GRPC_ENDPOINT_DEFAULT, HTTP_ENDPOINT_DEFAULT, ReceiverConfig
from comet_otel.receiver.grpc_server import GrpcServer
from comet_otel.receiver.http_app import HttpApp
from comet_otel.receiver.http_server import BACKLOG, HttpServer
from comet_otel.receiver.intake import Intake
from comet_otel.receiver.tls import Certificates
from comet_otel.receiver.tokens import Tokens
from comet_storage import Client, CometError, ConfigError

__all__ = ["OTLPReceiver"]

REFRESH_SECONDS = 1.0
"""How soon a changed file of tokens or certificates is noticed."""

_logger = logging.getLogger(__name__)


class OTLPReceiver:
    """An OTLP server that stores what it gets in a log; what it has acknowledged is stored.

    Args:
        client: the open log. It stays the caller's, who closes it after `stop`.
        grpc_endpoint: where OTLP/gRPC is served: ``HOST:PORT``, ``unix:/PATH``, or None for not at all. Port 0 lets the
            system choose; `grpc_endpoint` tells which it chose.
        http_endpoint: the same for OTLP/HTTP.
        config: everything else; the two endpoints in it are not used.

    Raises:
        ConfigError: naming every setting that is wrong.
    """

    def __init__(
        self,
        client: Client,
        grpc_endpoint: str | None = GRPC_ENDPOINT_DEFAULT,
        http_endpoint: str | None = HTTP_ENDPOINT_DEFAULT,
        *,
        config: ReceiverConfig | None = None,
    ) -> None:
        self._config = replace(config or ReceiverConfig(), grpc_endpoint=grpc_endpoint, http_endpoint=http_endpoint)
        self._config.validate()
        self._client = client
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Future[float] | None = None
        self._intake: Intake | None = None
        self.grpc_endpoint: str | None = None
        """Where OTLP/gRPC is served, once it is."""
        self.http_endpoint: str | None = None
        """Where OTLP/HTTP is served, once it is."""

    def __enter__(self) -> OTLPReceiver:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def broken(self) -> CometError | None:
        """The error after which the log takes nothing more through this client; None while it works."""
        return None if self._intake is None else self._intake.broken

    def start(self) -> None:
        """Listen, and return once requests are answered.

        Raises:
            ConfigError: the certificates or tokens cannot be used.
            OSError: an endpoint cannot be had.
            RuntimeError: it was started before.
        """
        if self._thread is not None:
            raise RuntimeError("a receiver is started once; make a new one")
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(started)), name="comet-receiver", daemon=True
        )
        self._thread.start()
        started.result()

    def stop(self, grace: float = 5.0) -> None:
        """Take no more requests, give those that have come so many seconds, and return when all is closed.

        What is being stored then is waited for in any case. A second call does nothing.
        """
        thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(self._set_stop, grace)
        thread.join()

    def _set_stop(self, grace: float) -> None:
        if self._stop is not None and not self._stop.done():
            self._stop.set_result(grace)

    async def _run(self, started: Future[None]) -> None:
        """Serve until told to stop. The order: files, sockets, HTTP, gRPC; and the other way round."""
        self._loop = asyncio.get_running_loop()
        self._stop = self._loop.create_future()
        servers: list[HttpServer | GrpcServer] = []
        async with contextlib.AsyncExitStack() as stack:
            try:
                certificates, tokens = self._read_files()
                intake = self._intake = Intake(self._client, self._config, tokens)
                stack.callback(intake.close)
                await self._start_http(intake, certificates, servers, stack)
                await self._start_grpc(intake, certificates, servers, stack)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the thread that waits in `start` has to know
                await asyncio.gather(*(server.stop(0) for server in servers))
                started.set_exception(error)
                return
            refreshing = asyncio.create_task(_refresh(certificates, tokens))
            started.set_result(None)
            grace = await self._stop
            refreshing.cancel()
            await asyncio.gather(*(server.stop(grace) for server in servers), refreshing, return_exceptions=True)

    def _read_files(self) -> tuple[Certificates | None, Tokens | None]:
        try:
            certificates = Certificates(self._config) if self._config.tls_certificate else None
            tokens = Tokens(self._config.token_file) if self._config.token_file else None
        except (OSError, ValueError) as error:
            raise ConfigError(f"the files of certificates or tokens cannot be used: {error}") from error
        return certificates, tokens

    async def _start_http(
        self, intake: Intake, certificates: Certificates | None, servers: list[Any], stack: contextlib.AsyncExitStack
    ) -> None:
        address = self._config.http_address()
        if address is None:
            return
        sockets = listen(address, backlog=BACKLOG, socket_mode=self._config.socket_mode)
        for listener in sockets:
            stack.callback(listener.close)
        endpoint = str(_with_port(address, sockets[0]))
        _remove_at_end(address, stack)
        server = HttpServer(HttpApp(intake), self._config, intake.metrics)
        servers.append(server)
        context = certificates.ssl_context() if certificates and address.path is None else None
        await server.start(sockets, context)
        self.http_endpoint = endpoint

    async def _start_grpc(
        self, intake: Intake, certificates: Certificates | None, servers: list[Any], stack: contextlib.AsyncExitStack
    ) -> None:
        address = self._config.grpc_address()
        if address is None:
            return
        server = GrpcServer(intake)
        servers.append(server)
        if address.path is not None:
            remove_socket_file(address.path)
            with out_of_sight(address.path, self._config.socket_mode) as hidden:
                await server.start(f"unix:{hidden}", None)
            _remove_at_end(address, stack)
            self.grpc_endpoint = str(address)
        else:
            port = await server.start(str(address), certificates.grpc_credentials() if certificates else None)
            self.grpc_endpoint = str(replace(address, port=port))


async def _refresh(certificates: Certificates | None, tokens: Tokens | None) -> None:
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        for files in (certificates, tokens):
            if files is not None:
                files.refresh()


def _with_port(address: Address, listener: socket.socket) -> Address:
    return address if address.path is not None else replace(address, port=listener.getsockname()[1])


def _remove_at_end(address: Address, stack: contextlib.AsyncExitStack) -> None:
    if address.path is not None:
        path = address.path
        stack.callback(lambda: path.unlink(missing_ok=True))
