"""An HTTP server on raw sockets that does to each request what a test has it do."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Behaviour = Callable[[socket.socket, bytes], bool]
"""Given the connection and the request's body: answers somehow, and says whether the connection stays open."""


def answer(
    status: int = 200,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    cut: int | None = None,
) -> Behaviour:
    """Answer with this; ``cut``: only so many bytes of it, and then the end."""

    def behave(connection: socket.socket, _: bytes) -> bool:
        fields = {"Content-Type": "application/x-protobuf", "Content-Length": str(len(body)), **(headers or {})}
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        data = head.encode() + b"\r\n" + body
        connection.sendall(data if cut is None else data[:cut])
        return cut is None

    return behave


def reset(connection: socket.socket, _: bytes) -> bool:
    """Break the connection off without an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def hang_up(_: socket.socket, __: bytes) -> bool:
    """Close the connection politely, without an answer."""
    return False


def dripping(every: float, stop: threading.Event) -> Behaviour:
    """Send an answer that never ends, a byte now and then."""

    def behave(connection: socket.socket, _: bytes) -> bool:
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not stop.wait(every):
                connection.sendall(b"x")
        return False

    return behave


def black_hole(stop: threading.Event) -> Behaviour:
    """Take the request and say nothing."""

    def behave(_: socket.socket, __: bytes) -> bool:
        stop.wait(60)
        return False

    return behave


@dataclass
class FaultyServer:
    """What the server does, and what it was sent.

    Attributes:
        script: what to do with the next requests, in order; then ``otherwise``.
        otherwise: what to do with all further requests.
        taken: bodies of requests that were answered with 200 to the end, decompressed.
        requests: bodies of all requests, decompressed.
        headers: headers of all requests, names in lower case.
        connections: how many there were.
        refuse_unread: answer 413 and close, without reading the body, to requests that announce more bytes.
    """

    script: list[Behaviour] = field(default_factory=list)
    otherwise: Behaviour = field(default_factory=answer)
    taken: list[bytes] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    connections: int = 0
    refuse_unread: int | None = None
    port: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection until it ends."""
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                headers: dict[str, str] = {}
                while (field_line := stream.readline().strip()) != b"":
                    name, _, value = field_line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                length = int(headers.get("content-length", "0"))
                if self.refuse_unread is not None and length > self.refuse_unread:
                    answer(413)(connection, b"")
                    return
                body = stream.read(length)
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                with self._lock:
                    behaviour = self.script.pop(0) if self.script else self.otherwise
                    self.requests.append(body)
                    self.headers.append(headers)
                    self.paths.append(line.split()[1].decode())
                stays = behaviour(connection, body)
                with self._lock:
                    if stays and behaviour is self.otherwise:
                        self.taken.append(body)
                if not stays:
                    return


@contextlib.contextmanager
def faulty_server() -> Iterator[FaultyServer]:
    """Run a server until the block ends."""
    server = FaultyServer()
    listener = socket.create_server(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
