"""Wrong endpoints and certificates: a clear line, nothing lost, and delivery once it is mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from demo.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from demo.processes import Child
    from tests.integration.node import Node

pytestmark = [pytest.mark.integration, pytest.mark.slow]
trustme = pytest.importorskip("trustme")


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Return an authority and a certificate of it for this machine."""
    folder.mkdir()
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    made = Certificates(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(made.authority)
    issued.cert_chain_pems[0].write_to_path(made.certificate)
    issued.private_key_pem.write_to_path(made.key)
    return made


def export_and_end(node: Node) -> None:
    """Fill the log."""
    application = node.start_application(rounds=30)
    wait_until(lambda: not application.alive(), "end of the application")


def expect_failure(shipper: Child, text: str) -> None:
    """Wait for the line that says what is wrong; the shipper goes on, and stops when told to."""
    wait_until(lambda: "cannot deliver" in shipper.last_words(), "failure", shipper)
    assert text in shipper.last_words()
    assert shipper.stop() == 0
    assert "Traceback" not in shipper.output.read_text()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_trusted_certificate_lets_delivery_through_and_a_strange_one_does_not(node, tmp_path, protocol) -> None:
    """Nothing goes to a server that cannot prove who it is; with the right authority everything does."""
    server, stranger = make_certificates(tmp_path / "server"), make_certificates(tmp_path / "stranger")
    export_and_end(node)
    node.start_collector("--tls-certificate", str(server.certificate), "--tls-key", str(server.key))
    port = node.grpc_port if protocol == "grpc" else node.http_port
    secure = {"endpoint": f"https://localhost:{port}", "protocol": protocol}

    expect_failure(node.start_shipper("--certificate", str(stranger.authority), **secure), "certificate")
    assert node.request_count() == 0

    shipper = node.start_shipper("--certificate", str(server.authority), **secure)
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
    node.assert_nothing_lost()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_tls_to_a_plain_endpoint_and_plain_to_a_tls_endpoint_deliver_nothing(node, tmp_path, protocol) -> None:
    """Both are told, and both keep everything."""
    export_and_end(node)
    certificates = make_certificates(tmp_path / "server")
    plain = node.start_collector()
    port = node.grpc_port if protocol == "grpc" else node.http_port
    expect_failure(node.start_shipper(endpoint=f"https://localhost:{port}", protocol=protocol), "localhost")
    plain.kill()
    node.start_collector("--tls-certificate", str(certificates.certificate), "--tls-key", str(certificates.key))
    expect_failure(node.start_shipper(endpoint=f"http://localhost:{port}", protocol=protocol), "localhost")
    assert node.request_count() == 0


@pytest.mark.parametrize(
    ("endpoint", "protocol", "text"),
    [
        ("http://127.0.0.1:9", "grpc", "UNAVAILABLE"),
        ("http://127.0.0.1:9", "http/protobuf", "cannot connect"),
        ("http://collector.invalid:4317", "grpc", "host name unknown"),
        ("http://collector.invalid:4318", "http/protobuf", "host name unknown"),
        ("http://127.0.0.1:{grpc}", "http/protobuf", "connection failed"),
        ("http://127.0.0.1:{http}", "grpc", "cannot deliver"),
        ("http://127.0.0.1:{http}/wrong/path", "http/protobuf", "HTTP 404"),
    ],
)
def test_a_wrong_endpoint_is_told_and_loses_nothing(node, endpoint, protocol, text) -> None:
    """Nobody there, no such host, the other protocol's port, a wrong path."""
    export_and_end(node)
    node.start_collector()
    endpoint = endpoint.format(grpc=node.grpc_port, http=node.http_port)
    expect_failure(node.start_shipper(endpoint=endpoint, protocol=protocol), text)
    shipper = node.start_shipper()
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
    node.assert_nothing_lost()
