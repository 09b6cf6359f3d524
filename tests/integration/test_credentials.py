"""Tokens and certificates that run out while the shipper runs: everything waits, somebody is told, nothing is lost."""

from __future__ import annotations

import http.server
import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage import Client
from demo.processes import HOST, free_port, wait_until
from tests.integration.test_misconfiguration import make_certificates
from tests.integration.test_operating import ask, end_of_application, said

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Guard:
    """An OTLP/HTTP endpoint that takes one token."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.token = "first"  # noqa: S105 - a token of the test's own
        self.taken = self.refused = 0
        guard = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                good = self.headers.get("Authorization") == f"Bearer {guard.token}"
                guard.taken += good
                guard.refused += not good
                self.send_response(200 if good else 401)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the interface of http.server
                """Stay silent."""

        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Return an endpoint that takes one token."""
    made = Guard()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_token_that_runs_out_costs_nothing_but_time(node, guard, tmp_path) -> None:
    """Readiness says why; with a new token in the file delivery goes on, without a restart or a signal."""
    token, port = tmp_path / "token", free_port()
    token.write_text("first\n")
    endpoint = f"http://{HOST}:{guard.server.server_address[1]}"
    shipper = node.start_shipper(
        *("--bearer-token-file", str(token), "--listen", str(port)), endpoint=endpoint, protocol="http/protobuf"
    )
    end_of_application(node, 30)
    node.wait_until_drained(shipper)
    guard.token = "second"  # noqa: S105 - as above
    end_of_application(node, 30)
    wait_until(lambda: "paused: HTTP 401" in ask(port, "/readyz")[1], "reason", shipper)
    assert ask(port, "/healthz")[0] == 200
    assert any(found.pending for found in node.accounting().values())
    replacement = tmp_path / "replacement"
    replacement.write_text("second")
    replacement.rename(token)
    node.wait_until_drained(shipper)
    wait_until(lambda: ask(port, "/readyz")[0] == 200, "readiness", shipper)
    assert guard.refused > 0
    assert shipper.stop() == 0
    assert all(found.delivered == found.total > 0 for found in node.accounting().values())
    with Client(node.data, read_only=True) as log:
        assert "deadletter:v1" not in log.streams()
    assert "second" not in shipper.output.read_text()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_certificate_file_that_changes_is_read_again(node, tmp_path, protocol) -> None:
    """The server gets a certificate of another authority; with that in the file delivery goes on."""
    old, new = make_certificates(tmp_path / "old"), make_certificates(tmp_path / "new")
    trusted = tmp_path / "trusted.pem"
    shutil.copy(old.authority, trusted)
    collector = node.start_collector("--tls-certificate", str(old.certificate), "--tls-key", str(old.key))
    port = node.grpc_port if protocol == "grpc" else node.http_port
    secure = {"endpoint": f"https://localhost:{port}", "protocol": protocol}
    shipper = node.start_shipper("--certificate", str(trusted), **secure)
    end_of_application(node, 30)
    node.wait_until_drained(shipper)
    collector.kill()
    node.start_collector("--tls-certificate", str(new.certificate), "--tls-key", str(new.key))
    end_of_application(node, 30)
    wait_until(
        lambda: said(shipper, "certificate") and any(found.pending for found in node.accounting().values()),
        "reason",
        shipper,
    )
    replace(trusted, new.authority)
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
    node.assert_nothing_lost(duplicates=True)


def replace(path: Path, content: Path) -> None:
    """Put another content into a file, at once."""
    temporary = path.with_suffix(".new")
    shutil.copy(content, temporary)
    temporary.rename(path)
