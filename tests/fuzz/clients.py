"""Sends fuzzed requests and reads the answers: HTTP over bare sockets, so that nothing is put right on the way."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
from dataclasses import dataclass

import grpc

from tests.fuzz.requests import FuzzedRequest

ANSWER_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        code: status of HTTP or name of the gRPC status code; 0: the connection ended without an answer.
        acknowledged: how many answers said that the request is stored.
        broken: whether it is an answer that no request may have.
        text: what it says.
    """

    code: int | str
    acknowledged: int
    broken: bool
    text: str = ""


class HttpClient:
    """One connection, made anew whenever it was used up."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, request: FuzzedRequest) -> Answer:
        """Send one request and return its answer."""
        head, body = _written(request)
        if request.head_damage is not None:
            return self._send_damaged(head, body, request.head_damage)
        for fresh in (self._socket is None, True):
            try:
                return self._exchange(head + body, request.method)
            except (ConnectionError, http.client.HTTPException):
                self.close()  # an idle connection may have been closed meanwhile; a fresh one may not
                if fresh:
                    return Answer(0, 0, broken=False)
        raise AssertionError

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=ANSWER_SECONDS_MAX)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _exchange(self, data: bytes, method: str) -> Answer:
        connection = self._connect()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer may have come before the end
            connection.sendall(data)
        response = http.client.HTTPResponse(connection, method=method)
        try:
            response.begin()
            text = response.read()
        finally:
            response.close()
        if response.will_close:
            self.close()
        return Answer(
            response.status, int(response.status == 200), response.status >= 500, text[:300].decode("latin-1")
        )

    def _send_damaged(self, head: bytes, body: bytes, damage: tuple[float, bytes]) -> Answer:
        """Send a damaged head, say that nothing more comes, and read all there is to read."""
        place, put_in = damage
        at = int(place * len(head))
        with socket.create_connection(self._address, timeout=ANSWER_SECONDS_MAX) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(head[:at] + put_in + head[at + len(put_in) :] + body)
                connection.shutdown(socket.SHUT_WR)
            answers = b""
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65536):
                    answers += piece
        codes = [int(line[9:12]) for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.")]
        return Answer(
            codes[0] if codes else 0,
            codes.count(200),
            any(code >= 500 for code in codes),
            answers[:300].decode("latin-1"),
        )


def _written(request: FuzzedRequest) -> tuple[bytes, bytes]:
    lines = [f"{request.method} {request.path} HTTP/1.1", "Host: fuzz"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.chunked:
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(
            b"%x\r\n%b\r\n" % (len(piece), piece)
            for piece in (request.body[start : start + 1000] for start in range(0, len(request.body), 1000))
        )
        body += b"0\r\n\r\n"
    else:
        lines.append(f"Content-Length: {len(request.body)}")
        body = request.body
    return "\r\n".join([*lines, "", ""]).encode("latin-1"), body


class GrpcClient:
    """One channel."""

    def __init__(self, host: str, port: int) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"{host}:{port}", options)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def send(self, request: FuzzedRequest) -> Answer:
        """Send one request and return its answer."""
        call = self._channel.unary_unary(request.path, _registered_method=False)
        compression = grpc.Compression.Gzip if request.grpc_gzip else grpc.Compression.NoCompression
        try:
            call(request.body, timeout=ANSWER_SECONDS_MAX, compression=compression)
        except grpc.RpcError as error:
            code = error.code()
            refusals = {
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                grpc.StatusCode.UNIMPLEMENTED,
            }
            return Answer(code.name, 0, code not in refusals, str(error.details())[:300])
        return Answer("OK", 1, broken=False)


def send_garbage(host: str, port: int, choose: random.Random) -> None:
    """Send bytes that are no request of any protocol, and read until the connection ends."""
    beginnings = (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00", b"POST /v1/traces HTTP/1.1\r\n")
    with socket.create_connection((host, port), timeout=ANSWER_SECONDS_MAX) as connection, contextlib.suppress(OSError):
        connection.sendall(choose.choice(beginnings) + choose.randbytes(choose.choice((0, 9, 100, 20_000))))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
