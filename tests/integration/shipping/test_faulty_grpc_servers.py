"""Every gRPC status, and what connections do, by real servers."""

from __future__ import annotations

import concurrent.futures
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from comet_otel.streams import Signal
from comet_storage import Client
from shipper.delivery.dead_letters import STREAM
from shipper.endpoint import parse_endpoint
from shipper.outcome import GRPC_KINDS, Delivered, Kind, Partial, Pause, Reject, Retry, Split
from shipper.sending.grpc_sender import GrpcSender
from shipper.sending.protocol import RESPONSE_BYTES_MAX
from shipper.settings import SignalConfig
from tests.support.delivery import GROUP, ROUTE, SHARD, destination, drain, span_names, span_request

pytestmark = pytest.mark.integration

OUTCOME_OF_KIND = {Kind.RETRY: Retry, Kind.PAUSE: Pause, Kind.SPLIT: Split, Kind.REJECT: Reject}
BODY = span_request("a span")


@dataclass
class Faults:
    """What the server answers to the next requests, then success; and what it was sent."""

    script: list[tuple[grpc.StatusCode, str, bytes]] = field(default_factory=list)
    body: bytes = b""
    requests: list[bytes] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    largest: int | None = None
    port: int = 0


@pytest.fixture
def server(request) -> Iterator[Faults]:
    """Run a server for one test; its largest message may be given as a parameter."""
    faults = Faults()

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details) -> grpc.RpcMethodHandler:
            def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
                faults.requests.append(body)
                faults.metadata.append(dict(context.invocation_metadata()))
                if faults.script:
                    code, details, status = faults.script.pop(0)
                    if status:
                        context.set_trailing_metadata((("grpc-status-details-bin", status),))
                    context.abort(code, details)
                faults.taken.append(body)
                return faults.body

            return grpc.unary_unary_rpc_method_handler(answer)

    limit = getattr(request, "param", 64 * 2**20)
    options = [("grpc.max_receive_message_length", limit)]
    running = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Handler()], options=options)
    faults.port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield faults
    running.stop(grace=None).wait()


@pytest.fixture
def make_sender(server) -> Iterator[Callable[..., GrpcSender]]:
    """Return a function that makes senders to the server, with options."""
    senders: list[GrpcSender] = []

    def make(port: int | None = None, **options: Any) -> GrpcSender:
        endpoint = parse_endpoint(f"http://127.0.0.1:{port or server.port}")
        senders.append(GrpcSender(SignalConfig(signal=Signal.TRACES, endpoint=endpoint, timeout=5.0, **options)))
        return senders[-1]

    yield make
    for sender in senders:
        sender.close()


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    """Return a log with three entries."""
    with Client(tmp_path / "log") as opened:
        opened.append(SHARD, [span_request("a"), span_request("b"), span_request("c")])
        yield opened


def test_every_status_has_the_outcome_that_the_table_says(server, make_sender) -> None:
    """With the server's own words."""
    sender = make_sender()
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        server.script = [(code, f"about {code.name}", b"")]
        outcome = sender.send(ROUTE, BODY, "id")
        assert isinstance(outcome, OUTCOME_OF_KIND[GRPC_KINDS[code.name]]), code
        assert (outcome.code, outcome.message) == (code.name, f"about {code.name}")
    assert sender.send(ROUTE, BODY, "id") == Delivered()


@pytest.mark.parametrize("code", [name for name, kind in GRPC_KINDS.items() if kind in {Kind.RETRY, Kind.PAUSE}])
def test_what_is_not_the_data_s_fault_keeps_the_data(server, make_sender, client, code) -> None:
    """The rows of Retry and Pause, from the log to the server; the id stays the same."""
    server.script = [(grpc.StatusCode[code], "", b"")] * 3
    made = drain(client, make_sender(), destination())
    assert span_names(server.taken) == ["a", "b", "c"]
    assert made.state().retried_requests + made.state().failed_requests == 3
    assert {metadata["comet-request-id"] for metadata in server.metadata} == {f"{client.log_id}/traces:v1/0/0-2"}
    assert STREAM not in client.streams()


@pytest.mark.parametrize("code", [name for name, kind in GRPC_KINDS.items() if kind is Kind.REJECT])
def test_what_is_rejected_once_arrives_in_halves(server, make_sender, client, code) -> None:
    """The row of Reject: a server that changes its mind gets everything."""
    server.script = [(grpc.StatusCode[code], "", b"")]
    drain(client, make_sender(), destination())
    assert span_names(server.taken) == ["a", "b", "c"]
    assert len(server.taken) == 2
    assert STREAM not in client.streams()


def test_retry_info_is_kept_to(server, make_sender) -> None:
    """Also for RESOURCE_EXHAUSTED, which it makes something to be retried."""
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=3, nanos=500_000_000)))
    for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
        server.script = [(code, "busy", Status(code=code.value[0], details=[detail]).SerializeToString())]
        outcome = make_sender().send(ROUTE, BODY, "id")
        assert isinstance(outcome, Retry)
        assert outcome.after == 3.5
        assert outcome.throttled == (code is grpc.StatusCode.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize("server", [64 * 1024], indirect=True)
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_message_limit_of_64_kib_is_no_obstacle_for_entries_of_megabytes(
    server, make_sender, client, compression
) -> None:
    """The row of Split, with the words of a real server; gzip hides the size until it is too late."""
    names = [f"span {number}" for number in range(2000)]
    client.append(SHARD, [span_request(*names, padding=1000)])
    drain(client, make_sender(compression=compression), destination())
    assert span_names(server.taken) == ["a", "b", "c", *names]
    assert STREAM not in client.streams()
    assert client.accounting("traces:v1", GROUP).delivered == 4


def test_partial_success_and_garbage(server, make_sender) -> None:
    """The row of Partial; an answer that cannot be read is still a success."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 5
    server.body = response.SerializeToString()
    sender = make_sender()
    assert sender.send(ROUTE, BODY, "id") == Partial(5, "")
    server.body = b"\xff\xff garbage"
    assert sender.send(ROUTE, BODY, "id") == Delivered()


def test_an_answer_that_is_too_long_pauses(server, make_sender) -> None:
    """It is refused by this side, and is not the answer to a request that is too large."""
    server.body = b"x" * (RESPONSE_BYTES_MAX + 1)
    outcome = make_sender().send(ROUTE, BODY, "id")
    assert isinstance(outcome, Pause)
    assert outcome.code == "answer too long"


def test_compressed_messages_are_marked_as_such(server, make_sender) -> None:
    """Whatever has compressed them, the other side gets the bytes that were stored."""
    sender = make_sender(compression="gzip", compression_level=3)
    assert sender.send(ROUTE, BODY * 1000, "id") == Delivered()
    assert server.requests == [BODY * 1000]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reset", "closed", "garbage", "black hole"])
def test_a_peer_that_does_not_speak_grpc_is_an_outage(make_sender, client, kind, server) -> None:
    """Nothing is lost, and when a real server has the port, everything arrives."""
    listener = socket.create_server(("127.0.0.1", 0))

    def misbehave() -> None:
        kept: list[socket.socket] = []
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            if kind == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if kind == "garbage":
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            if kind == "black hole":
                kept.append(connection)
            else:
                connection.close()
        for connection in kept:
            connection.close()

    thread = threading.Thread(target=misbehave, daemon=True)
    thread.start()
    endpoint = parse_endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}")
    sender = GrpcSender(SignalConfig(signal=Signal.TRACES, endpoint=endpoint, timeout=1.0))
    begun = time.monotonic()
    outcome = sender.send(ROUTE, BODY, "id")
    assert isinstance(outcome, Retry), outcome
    assert time.monotonic() - begun < 10
    sender.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    drain(client, make_sender(), destination())
    assert span_names(server.taken) == ["a", "b", "c"]


def test_a_collector_at_a_unix_socket_is_reached(server, tmp_path) -> None:
    """As a sidecar listens that shares a volume and no network."""
    taken: list[bytes] = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(lambda body, _: taken.append(body) or b"")

    running = grpc.server(concurrent.futures.ThreadPoolExecutor(1), handlers=[Handler()])
    running.add_insecure_port(f"unix:{tmp_path}/s")
    running.start()
    sender = GrpcSender(SignalConfig(signal=Signal.TRACES, endpoint=parse_endpoint(f"unix://{tmp_path}/s")))
    try:
        assert sender.send(ROUTE, span_request("a"), "id") == Delivered()
    finally:
        sender.close()
        running.stop(grace=None).wait()
    assert taken == [span_request("a")]


def test_a_header_that_grpc_cannot_send_is_no_fault_of_the_data(server, make_sender) -> None:
    """GRPC calls it INTERNAL, which from a collector would be a rejection."""
    outcome = make_sender(headers=(("a!b", "c"),)).send(ROUTE, span_request("a"), "id")
    assert isinstance(outcome, Pause)
