"""TLS, client certificates and tokens, which are read again when their files change."""

from __future__ import annotations

import concurrent.futures
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from comet_otel.streams import Signal
from comet_storage import Client
from shipper.delivery.dead_letters import STREAM
from shipper.endpoint import parse_endpoint
from shipper.outcome import Delivered, Outcome, Pause
from shipper.sending.protocol import Sender, create_sender
from shipper.settings import SignalConfig, TLSConfig
from tests.support.delivery import (
    GROUP,
    ROUTE,
    SHARD,
    InlineCrew,
    ManualClock,
    destination,
    pipeline,
    span_request,
)

pytestmark = pytest.mark.integration

PROTOCOLS = ("grpc", "http/protobuf")


class Authority:
    """Certificates for one test, as files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.renew()

    def renew(self) -> None:
        """Begin with a new authority, whose certificates replace the old files."""
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("localhost", "127.0.0.1")
        client = self.authority.issue_cert("shipper@edge")
        self.authority.cert_pem.write_to_path(str(self.directory / "ca.pem"))
        (self.directory / "client.pem").write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
        client.private_key_pem.write_to_path(str(self.directory / "client.key"))

    def tls(self, *, with_client: bool) -> TLSConfig:
        """Return the settings of a client."""
        if not with_client:
            return TLSConfig(certificate=self.directory / "ca.pem")
        return TLSConfig(
            certificate=self.directory / "ca.pem",
            client_certificate=self.directory / "client.pem",
            client_key=self.directory / "client.key",
        )


@pytest.fixture
def authority(tmp_path) -> Authority:
    """Return certificates."""
    return Authority(tmp_path)


class TlsServer:
    """A server of either protocol that wants a client certificate, or a token, if it is told to."""

    def __init__(self, authority: Authority, protocol: str, *, mutual: bool, port: int = 0) -> None:
        self.tokens: list[str | None] = []
        self.wanted: str | None = None
        if protocol == "grpc":
            self._start_grpc(authority, mutual, port)
        else:
            self._start_http(authority, mutual, port)

    def _start_grpc(self, authority: Authority, mutual: bool, port: int) -> None:
        outer = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, handler_call_details) -> grpc.RpcMethodHandler:
                def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
                    token = dict(context.invocation_metadata()).get("authorization")
                    outer.tokens.append(token)
                    if outer.wanted is not None and token != outer.wanted:
                        context.abort(grpc.StatusCode.UNAUTHENTICATED, "token expired")
                    return b""

                return grpc.unary_unary_rpc_method_handler(answer)

        chain = b"".join(blob.bytes() for blob in authority.server.cert_chain_pems)
        credentials = grpc.ssl_server_credentials(
            [(authority.server.private_key_pem.bytes(), chain)],
            authority.authority.cert_pem.bytes() if mutual else None,
            require_client_auth=mutual,
        )
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), handlers=[Handler()])
        self.port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
        server.start()
        self.stop: Callable[[], Any] = lambda: server.stop(None).wait()

    def _start_http(self, authority: Authority, mutual: bool, port: int) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                token = self.headers["Authorization"]
                outer.tokens.append(token)
                self.send_response(200 if outer.wanted is None or token == outer.wanted else 401)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Stay silent."""

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A handshake that failed is what some tests want."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.server.configure_cert(context)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            authority.authority.configure_trust(context)
        server = Quiet(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self.stop = stop


@pytest.fixture
def serve(authority) -> Iterator[Callable[..., TlsServer]]:
    """Return a function that starts servers."""
    servers: list[TlsServer] = []

    def start(protocol: str, **options: Any) -> TlsServer:
        servers.append(TlsServer(authority, protocol, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def make_sender() -> Iterator[Callable[..., Sender]]:
    """Return a function that makes senders."""
    senders: list[Sender] = []

    def make(server: TlsServer, protocol: str, **options: Any) -> Sender:
        endpoint = parse_endpoint(f"https://localhost:{server.port}")
        config = SignalConfig(signal=Signal.TRACES, endpoint=endpoint, protocol=protocol, timeout=5.0, **options)
        senders.append(create_sender(config))
        return senders[-1]

    yield make
    for sender in senders:
        sender.close()


def send(sender: Sender) -> Outcome:
    """Send something."""
    return sender.send(ROUTE, span_request("a"), "id")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_authority_of_one_s_own_is_trusted_and_a_stranger_is_not(serve, make_sender, authority, protocol) -> None:
    """Whose certificate is not trusted gets nothing, and that is somebody's to mend."""
    server = serve(protocol, mutual=False)
    assert send(make_sender(server, protocol, tls=authority.tls(with_client=False))) == Delivered()
    assert isinstance(send(make_sender(server, protocol)), Pause)
    assert len(server.tokens) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_may_ask_who_is_there(serve, make_sender, authority, protocol) -> None:
    """Mutual TLS."""
    server = serve(protocol, mutual=True)
    assert send(make_sender(server, protocol, tls=authority.tls(with_client=True))) == Delivered()
    assert send(make_sender(server, protocol, tls=authority.tls(with_client=False))) != Delivered()
    assert len(server.tokens) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_certificates_are_read_again_when_they_change(serve, make_sender, authority, protocol) -> None:
    """The server and its authority were replaced; so are the files, while the shipper runs."""
    first = serve(protocol, mutual=True)
    sender = make_sender(first, protocol, tls=authority.tls(with_client=True))
    assert send(sender) == Delivered()
    port = first.port
    first.stop()
    first.stop = lambda: None
    authority.renew()
    second = serve(protocol, mutual=True, port=port)
    outcomes = [send(sender) for _ in range(3)]
    assert outcomes[-1] == Delivered(), outcomes
    assert second.tokens


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("content", [None, b"", b"two words", b"caf\xc3\xa9"])
def test_a_token_file_that_cannot_be_used_pauses_and_shows_no_secret(
    serve, make_sender, authority, tmp_path, protocol, content
) -> None:
    """Nothing is sent without the token that was asked for."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    server = serve(protocol, mutual=False)
    sender = make_sender(server, protocol, tls=authority.tls(with_client=False), bearer_token_file=path)
    outcome = send(sender)
    assert isinstance(outcome, Pause)
    assert str(path) in outcome.message
    assert "words" not in outcome.message
    assert server.tokens == []
    path.write_bytes(b"good\n")
    assert send(sender) == Delivered()
    assert server.tokens == ["Bearer good"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_certificate_file_that_cannot_be_used_pauses(serve, make_sender, authority, tmp_path, protocol) -> None:
    """It names the file."""
    server = serve(protocol, mutual=False)
    missing = TLSConfig(certificate=tmp_path / "nowhere.pem")
    outcome = send(make_sender(server, protocol, tls=missing))
    assert isinstance(outcome, Pause)
    assert "nowhere.pem" in outcome.message


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_expired_token_costs_an_hour_and_nothing_else(serve, make_sender, authority, tmp_path, protocol) -> None:
    """The destination pauses, says why, and goes on with the new token by itself."""
    token = tmp_path / "token"
    token.write_text("old")
    server = serve(protocol, mutual=False)
    server.wanted = "Bearer new"
    sender = make_sender(server, protocol, tls=authority.tls(with_client=False), bearer_token_file=token)
    clock = ManualClock()
    begun = clock.now

    class Renewing(ManualClock):
        def wait(self, event: threading.Event, seconds: float) -> None:
            clock.wait(event, seconds)
            states.append(running.state())
            if clock.now > begun + 3600:
                token.write_text("new")

        def monotonic(self) -> float:
            return clock.monotonic()

    states: list[Any] = []
    with Client(tmp_path / "log") as client:
        client.append(SHARD, [span_request(f"span {number}") for number in range(50)])
        config = destination(retry={"first": 0.5, "pause_longest": 300.0})
        with pipeline(client, sender, config, clock=Renewing(), crew=InlineCrew(), once=True) as running:
            running.join(60)
            assert running.drained
        assert client.accounting("traces:v1", GROUP).delivered == 50
        assert STREAM not in client.streams()
    assert clock.now > begun + 3600
    paused = [state for state in states if state.state == "paused"]
    assert len(paused) > 10
    code = "UNAUTHENTICATED" if protocol == "grpc" else "HTTP 401"
    assert all(state.reason.startswith(code) for state in paused)
