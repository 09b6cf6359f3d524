"""The gRPC sender against a server that answers what a test tells it to."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from comet_otel.streams import ROUTES, Signal, route_of_signal
from shipper.endpoint import parse_endpoint
from shipper.outcome import Delivered, Partial, Pause, Reject, Retry, Split
from shipper.sending.grpc_sender import GrpcSender
from shipper.settings import SignalConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from comet_otel.streams import Route

TRACES = route_of_signal(Signal.TRACES)


@dataclass
class Answers:
    """What the server answers, and what it was asked."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    status: bytes = b""
    body: bytes = b""
    delay: threading.Event | None = None
    requests: list[tuple[str, dict[str, Any], bytes]] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def server() -> Iterator[Answers]:
    """Run a server for one test."""
    answers = Answers()

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details) -> grpc.RpcMethodHandler:
            def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
                answers.requests.append((handler_call_details.method, dict(context.invocation_metadata()), request))
                if answers.delay is not None:
                    answers.delay.wait(20)
                if answers.status:
                    context.set_trailing_metadata((("grpc-status-details-bin", answers.status),))
                if answers.code is not grpc.StatusCode.OK:
                    context.abort(answers.code, answers.details)
                return answers.body

            return grpc.unary_unary_rpc_method_handler(answer)

    running = grpc.server(concurrent.futures.ThreadPoolExecutor(2), handlers=[Handler()])
    answers.port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield answers
    if answers.delay is not None:
        answers.delay.set()
    running.stop(grace=None).wait()


@pytest.fixture
def make_sender(server) -> Iterator[Callable[..., GrpcSender]]:
    """Return a function that makes senders to the server, with options."""
    senders = []

    def make(**options: Any) -> GrpcSender:
        endpoint = parse_endpoint(options.pop("endpoint", f"http://127.0.0.1:{server.port}"))
        sender = GrpcSender(SignalConfig(signal=Signal.TRACES, endpoint=endpoint, **options))
        senders.append(sender)
        return sender

    yield make
    for sender in senders:
        sender.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_stored_bytes_go_out_unchanged_to_the_signal_s_method(server, make_sender, compression) -> None:
    """With the configured headers, and under the shipper's own name."""
    sender = make_sender(compression=compression, headers=(("API-Key", "token"),))
    for route in ROUTES:
        assert sender.send(route, b"\x0a\x00payload", "id") == Delivered()
    assert [method for method, _, _ in server.requests] == [route.grpc_method for route in ROUTES]
    assert {body for _, _, body in server.requests} == {b"\x0a\x00payload"}
    metadata = server.requests[0][1]
    assert metadata["api-key"] == "token"
    assert metadata["user-agent"].startswith("comet-shipper/")


def test_partial_success_is_read(server, make_sender) -> None:
    """It is delivery, with a count of what was declined."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    answer.partial_success.error_message = "too old"
    server.body = answer.SerializeToString()
    assert make_sender().send(TRACES, b"payload", "id") == Partial(2, "too old")


def test_a_wish_to_wait_is_passed_on(server, make_sender) -> None:
    """RetryInfo in the trailer also makes RESOURCE_EXHAUSTED something to be retried."""
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=Duration(seconds=17)))
    server.code, server.details = grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down"
    server.status = Status(code=8, details=[detail]).SerializeToString()
    assert make_sender().send(TRACES, b"payload", "id") == Retry(
        "RESOURCE_EXHAUSTED", "slow down", 17.0, throttled=True
    )


def test_statuses_become_outcomes(server, make_sender) -> None:
    """By the table, with the collector's own words."""
    sender = make_sender()
    server.code, server.details = grpc.StatusCode.UNAUTHENTICATED, "no token"
    assert sender.send(TRACES, b"payload", "id") == Pause("UNAUTHENTICATED", "no token")
    server.code, server.details = grpc.StatusCode.INVALID_ARGUMENT, "no spans"
    assert sender.send(TRACES, b"payload", "id") == Reject("INVALID_ARGUMENT", "no spans")
    server.code = grpc.StatusCode.OK
    assert sender.send(TRACES, b"payload", "id") == Delivered()


def test_messages_over_the_server_s_limit_are_to_be_split(make_sender) -> None:
    """Not retried as if the server were busy."""
    outcome = make_sender(compression="none").send(TRACES, b"x" * (5 * 2**20), "id")
    assert isinstance(outcome, Split)
    assert outcome.code == "RESOURCE_EXHAUSTED"


def test_nobody_listening_is_retried(make_sender) -> None:
    """The ordinary outage."""
    outcome = make_sender(endpoint="http://127.0.0.1:9").send(TRACES, b"payload", "id")
    assert isinstance(outcome, Retry)
    assert outcome.code == "UNAVAILABLE"


def test_an_unknown_host_pauses(make_sender) -> None:
    """A name that does not exist is most likely misspelt, and asking for it all the time does not help."""
    outcome = make_sender(endpoint="http://collector.invalid:4317").send(TRACES, b"payload", "id")
    assert isinstance(outcome, Pause)
    assert outcome.code == "host name unknown"


@pytest.mark.slow
def test_a_request_without_an_answer_times_out_and_the_next_one_gets_through(server, make_sender) -> None:
    """The connection is replaced, since the old one may be dead without looking so."""
    sender = make_sender(timeout=0.3)
    server.delay = threading.Event()
    outcome = sender.send(TRACES, b"payload", "id")
    assert isinstance(outcome, Retry)
    assert outcome.code == "DEADLINE_EXCEEDED"
    server.delay.set()
    assert sender.send(TRACES, b"payload", "id") == Delivered()


@pytest.mark.slow
def test_closing_abandons_a_request_in_flight(server, make_sender) -> None:
    """Whoever stops the shipper does not wait for a collector that does not answer."""
    sender = make_sender(timeout=30.0)
    server.delay = threading.Event()
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(sender.send(TRACES, b"payload", "id")))
    thread.start()
    wait_until(lambda: bool(server.requests))
    sender.close()
    thread.join(5)
    assert isinstance(outcomes[0], Retry)
    assert isinstance(sender.send(TRACES, b"payload", "id"), Retry)


@pytest.mark.slow
def test_a_signal_without_an_answer_does_not_disturb_the_others(server, make_sender) -> None:
    """When one signal's connection is given up, another one's request goes on over its own."""
    sender = make_sender(timeout=2.0)
    server.delay = threading.Event()
    outcomes: dict[Signal, Any] = {}

    def send(route: Route) -> None:
        outcomes[route.signal] = sender.send(route, b"payload", "id")

    threads = [threading.Thread(target=send, args=(route,)) for route in ROUTES[:2]]
    threads[0].start()
    wait_until(lambda: len(server.requests) == 1)
    time.sleep(0.5)
    threads[1].start()
    threads[0].join()  # timed out, and its connection is closed
    server.delay.set()
    threads[1].join()
    assert outcomes[ROUTES[0].signal].code == "DEADLINE_EXCEEDED"
    assert outcomes[ROUTES[1].signal] == Delivered()


@pytest.mark.slow
def test_a_connection_may_take_as_long_as_a_request(server, make_sender) -> None:
    """Over a satellite, or to a machine that has much to do, TCP, TLS and HTTP/2 take seconds to agree."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def relay() -> None:
            near = listener.accept()[0]
            time.sleep(3)  # the slowness itself; nothing can be waited for
            with near, socket.create_connection(("127.0.0.1", server.port)) as far:
                back = threading.Thread(target=copy, args=(far, near), daemon=True)
                back.start()
                copy(near, far)

        def copy(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)

        threading.Thread(target=relay, daemon=True).start()
        sender = make_sender(timeout=20.0, endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert sender.send(TRACES, b"payload", "id") == Delivered()
        sender.close()
