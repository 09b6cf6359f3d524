"""Who may send: tokens, certificates, addresses, and sockets in the file system."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from comet_otel.receiver import OTLPReceiver, ReceiverConfig
from comet_otel.receiver.grpc_server import GrpcServer
from comet_storage import Client, ConfigError
from demo.processes import wait_until
from tests.support.otlp_requests import PROTOBUF, TRACES_METHOD, ask, port_of, post, trace_request

pytestmark = pytest.mark.integration


def grpc_code(endpoint: str, credentials=None, *, token: str = "") -> grpc.StatusCode:
    """Call once, and return how it ended."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    channel = grpc.insecure_channel(endpoint) if credentials is None else grpc.secure_channel(endpoint, credentials)
    with channel:
        try:
            channel.unary_unary(TRACES_METHOD)(trace_request(), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def https_status(endpoint: str, context: ssl.SSLContext) -> int:
    """Send one request over TLS."""
    connection = http.client.HTTPSConnection("localhost", port_of(endpoint), context=context, timeout=20)
    try:
        connection.request("POST", "/v1/traces", trace_request(), {"content-type": PROTOBUF})
        return connection.getresponse().status
    finally:
        connection.close()


def test_only_known_tokens_come_in(start, tmp_path) -> None:
    """Each token of the file opens both protocols; no token, another, or another scheme do not."""
    tokens = tmp_path / "tokens"
    tokens.write_text("# shops\nfirst-token\n\nsecond-token\n")
    node = start(token_file=tokens)
    for token, status, code in (
        ("first-token", 200, grpc.StatusCode.OK),
        ("second-token", 200, grpc.StatusCode.OK),
        ("first", 401, grpc.StatusCode.UNAUTHENTICATED),
        ("# shops", 401, grpc.StatusCode.UNAUTHENTICATED),
        ("", 401, grpc.StatusCode.UNAUTHENTICATED),
    ):
        answer = post(node.http, "/v1/traces", trace_request(), authorization=f"Bearer {token}")
        assert (answer.status, answer.headers.get("www-authenticate")) == (status, "Bearer" if status == 401 else None)
        assert grpc_code(node.grpc, token=token) is code
    assert post(node.http, "/v1/traces", trace_request(), authorization="Basic first-token").status == 401
    assert post(node.http, "/v1/traces", trace_request()).status == 401
    assert len(node.stored()) == 4
    assert ask(node.http, "GET", "/metrics").status == 401
    assert ask(node.http, "GET", "/readyz").status == 200


def test_a_changed_file_of_tokens_takes_effect(start, tmp_path) -> None:
    """A token that is taken out of the file stops to work, and a new one works, without a restart."""
    tokens = tmp_path / "tokens"
    tokens.write_text("old\n")
    node = start(token_file=tokens)
    assert post(node.http, "/v1/traces", trace_request(), authorization="Bearer old").status == 200
    tokens.write_text("new token\n".replace(" token", ""))
    wait_until(lambda: post(node.http, "/v1/logs", b"", authorization="Bearer new").status == 200, "the new token")
    assert post(node.http, "/v1/traces", trace_request(), authorization="Bearer old").status == 401
    tokens.write_text("")  # a file that is just being written locks nobody out
    os.utime(tokens, (1, 1))
    assert post(node.http, "/v1/traces", trace_request(), authorization="Bearer new").status == 200


class Certificates:
    """A server's certificate in files, and what clients need."""

    def __init__(self, folder: Path) -> None:
        """Make them."""
        self.certificate, self.key, self.authority = folder / "server.pem", folder / "server.key", folder / "ca.pem"
        self.renew()

    def renew(self) -> None:
        """Put certificates of a new authority into the files, one after the other, as an administrator does."""
        self.ca = trustme.CA()
        server = self.ca.issue_cert("localhost")
        server.private_key_pem.write_to_path(self.key)
        server.cert_chain_pems[0].write_to_path(self.certificate)
        self.ca.cert_pem.write_to_path(self.authority)

    def context(self, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """Return what an HTTP client trusts, and shows."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if client is not None:
            client.configure_cert(context)
        return context

    def credentials(self, client: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
        """Return what a gRPC client trusts, and shows."""
        key = chain = None
        if client is not None:
            key, chain = client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
        return grpc.ssl_channel_credentials(self.ca.cert_pem.bytes(), key, chain)


def test_both_protocols_are_served_over_tls(start, tmp_path) -> None:
    """With a certificate, clients that trust it are served, and plain ones are not."""
    files = Certificates(tmp_path)
    node = start(
        grpc_endpoint="localhost:0", http_endpoint="localhost:0", tls_certificate=files.certificate, tls_key=files.key
    )
    assert https_status(node.http, files.context()) == 200
    assert grpc_code(node.grpc, files.credentials()) is grpc.StatusCode.OK
    with pytest.raises((OSError, http.client.HTTPException)):
        post(node.http, "/v1/traces", trace_request())
    assert grpc_code(node.grpc) is grpc.StatusCode.UNAVAILABLE
    assert len(node.stored()) == 2


def test_clients_must_show_a_certificate_where_one_is_asked_for(start, tmp_path) -> None:
    """With authorities for clients, one without a certificate, or with a stranger's, is not served."""
    files = Certificates(tmp_path)
    node = start(
        grpc_endpoint="localhost:0",
        http_endpoint="localhost:0",
        tls_certificate=files.certificate,
        tls_key=files.key,
        client_authorities=files.authority,
    )
    known, stranger = files.ca.issue_cert("shop"), trustme.CA().issue_cert("shop")
    assert https_status(node.http, files.context(known)) == 200
    assert grpc_code(node.grpc, files.credentials(known)) is grpc.StatusCode.OK
    for client in (None, stranger):
        with pytest.raises((OSError, http.client.HTTPException)):
            https_status(node.http, files.context(client))
        assert grpc_code(node.grpc, files.credentials(client)) is grpc.StatusCode.UNAVAILABLE
    assert len(node.stored()) == 2


def test_renewed_certificates_take_effect(start, tmp_path) -> None:
    """New files, of the server's certificate and of the clients' authorities, are used without a restart."""
    files = Certificates(tmp_path)
    node = start(
        grpc_endpoint="localhost:0",
        http_endpoint="localhost:0",
        tls_certificate=files.certificate,
        tls_key=files.key,
        client_authorities=files.authority,
    )
    old = files.ca.issue_cert("shop")
    assert https_status(node.http, files.context(old)) == 200
    files.renew()
    new = files.ca.issue_cert("shop")

    def renewed() -> bool:
        try:
            return https_status(node.http, files.context(new)) == 200
        except OSError:
            return False

    wait_until(renewed, "the new certificate")
    wait_until(lambda: grpc_code(node.grpc, files.credentials(new)) is grpc.StatusCode.OK, "the new one in gRPC")
    with pytest.raises((OSError, http.client.HTTPException)):
        https_status(node.http, files.context(old))


@pytest.mark.parametrize("endpoint", ["0.0.0.0:0", "[::]:0", "192.0.2.1:4318"])
def test_an_address_that_others_reach_needs_tls_or_the_flag(endpoint) -> None:
    """Without TLS such an address is refused before anything is opened, naming the setting."""
    with pytest.raises(ConfigError, match=r"grpc_endpoint is .* allow_insecure"):
        ReceiverConfig(grpc_endpoint=endpoint).validate()
    ReceiverConfig(grpc_endpoint=endpoint, allow_insecure=True).validate()


def test_a_public_address_works_with_the_flag(start) -> None:
    """With the flag, it listens there."""
    node = start(grpc_endpoint="0.0.0.0:0", http_endpoint="0.0.0.0:0", allow_insecure=True)
    assert post(node.http, "/v1/traces", trace_request()).status == 200
    assert grpc_code(f"127.0.0.1:{port_of(node.grpc)}") is grpc.StatusCode.OK


def test_both_protocols_are_served_at_unix_sockets(start, tmp_path) -> None:
    """Sockets in the file system serve both protocols, have the mode asked for, and go with the receiver."""
    grpc_path, http_path = tmp_path / "grpc.sock", tmp_path / "http.sock"
    http_path_left_behind = socket.socket(socket.AF_UNIX)
    http_path_left_behind.bind(str(http_path))  # as a receiver that was killed leaves it
    http_path_left_behind.close()
    node = start(grpc_endpoint=f"unix:{grpc_path}", http_endpoint=f"unix:{http_path}", socket_mode=0o660)
    assert grpc_code(f"unix:{grpc_path}") is grpc.StatusCode.OK
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(http_path))
    connection.request("POST", "/v1/traces", trace_request(), {"content-type": PROTOBUF})
    assert connection.getresponse().status == 200
    connection.close()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (grpc_path, http_path)] == [0o660, 0o660]
    assert len(node.stored()) == 2
    node.receiver.stop()
    assert not grpc_path.exists()
    assert not http_path.exists()


def test_nobody_can_connect_to_a_socket_before_it_has_its_mode(start, tmp_path, monkeypatch) -> None:
    """GRPC makes its socket with the mode of any new file: until that is set, it is where nobody else can get at it."""
    path = tmp_path / "grpc.sock"
    made: list[tuple[int, bool]] = []
    listen = GrpcServer.start

    async def watched(server, address, credentials) -> int:
        port = await listen(server, address, credentials)
        place = Path(address.removeprefix("unix:"))
        made.append((stat.S_IMODE(place.parent.stat().st_mode), path.exists()))
        return port

    monkeypatch.setattr(GrpcServer, "start", watched)
    previous = os.umask(0)
    try:
        start(grpc_endpoint=f"unix:{path}")
    finally:
        os.umask(previous)
    assert made == [(0o700, False)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".*")) == []
    assert grpc_code(f"unix:{path}") is grpc.StatusCode.OK


def test_handshakes_under_way_are_connections_too(start, tmp_path) -> None:
    """Of connections that never finish their handshake, no more are open than connections may be; others are served."""
    files = Certificates(tmp_path)
    node = start(
        http_endpoint="localhost:0",
        tls_certificate=files.certificate,
        tls_key=files.key,
        max_connections=20,
        header_timeout=600.0,
    )
    silent = [socket.create_connection(("localhost", port_of(node.http))) for _ in range(100)]
    try:
        assert https_status(node.http, files.context()) == 200
        wait_until(lambda: sum(map(is_closed, silent)) >= 80, "end of the oldest handshakes")
        assert https_status(node.http, files.context()) == 200
    finally:
        for connection in silent:
            connection.close()


def is_closed(connection: socket.socket) -> bool:
    """Say whether the server has ended a connection on which it says nothing."""
    try:
        return connection.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_place_that_is_taken_is_not_taken_away(start, tmp_path) -> None:
    """A second receiver at a port, or a socket file, of a live one fails and says so; the first one works on."""
    path = tmp_path / "http.sock"
    first = start(http_endpoint=f"unix:{path}")
    for settings in (
        {"grpc_endpoint": first.grpc, "http_endpoint": None},
        {"grpc_endpoint": None, "http_endpoint": first.grpc},
        {"grpc_endpoint": None, "http_endpoint": f"unix:{path}"},
        {"grpc_endpoint": f"unix:{path}", "http_endpoint": None},
    ):
        with pytest.raises(OSError) as failed:
            OTLPReceiver(first.client, **settings).start()
        assert (settings["grpc_endpoint"] or settings["http_endpoint"]).removeprefix("unix:") in str(failed.value)
    assert grpc_code(first.grpc) is grpc.StatusCode.OK
    assert path.exists()


def test_several_receivers_share_a_log(start, tmp_path) -> None:
    """Each has ports of its own, and all that they acknowledge is in the one log."""
    node = start()
    with Client(node.client.data_dir) as client, OTLPReceiver(client, "127.0.0.1:0", "127.0.0.1:0") as other:
        assert other.grpc_endpoint is not None
        assert other.http_endpoint is not None
        assert grpc_code(other.grpc_endpoint) is grpc_code(node.grpc) is grpc.StatusCode.OK
        assert post(other.http_endpoint, "/v1/traces", trace_request()).status == 200
        assert post(node.http, "/v1/traces", trace_request()).status == 200
    assert len(node.stored()) == 4


def test_a_file_that_is_no_socket_is_left_alone(start, tmp_path) -> None:
    """A path with something else at it is refused, and what is there stays."""
    path = tmp_path / "precious"
    path.write_text("data")
    node = start()
    with pytest.raises(FileExistsError):
        OTLPReceiver(node.client, None, f"unix:{path}").start()
    assert path.read_text() == "data"


def test_a_key_with_a_passphrase_is_refused_and_asks_nobody(tmp_path) -> None:
    """A private key that needs a passphrase ends the command at once, also where there is a terminal to ask at."""
    files = Certificates(tmp_path)
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files.key.write_bytes(key.private_bytes(pem, form, encryption))
    command = [sys.executable, "-m", "comet_otel.receiver", "--data-dir", str(tmp_path / "log")]
    command += ["--grpc-endpoint", "off", "--http-endpoint", "localhost:0"]
    command += ["--tls-certificate", str(files.certificate), "--tls-key", str(files.key)]
    at_a_terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    run = [sys.executable, "-c", at_a_terminal, *command]
    ended = subprocess.run(run, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert "the files of certificates or tokens cannot be used" in ended.stdout
    assert ended.returncode == 2


def test_a_grpc_connection_without_calls_is_closed(start) -> None:
    """A client that connects and then calls nothing takes a connection no longer than the keep-alive time-out."""
    node = start(keep_alive_timeout=1.0)
    with socket.create_connection(("127.0.0.1", port_of(node.grpc)), timeout=30) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        received = list(iter(lambda: connection.recv(4096), b""))
    assert received, "closed before anything was said"
