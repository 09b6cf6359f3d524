"""The HTTP sender against a server that answers what a test tells it to."""

from __future__ import annotations

import gzip
import http.server
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from comet_otel.streams import Signal, route_of_signal
from shipper.endpoint import parse_endpoint
from shipper.outcome import Delivered, Partial, Pause, Retry
from shipper.sending.http_sender import HttpSender
from shipper.sending.protocol import RESPONSE_BYTES_MAX
from shipper.settings import SignalConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRACES = route_of_signal(Signal.TRACES)


@dataclass
class Answers:
    """What the server answers, and what it was asked."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    port: int = 0


@pytest.fixture
def server() -> Iterator[Answers]:
    """Run a server for one test."""
    answers = Answers()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = self.rfile.read(int(self.headers["Content-Length"]))
            answer = answers.body  # once: the test may set the next one as soon as it has this one
            answers.requests.append((self.path, dict(self.headers), request))
            answers.connections.add(self.client_address)
            self.send_response(answers.status)
            for name, value in answers.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer[: answers.cut_after])
            if answers.cut_after is not None:
                self.close_connection = True

        def log_message(self, *args: Any) -> None:
            """Stay silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        answers.port = running.server_address[1]
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield answers
        running.shutdown()
        thread.join()


@pytest.fixture
def make_sender(server) -> Iterator[Callable[..., HttpSender]]:
    """Return a function that makes senders to the server, with options."""
    senders = []

    def make(**options: Any) -> HttpSender:
        endpoint = parse_endpoint(options.pop("endpoint", f"http://127.0.0.1:{server.port}"))
        sender = HttpSender(SignalConfig(signal=Signal.TRACES, endpoint=endpoint, protocol="http/protobuf", **options))
        senders.append(sender)
        return sender

    yield make
    for sender in senders:
        sender.close()


def test_stored_bytes_go_out_unchanged_with_the_headers_of_the_protocol(server, make_sender) -> None:
    """Path, media type, name and configured headers are what a collector expects."""
    sender = make_sender(compression="none", headers=(("api-key", "token"),))
    assert sender.send(TRACES, b"\x0a\x00payload", "id") == Delivered()
    ((path, headers, body),) = server.requests
    assert path == "/v1/traces"
    assert body == b"\x0a\x00payload"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["User-Agent"].startswith("comet-shipper/")
    assert headers["api-key"] == "token"
    assert "Content-Encoding" not in headers


def test_gzip_can_be_undone_by_anybody(server, make_sender) -> None:
    """Compressed by one library, read by another."""
    assert make_sender(compression="gzip").send(TRACES, b"payload " * 1000, "id") == Delivered()
    ((_, headers, body),) = server.requests
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == b"payload " * 1000
    assert len(body) < 1000


def test_one_connection_serves_many_requests(server, make_sender) -> None:
    """Also after answers with bodies, and after failures that were answered."""
    sender = make_sender()
    for server.status, server.body in ((200, b""), (503, b"busy"), (200, b"")):
        sender.send(TRACES, b"payload", "id")
    assert len(server.requests) == 3
    assert len(server.connections) == 1


def test_partial_success_is_read(server, make_sender) -> None:
    """It is delivery, with a count of what was declined."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    answer.partial_success.error_message = "too old"
    server.body = answer.SerializeToString()
    assert make_sender().send(TRACES, b"payload", "id") == Partial(2, "too old")


def test_a_wish_to_wait_is_passed_on(server, make_sender) -> None:
    """With the collector's own words about it, which are a protobuf message."""
    server.status = 429
    server.headers = {"Retry-After": "17", "Content-Type": "application/x-protobuf"}
    server.body = Status(code=8, message="slow down").SerializeToString()
    assert make_sender().send(TRACES, b"payload", "id") == Retry("HTTP 429", "slow down", 17.0, throttled=True)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_neither_followed_nor_success(server, make_sender, status) -> None:
    """Telemetry goes where it was configured to go, and nowhere else."""
    server.status, server.headers = status, {"Location": f"http://127.0.0.1:{server.port}/elsewhere"}
    assert isinstance(make_sender().send(TRACES, b"payload", "id"), Pause)
    assert len(server.requests) == 1


def test_text_answers_are_told_too(server, make_sender) -> None:
    """A proxy in between answers in its own language."""
    server.status, server.body, server.headers = 403, b"<h1>Forbidden</h1>\n", {"Content-Type": "text/html"}
    assert make_sender().send(TRACES, b"payload", "id") == Pause("HTTP 403", "<h1>Forbidden</h1>")


def test_answers_that_are_too_long_are_not_read_to_their_end(server, make_sender) -> None:
    """Neither plain nor as a small gzip body that expands."""
    server.body = b"x" * (RESPONSE_BYTES_MAX + 10)
    sender = make_sender()
    assert sender.send(TRACES, b"payload", "id") == Pause(
        "answer too long", f"more than {RESPONSE_BYTES_MAX} bytes, with status 200"
    )
    server.body, server.headers = gzip.compress(b"x" * (3 * RESPONSE_BYTES_MAX)), {"Content-Encoding": "gzip"}
    assert isinstance(sender.send(TRACES, b"payload", "id"), Pause)


def test_answers_that_break_off_are_retried(server, make_sender) -> None:
    """Whether the request was taken is unknown, so it is sent again."""
    server.body, server.cut_after = b"x" * 100, 10
    assert isinstance(make_sender().send(TRACES, b"payload", "id"), Retry)


def test_nobody_listening_is_retried(make_sender) -> None:
    """The ordinary outage."""
    outcome = make_sender(endpoint="http://127.0.0.1:9").send(TRACES, b"payload", "id")
    assert isinstance(outcome, Retry)
    assert outcome.code == "cannot connect"


def test_an_unknown_host_pauses(make_sender) -> None:
    """A name that does not exist is most likely misspelt, and asking for it all the time does not help."""
    outcome = make_sender(endpoint="http://collector.invalid:4318").send(TRACES, b"payload", "id")
    assert outcome.code == "host name unknown"
    assert isinstance(outcome, Pause)
