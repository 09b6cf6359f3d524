"""Honest clients are served whatever crowd is at the door; when it goes, nothing of it stays.

The receiver runs as a process of its own, so that its descriptors and its memory are its own.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from comet_storage import Client
from demo.processes import Child, Processes, free_port, listens, wait_until
from tests.support.otlp_requests import TRACES_METHOD, ask, post, trace_request

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CONNECTIONS = 2000
MIB = 1024 * 1024

HALF_A_REQUEST = (
    b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100000\r\n\r\n"
) + bytes(5000)
HALF_A_HEADER = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nX-Slow: "
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


class Receiver:
    """A receiver in its own process."""

    def __init__(self, processes: Processes, data: Path, *arguments: str) -> None:
        """Start it and wait until it listens."""
        grpc_port, http_port = free_port(), free_port()
        self.grpc, self.http = f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}"
        self.child: Child = processes.start(
            "receiver",
            [
                *("comet_otel.receiver", "--data-dir", str(data)),
                *("--grpc-endpoint", self.grpc, "--http-endpoint", self.http, *arguments),
            ],
        )
        wait_until(lambda: listens(grpc_port) and listens(http_port), "receiver", self.child)

    def descriptors(self) -> int:
        """Return how many descriptors it has open."""
        return len(list(Path(f"/proc/{self.child.pid}/fd").iterdir()))

    def memory(self) -> int:
        """Return the bytes of memory that it uses, without the pages of files."""
        fields = Path(f"/proc/{self.child.pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * resource.getpagesize()


@pytest.fixture
def processes(tmp_path) -> Iterator[Processes]:
    """Return a starter of processes that ends them with the test."""
    with Processes(tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """Let this process, and those that it starts, have as many descriptors as the crowd needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 3 * CONNECTIONS
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} descriptors, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def crowd(endpoint: str, count: int, first_words: bytes) -> list[socket.socket]:
    """Open connections, each of which says something and then waits."""
    host, _, port = endpoint.rpartition(":")
    found = []
    for _ in range(count):
        connection = socket.create_connection((host, int(port)), timeout=60)
        connection.sendall(first_words)
        found.append(connection)
    return found


def trickle(connections: list[socket.socket]) -> None:
    """Send one more byte on each connection that still stands."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.send(b"x", socket.MSG_DONTWAIT)


def closed_count(connections: list[socket.socket]) -> int:
    """Return how many of the connections the server has ended."""
    count = 0
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        for key, _ in selector.select(0):
            try:
                while True:
                    if not key.fileobj.recv(4096, socket.MSG_DONTWAIT):
                        count += 1
                        break
            except BlockingIOError:
                continue
            except OSError:
                count += 1
    return count


def serve_honest_clients(receiver: Receiver, rounds: int = 5) -> list[bytes]:
    """Send some requests by both protocols, and return what was acknowledged: all of it.

    A request that is told to come back comes back, as OTLP asks of its clients.
    """
    bodies = []
    with grpc.insecure_channel(receiver.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        method = channel.unary_unary(TRACES_METHOD)

        def sent_by_grpc(body: bytes) -> bool:
            try:
                return method(body, timeout=60, wait_for_ready=True) == b""
            except grpc.RpcError as error:
                assert "google.rpc.retryinfo-bin" in dict(error.trailing_metadata())  # noqa: PT017 - else it is raised
                return False

        def sent_by_http(body: bytes) -> bool:
            answer = post(receiver.http, "/v1/traces", body)
            assert answer.status == 200 or answer.headers["retry-after"]
            return answer.status == 200

        for _ in range(rounds):
            for send in (sent_by_grpc, sent_by_http):
                body = trace_request(10)
                wait_until(functools.partial(send, body), "an honest request's success", receiver.child)
                bodies.append(body)
    return bodies


def stored(data: Path) -> list[bytes]:
    """Return the entries of the log."""
    with Client(data, read_only=True) as client:
        return [message.data for message in client.list_recent("traces:v1", 100_000)]


def test_honest_clients_are_served_beside_a_crowd_of_slow_ones(processes, tmp_path) -> None:
    """2,000 connections that send nothing, slow headers or half a body hold nobody up, and are ended in time."""
    receiver = Receiver(processes, tmp_path / "log", "--header-timeout", "2", "--body-timeout", "2")
    bodies = serve_honest_clients(receiver)
    descriptors, memory = receiver.descriptors(), receiver.memory()
    silent = crowd(receiver.http, CONNECTIONS // 4, b"")
    slow = crowd(receiver.http, CONNECTIONS // 4, HALF_A_HEADER) + crowd(
        receiver.http, CONNECTIONS // 2, HALF_A_REQUEST
    )
    connections = silent + slow
    try:
        bodies += serve_honest_clients(receiver)

        def all_ended() -> bool:
            trickle(slow)
            return closed_count(connections) == CONNECTIONS

        wait_until(all_ended, "end of all slow connections", receiver.child)
    finally:
        for connection in connections:
            connection.close()
    bodies += serve_honest_clients(receiver)
    wait_until(lambda: receiver.descriptors() <= descriptors + 8, "closing of descriptors", receiver.child)
    assert receiver.memory() < memory + 64 * MIB
    assert "comet_receiver_bytes_in_flight 0.0" in ask(receiver.http, "GET", "/metrics").body.decode()
    assert sorted(stored(tmp_path / "log")) == sorted(bodies)


def test_honest_clients_are_served_beyond_the_number_of_connections(processes, tmp_path) -> None:
    """When all connections are taken by those that wait, the one that has waited longest makes room."""
    receiver = Receiver(processes, tmp_path / "log", "--max-connections", "50", "--header-timeout", "600")
    connections = crowd(receiver.http, 400, HALF_A_HEADER)
    try:
        for _ in range(5):
            assert post(receiver.http, "/v1/traces", trace_request()).status == 200
        assert receiver.descriptors() < 150
        assert closed_count(connections) >= 340
    finally:
        for connection in connections:
            connection.close()


def test_honest_grpc_clients_are_served_beside_slow_ones(processes, tmp_path) -> None:
    """Calls whose message never comes, more than there are places for, give way to those whose message does."""
    receiver = Receiver(processes, tmp_path / "log", "--body-timeout", "2")
    bodies = serve_honest_clients(receiver)
    descriptors, memory = receiver.descriptors(), receiver.memory()

    def endless() -> Iterator[bytes]:
        time.sleep(3600)  # in a daemon thread of gRPC's, until the call is cancelled
        yield b""

    silent = crowd(receiver.grpc, 200, HTTP2_PREFACE)
    channels = [grpc.insecure_channel(receiver.grpc, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)]
    calls = [
        channel.stream_unary(TRACES_METHOD).future(never(), timeout=60)
        for channel in channels
        for never in [endless] * 25
    ]
    try:
        bodies += serve_honest_clients(receiver, rounds=3)
        wait_until(lambda: all(call.done() for call in calls), "end of all slow calls", receiver.child)
        assert {call.code() for call in calls} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    finally:
        for channel in channels:
            channel.close()
        for connection in silent:
            connection.close()
    bodies += serve_honest_clients(receiver)
    wait_until(lambda: receiver.descriptors() <= descriptors + 8, "closing of descriptors", receiver.child)
    assert receiver.memory() < memory + 64 * MIB
    assert sorted(stored(tmp_path / "log")) == sorted(bodies)


def test_a_client_that_does_not_read_its_answers_is_ended(processes, tmp_path) -> None:
    """Answers that nobody reads are not kept for long, and neither is their connection."""
    receiver = Receiver(processes, tmp_path / "log", "--body-timeout", "2")
    descriptors = receiver.descriptors()
    host, _, port = receiver.http.rpartition(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.settimeout(1)
        with contextlib.suppress(OSError):  # it takes no more requests, or is ended
            for _ in range(10_000):
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        wait_until(
            lambda: b'{reason="unread_answers"} 1.0' in ask(receiver.http, "GET", "/metrics").body,
            "end of the connection",
            receiver.child,
        )
    wait_until(lambda: receiver.descriptors() <= descriptors + 2, "closing of its descriptor", receiver.child)
    serve_honest_clients(receiver, rounds=1)


def test_messages_that_are_refused_leave_nothing_in_memory(processes, tmp_path) -> None:
    """What is no request is forgotten with its refusal, however large it was."""
    receiver = Receiver(processes, tmp_path / "log")
    serve_honest_clients(receiver, rounds=1)
    memory = receiver.memory()
    garbage = trace_request(padding=30 * MIB)[:-1]
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(receiver.grpc, options) as channel:
        for _ in range(8):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(TRACES_METHOD)(garbage, timeout=60)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert post(receiver.http, "/v1/traces", garbage).status == 400
    assert receiver.memory() < memory + 100 * MIB


def test_large_messages_at_once_stay_within_the_memory_for_them(processes, tmp_path) -> None:
    """Clients that all send what only a few can have at a time are told to come back, and each is served in the end."""
    limits = ("--max-body-size", "32MiB", "--max-in-flight-size", "128MiB")
    receiver = Receiver(processes, tmp_path / "log", *limits)
    serve_honest_clients(receiver, rounds=1)
    memory = receiver.memory()
    body = trace_request(30, padding=MIB)
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    highest = 0
    with contextlib.ExitStack() as stack:
        methods = [
            stack.enter_context(grpc.insecure_channel(receiver.grpc, options)).unary_unary(TRACES_METHOD)
            for _ in range(8)
        ]
        while methods:
            calls = [(method, method.future(body, timeout=60)) for method in methods]
            while not all(call.done() for _, call in calls):
                highest = max(highest, receiver.memory())
                time.sleep(0.01)
            methods = [method for method, call in calls if call.code() is not grpc.StatusCode.OK]
            assert {call.code() for _, call in calls} <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert highest < memory + 3 * 128 * MIB


def test_2000_connections_are_each_served(processes, tmp_path) -> None:
    """As many connections as that are kept open together, and each gets its answer."""
    receiver = Receiver(processes, tmp_path / "log")
    descriptors = receiver.descriptors()
    body = trace_request()
    request = (
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    ) + body
    connections = crowd(receiver.http, CONNECTIONS, b"")
    try:
        for connection in connections:
            connection.sendall(request)
        for connection in connections:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: receiver.descriptors() <= descriptors + 8, "closing of descriptors", receiver.child)
    assert len(stored(tmp_path / "log")) == CONNECTIONS
