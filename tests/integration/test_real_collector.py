"""The same against the OpenTelemetry Collector itself, where there is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from demo.ledger import count_ids
from demo.processes import HOST, listens, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COLLECTOR = os.environ.get("OTELCOL_BIN") or shutil.which("otelcol-contrib") or shutil.which("otelcol")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        COLLECTOR is None, reason="no OpenTelemetry Collector: neither OTELCOL_BIN nor otelcol(-contrib) on PATH"
    ),
]

CONFIGURATION = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "{host}:{grpc}"}}
      http: {{endpoint: "{host}:{http}"}}
exporters:
  file: {{path: "{output}"}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
"""


@pytest.fixture
def received(node, tmp_path) -> Iterator[Path]:
    """Run the Collector and return the file that it writes to."""
    assert COLLECTOR is not None
    output, configuration = tmp_path / "otelcol.jsonl", tmp_path / "otelcol.yaml"
    configuration.write_text(CONFIGURATION.format(host=HOST, grpc=node.grpc_port, http=node.http_port, output=output))
    with (tmp_path / "otelcol.log").open("wb") as log:
        process = subprocess.Popen([COLLECTOR, "--config", str(configuration)], stdout=log, stderr=log)
        try:
            wait_until(lambda: listens(node.grpc_port) and listens(node.http_port), "OpenTelemetry Collector")
            yield output
        finally:
            process.kill()
            process.wait()


def span_ids(file: Path) -> set[str]:
    """Return the ids of all spans in the Collector's output."""
    return {
        f"{span['traceId']}-{span['spanId']}"
        for line in (file.read_text().splitlines() if file.exists() else [])
        for resource_spans in json.loads(line).get("resourceSpans", [])
        for scope_spans in resource_spans["scopeSpans"]
        for span in scope_spans["spans"]
    }


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_opentelemetry_collector_takes_what_the_shipper_sends(node, received, protocol) -> None:
    """Every span that an exporter acknowledged is in the Collector's output."""
    application = node.start_application(rounds=200)
    wait_until(lambda: not application.alive(), "end of the application")
    shipper = node.start_shipper(protocol=protocol)
    node.wait_until_drained(shipper)
    assert shipper.stop() == 0
    exported = set(count_ids(node.acknowledged)["traces"])
    assert len(exported) == 200
    wait_until(lambda: span_ids(received) >= exported, "spans in the Collector's output")
