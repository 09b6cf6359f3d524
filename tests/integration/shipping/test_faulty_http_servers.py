"""Every row of the outcome table, and every way to misbehave, by a real server on a real socket."""

from __future__ import annotations

import email.utils
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from comet_otel.streams import Signal
from comet_storage import Client
from shipper.delivery.dead_letters import STREAM, decode
from shipper.endpoint import parse_endpoint
from shipper.outcome import HTTP_KINDS, Delivered, Kind, Partial, Pause, Reject, Retry, Split
from shipper.sending.http_sender import HttpSender
from shipper.sending.protocol import RESPONSE_BYTES_MAX
from shipper.settings import SignalConfig
from tests.support.delivery import GROUP, ROUTE, SHARD, destination, drain, pipeline, span_names, span_request
from tests.support.faulty_http import (
    FaultyServer,
    answer,
    black_hole,
    dripping,
    faulty_server,
    hang_up,
    reset,
)

pytestmark = pytest.mark.integration

OUTCOME_OF_KIND = {Kind.RETRY: Retry, Kind.PAUSE: Pause, Kind.SPLIT: Split, Kind.REJECT: Reject}
BODY = span_request("a span")


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    """Run a server for one test."""
    with faulty_server() as running:
        yield running


@pytest.fixture
def make_sender(server) -> Iterator[Callable[..., HttpSender]]:
    """Return a function that makes senders to the server, with options."""
    senders: list[HttpSender] = []

    def make(**options: Any) -> HttpSender:
        endpoint = parse_endpoint(f"http://127.0.0.1:{server.port}")
        defaults = {"signal": Signal.TRACES, "endpoint": endpoint, "protocol": "http/protobuf", "timeout": 5.0}
        senders.append(HttpSender(SignalConfig(**{**defaults, **options})))
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


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_every_status_has_the_outcome_that_the_table_says(server, make_sender) -> None:
    """From 200 to 599; one connection serves them all."""
    sender = make_sender()
    for status in range(200, 600):
        body = b"" if status in {204, 304} else Status(message=f"about {status}").SerializeToString()
        server.script = [answer(status, body)]
        outcome = sender.send(ROUTE, BODY, "id")
        if status == 200:
            assert isinstance(outcome, Delivered | Partial)
        elif status < 400:
            assert isinstance(outcome, Pause), status
        else:
            assert isinstance(outcome, OUTCOME_OF_KIND[HTTP_KINDS.get(status, Kind.REJECT)]), status
            assert outcome.message == f"about {status}"
            assert outcome.code == f"HTTP {status}"
    assert server.connections == 1


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_retry_keeps_the_data_and_sends_it_again(server, make_sender, client, status) -> None:
    """The row of Retry, from the log to the server."""
    server.script = [answer(status)] * 3
    made = drain(client, make_sender(), destination())
    assert span_names(server.taken) == ["a", "b", "c"]
    assert made.state().retried_requests == 3
    assert {headers["comet-request-id"] for headers in server.headers} == {f"{client.log_id}/traces:v1/0/0-2"}


@pytest.mark.parametrize("status", [302, 401, 403, 404, 407, 501])
def test_pause_keeps_the_data_and_says_why(server, make_sender, client, status) -> None:
    """The row of Pause: nothing is lost, nothing put aside, and the state names the answer."""
    server.otherwise = answer(status, headers={"Location": f"http://127.0.0.1:{server.port}/other"})
    mended = answer()
    with pipeline(client, make_sender(), destination()) as made:
        until(lambda: made.state().state == "paused" and made.state().failed_requests > 2)
        assert made.state().reason.startswith(f"HTTP {status}")
        server.taken.clear()
        server.otherwise = mended
        until(lambda: client.accounting("traces:v1", GROUP).delivered == 3)
    assert span_names(server.taken) == ["a", "b", "c"]
    assert set(server.paths) == {"/v1/traces"}
    assert STREAM not in client.streams()


def test_split_sends_smaller_requests(server, make_sender, client) -> None:
    """The row of Split."""
    entries = [span_request(f"span {number}", padding=3000) for number in range(20)]
    client.append(SHARD, entries)

    def too_large(connection: socket.socket, body: bytes) -> bool:
        if len(body) > 10_000:
            return answer(413)(connection, body) and False
        server.taken.append(body)
        return answer()(connection, body)

    server.otherwise = too_large
    drain(client, make_sender(compression="none"), destination())
    delivered = [body for body in server.taken if len(body) <= 10_000]
    assert set(span_names(delivered)) == {"a", "b", "c", *(f"span {number}" for number in range(20))}
    assert client.accounting("traces:v1", GROUP).delivered == 23


def test_a_413_that_comes_before_the_body_was_read_is_understood_or_survived(server, make_sender, client) -> None:
    """A server that closes at once may have its answer lost on the way; the request goes on in parts all the same."""
    client.append(SHARD, [span_request(f"span {number}", padding=20_000) for number in range(60)])
    server.refuse_unread = 200_000
    with pipeline(client, make_sender(compression="none"), destination()):
        until(lambda: client.accounting("traces:v1", GROUP).delivered == 63)
    assert STREAM not in client.streams()


def test_reject_puts_aside_what_is_bad_alone(server, make_sender, client) -> None:
    """The row of Reject."""

    def picky(connection: socket.socket, body: bytes) -> bool:
        if "b" in span_names([body]):
            answer(400, Status(message="bad b").SerializeToString())(connection, body)
            return True
        server.taken.append(body)
        return answer()(connection, body)

    server.otherwise = picky
    drain(client, make_sender(), destination())
    (message,) = client.list_recent(STREAM, 10)
    letter = decode(message.data)
    assert (letter.first_entry, letter.code, letter.message) == (1, "HTTP 400", "bad b")
    assert letter.body == span_request("b")
    assert client.accounting("traces:v1", GROUP).rejected == 1


def test_partial_success_is_delivered_and_counted(server, make_sender, client) -> None:
    """The row of Partial."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 2
    response.partial_success.error_message = "too old"
    server.otherwise = answer(200, response.SerializeToString())
    made = drain(client, make_sender(), destination())
    assert len(server.requests) == 1
    assert made.state().rejected_items == 2


@pytest.mark.parametrize("style", ["seconds", "date"])
def test_retry_after_is_understood_in_both_its_forms(server, make_sender, style) -> None:
    """As a number of seconds and as a date."""
    value = "7" if style == "seconds" else email.utils.formatdate(time.time() + 7, usegmt=True)
    server.script = [answer(503, headers={"Retry-After": value})]
    outcome = make_sender().send(ROUTE, BODY, "id")
    assert isinstance(outcome, Retry)
    assert outcome.after is not None
    assert 4 < outcome.after <= 7


def test_answers_cut_off_at_any_byte_are_retried(server, make_sender) -> None:
    """Whether the request was taken is unknown then."""
    response = ExportTraceServiceResponse()
    response.partial_success.error_message = "hello"
    body = response.SerializeToString()
    whole = 1000
    sender = make_sender()
    for cut in range(whole):
        server.script = [answer(200, body, cut=cut)]
        outcome = sender.send(ROUTE, BODY, "id")
        if isinstance(outcome, Partial):
            # All of it was there: the head is no longer than this.
            assert cut > len(body) + 60
            break
        assert isinstance(outcome, Retry), (cut, outcome)
    else:
        pytest.fail("no answer was whole")


@pytest.mark.parametrize("behaviour", [reset, hang_up], ids=["reset", "closed"])
def test_a_connection_that_ends_without_an_answer_is_retried(server, make_sender, client, behaviour) -> None:
    """And the next one is used."""
    server.script = [behaviour] * 3
    drain(client, make_sender(), destination())
    assert span_names(server.taken) == ["a", "b", "c"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["black hole", "drip"])
def test_an_answer_that_never_comes_ends_by_the_time_out(server, make_sender, client, kind) -> None:
    """Also if a byte of it comes now and then, so that no single wait is long."""
    server.script = [black_hole(server.stop) if kind == "black hole" else dripping(0.05, server.stop)]
    begun = time.monotonic()
    drain(client, make_sender(timeout=0.5), destination())
    assert time.monotonic() - begun < 15
    assert span_names(server.taken) == ["a", "b", "c"]


@pytest.mark.slow
def test_a_server_that_does_not_read_ends_by_the_time_out() -> None:
    """Its window is full, and the request stays half sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        endpoint = parse_endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}")
        sender = HttpSender(
            SignalConfig(
                signal=Signal.TRACES, endpoint=endpoint, protocol="http/protobuf", timeout=0.5, compression="none"
            )
        )
        outcome = sender.send(ROUTE, b"x" * 30_000_000, "id")
        sender.close()
    assert isinstance(outcome, Retry)


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"", {}, Delivered),
        (b"\xff\xfe garbage", {}, Delivered),
        (b"{}", {"Content-Type": "application/json"}, Delivered),
        (b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"m"}}', {"Content-Type": "application/json"}, Partial),
        (b"[1, 2", {"Content-Type": "application/json"}, Delivered),
        (b"<html>log in first</html>", {"Content-Type": "text/html; charset=utf-8"}, Pause),
        (b"x" * (RESPONSE_BYTES_MAX + 1), {}, Pause),
    ],
    ids=["empty", "garbage", "JSON", "JSON partial", "broken JSON", "a portal", "too long"],
)
def test_successes_with_odd_bodies(server, make_sender, body, headers, expected) -> None:
    """Success is success, unless somebody else than a collector says so, or it cannot be read to its end."""
    server.script = [answer(200, body, headers)]
    assert isinstance(make_sender().send(ROUTE, BODY, "id"), expected)


def test_a_half_open_connection_is_noticed(server, make_sender) -> None:
    """The server went away between two requests without a word on the connection that was kept."""
    sender = make_sender()
    server.script = [lambda connection, body: answer()(connection, body) and False]
    assert sender.send(ROUTE, BODY, "id") == Delivered()
    outcome = sender.send(ROUTE, BODY, "id")
    assert outcome == Delivered() or isinstance(outcome, Retry)
    assert sender.send(ROUTE, BODY, "id") == Delivered()


def test_closing_the_sender_ends_requests_in_flight(server, make_sender) -> None:
    """Whoever stops the shipper does not wait for a server that does not answer."""
    server.otherwise = black_hole(server.stop)
    sender = make_sender(timeout=60.0)
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(sender.send(ROUTE, BODY, "id")))
    thread.start()
    until(lambda: bool(server.requests))
    sender.close()
    thread.join(10)
    assert isinstance(outcomes[0], Retry)


def test_a_proxy_is_used_and_may_fail(server) -> None:
    """A plain request goes to the proxy with the whole URL; a proxy that is not there is an outage."""
    config = SignalConfig(
        signal=Signal.TRACES,
        endpoint=parse_endpoint("http://collector.invalid:4318"),
        protocol="http/protobuf",
        proxy=f"http://user:secret@127.0.0.1:{server.port}",
    )
    sender = HttpSender(config)
    assert sender.send(ROUTE, BODY, "id") == Delivered()
    assert server.paths == ["http://collector.invalid:4318/v1/traces"]
    assert server.headers[0]["proxy-authorization"].startswith("Basic ")
    sender.close()
    gone = HttpSender(SignalConfig(**{**vars(config), "proxy": "http://127.0.0.1:9"}))
    outcome = gone.send(ROUTE, BODY, "id")
    assert isinstance(outcome, Retry)
    assert "secret" not in outcome.message
    gone.close()
