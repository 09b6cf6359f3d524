"""OTLP clients that nobody here wrote, each in a process of its own, against the receiver in another.

What they report as sent is in the log, byte for byte where it came as protobuf, and equal in meaning where it came as
JSON.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from comet_otel.streams import Signal, route_of_signal
from demo.processes import HOST, ROOT, Child, Processes, answers, free_port, listens, wait_until
from tests.support.requests import Item, items, stored_requests

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CLIENTS = Path(__file__).parent / "clients"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
NODE_MODULES = CACHE / "comet-otel" / "javascript-clients" / "node_modules"
NODE = shutil.which("node")
COLLECTOR = os.environ.get("OTELCOL_BIN") or shutil.which("otelcol-contrib") or shutil.which("otelcol")
CLIENT_SECONDS_MAX = 120


@dataclass
class Receiver:
    """A receiver in a process of its own."""

    data: Path
    grpc_port: int
    http_port: int
    process: Child

    def url(self, protocol: str) -> str:
        """Return where a protocol is served."""
        return f"http://{HOST}:{self.grpc_port if protocol == 'grpc' else self.http_port}"

    def stored(self, signal: Signal) -> Counter[bytes]:
        """Return how often each request is in the log."""
        return Counter(stored_requests(self.data, signal))


@pytest.fixture(scope="module")
def receiver(tmp_path_factory) -> Iterator[Receiver]:
    """Run ``comet-receiver`` on free ports of this machine; each test looks at what it has added to the log."""
    folder = tmp_path_factory.mktemp("receiver")
    data, grpc_port, http_port = folder / "log", free_port(), free_port()
    with Processes(folder) as processes:
        process = processes.start(
            "receiver",
            [
                *("comet_otel.receiver", "--data-dir", str(data)),
                *("--grpc-endpoint", f"{HOST}:{grpc_port}", "--http-endpoint", f"{HOST}:{http_port}"),
            ],
        )
        wait_until(lambda: answers(http_port, "/readyz") and listens(grpc_port), "receiver", process)
        yield Receiver(data, grpc_port, http_port, process)


def run_client(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a client to its end; it must not complain."""
    result = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=CLIENT_SECONDS_MAX,
        env={**os.environ, **(environment or {})},
    )
    assert (result.returncode, result.stderr) == (0, "")


def sent_requests(file: Path) -> dict[Signal, list[bytes]]:
    """Return what a client reported as sent."""
    found: dict[Signal, list[bytes]] = {signal: [] for signal in Signal}
    for line in file.read_text().splitlines():
        note = json.loads(line)
        found[Signal(note["signal"])].append(base64.b64decode(note["request"]))
    return found


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_python_sdk_s_requests_are_stored_byte_for_byte(receiver, tmp_path, protocol, compression) -> None:
    """Its exporters for gRPC and HTTP, plain and with gzip."""
    sent, url = tmp_path / "sent.jsonl", receiver.url(protocol)
    before = {signal: receiver.stored(signal) for signal in Signal}
    run_client([sys.executable, "-m", "tests.integration.clients.python_sdk", protocol, url, compression, str(sent)])
    for signal, requests in sent_requests(sent).items():
        assert len(requests) >= (1 if signal is Signal.METRICS else 3)
        assert receiver.stored(signal) - before[signal] == Counter(requests)


@pytest.mark.skipif(NODE is None, reason="no node on PATH")
@pytest.mark.skipif(not NODE_MODULES.is_dir(), reason="`make javascript-clients` has not been run")
@pytest.mark.parametrize(
    ("protocol", "compression"), [("grpc", "gzip"), ("proto", "gzip"), ("http", "none"), ("http", "gzip")]
)
def test_the_javascript_sdk_s_requests_are_stored(receiver, tmp_path, protocol, compression) -> None:
    """Its exporters for gRPC, HTTP with protobuf, and HTTP with JSON ("http"), plain and with gzip."""
    sent = tmp_path / "sent.jsonl"
    before = {signal: receiver.stored(signal) for signal in Signal}
    run_client(
        [
            str(NODE),
            str(CLIENTS / "javascript" / "client.cjs"),
            protocol,
            receiver.url(protocol),
            compression,
            str(sent),
        ],
        {"NODE_PATH": str(NODE_MODULES)},
    )
    for signal, requests in sent_requests(sent).items():
        assert len(requests) >= (1 if signal is Signal.METRICS else 3)
        added = receiver.stored(signal) - before[signal]
        if protocol == "http":
            assert items(signal, added.elements()) == items(signal, requests)
        else:
            assert added == Counter(requests)


COLLECTOR_CONFIGURATION = """
receivers:
  otlp:
    protocols:
      http: {{endpoint: "{host}:{port}"}}
exporters:
  otlp_grpc: {{endpoint: "{host}:{grpc}", compression: {compression}, tls: {{insecure: true}}}}
  otlp_http: {{endpoint: "http://{host}:{http}", compression: {compression}, encoding: {encoding}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [{exporter}]}}
    logs: {{receivers: [otlp], exporters: [{exporter}]}}
    metrics: {{receivers: [otlp], exporters: [{exporter}]}}
"""


@pytest.fixture(scope="module")
def telemetry(receiver, tmp_path_factory) -> dict[Signal, list[bytes]]:
    """Return requests of the Python SDK, made once."""
    sent = tmp_path_factory.mktemp("telemetry") / "sent.jsonl"
    url = receiver.url("http")
    run_client([sys.executable, "-m", "tests.integration.clients.python_sdk", "http", url, "none", str(sent)])
    return sent_requests(sent)


@pytest.mark.skipif(
    COLLECTOR is None, reason="no OpenTelemetry Collector: neither OTELCOL_BIN nor otelcol(-contrib) on PATH"
)
@pytest.mark.parametrize(
    ("exporter", "encoding", "compression"),
    [
        ("otlp_grpc", "proto", "gzip"),
        ("otlp_grpc", "proto", "none"),
        ("otlp_http", "proto", "zstd"),
        ("otlp_http", "json", "gzip"),
    ],
)
def test_the_opentelemetry_collector_s_requests_are_stored(
    receiver, tmp_path, telemetry, exporter, encoding, compression
) -> None:
    """Its exporters for gRPC and HTTP in all encodings: what goes into the Collector is in the log behind it."""
    configuration, port = tmp_path / "otelcol.yaml", free_port()
    before = {signal: receiver.stored(signal) for signal in Signal}
    configuration.write_text(
        COLLECTOR_CONFIGURATION.format(
            host=HOST,
            port=port,
            grpc=receiver.grpc_port,
            http=receiver.http_port,
            exporter=exporter,
            encoding=encoding,
            compression=compression,
        )
    )
    with (tmp_path / "otelcol.log").open("wb") as log:
        process = subprocess.Popen([str(COLLECTOR), "--config", str(configuration)], stdout=log, stderr=log)
        try:
            wait_until(lambda: listens(port), "OpenTelemetry Collector")
            for signal, requests in telemetry.items():
                for request in requests:
                    post(f"http://{HOST}:{port}/{route_of_signal(signal).http_path}", request)
            for signal, requests in telemetry.items():
                expected = items(signal, requests)

                def added(signal: Signal = signal) -> Counter[Item]:
                    return items(signal, (receiver.stored(signal) - before[signal]).elements())

                wait_until(
                    lambda added=added, expected=expected: added().total() >= expected.total(),
                    f"{signal.value} in the log",
                    receiver.process,
                )
                assert added() == expected
        finally:
            process.kill()
            process.wait()


def post(url: str, body: bytes) -> None:
    """Send one request as protobuf."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/x-protobuf"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
        assert response.status == 200
