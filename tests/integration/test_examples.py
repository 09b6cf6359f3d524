"""The examples do what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from comet_otel.streams import TRACES
from demo.identity import span_ids_of_request
from demo.ledger import count_ids
from demo.processes import HOST, Processes, free_port, listens, wait_until
from tests.unit.comet_otel import stored

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: str, **environment: str) -> str:
    """Run an example to its end and return what it prints; it must not complain."""
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert result.stderr == ""
    return result.stdout


def test_quickstart_stores_all_three_signals(tmp_path) -> None:
    """Spans, log lines and a counter of three greetings."""
    data_dir = tmp_path / "telemetry"
    assert f"comet-shipper status --data-dir {data_dir}" in run("quickstart.py", str(data_dir))
    assert stored.span_names(data_dir) == ["greet"] * 3
    assert stored.log_bodies(data_dir) == ["hello Ada", "hello Edsger", "hello Grace"]
    (resource_metrics,) = stored.metrics(data_dir).resource_metrics
    assert resource_metrics.scope_metrics[0].metrics[0].sum.data_points[0].as_int == 3


def test_by_environment_stores_what_the_environment_says(tmp_path) -> None:
    """Nothing in the program names the exporter."""
    data_dir = tmp_path / "telemetry"
    assert run("by_environment.py", OTEL_TRACES_EXPORTER="comet", COMET_DATA_DIR=str(data_dir)) == "working\n"
    assert stored.span_names(data_dir) == ["work"]


def test_logging_handler_stores_each_line(tmp_path) -> None:
    """Also the one with a traceback."""
    run("logging_handler.py", str(tmp_path / "telemetry"))
    assert stored.log_bodies(tmp_path / "telemetry") == ["opened with 100 EUR", "payment failed"]


def test_metrics_are_stored_as_deltas(tmp_path) -> None:
    """By the collection at the program's end."""
    run("metrics.py", str(tmp_path / "telemetry"))
    found = {
        metric.name: metric
        for group in stored.metrics(tmp_path / "telemetry").resource_metrics
        for scope in group.scope_metrics
        for metric in scope.metrics
    }
    assert found["door.openings"].sum.data_points[0].as_int == 3
    assert found["door.openings"].sum.aggregation_temporality == 1
    assert found["door.open.duration"].histogram.data_points[0].sum == 10.75
    assert found["temperature"].gauge.data_points[0].as_double == 4.5


SERVERS = {
    "fastapi_service.py": [
        "uvicorn",
        "--app-dir",
        "examples",
        "fastapi_service:app",
        "--log-level",
        "warning",
        "--port",
    ],
    "flask_gunicorn.py": ["gunicorn", "--workers", "2", "--chdir", "examples", "flask_gunicorn:app", "--bind"],
}


@pytest.mark.parametrize("name", SERVERS)
def test_services_store_the_spans_of_what_they_answered(tmp_path, name) -> None:
    """By the time of the answer for the inner span; by the end for all, also if that is a kill -9."""
    pytest.importorskip(SERVERS[name][0])
    port = free_port()
    data_dir = tmp_path / "telemetry"
    with Processes(tmp_path) as processes:
        address = f"{HOST}:{port}" if SERVERS[name][-1] == "--bind" else str(port)
        server = processes.start("server", [*SERVERS[name], address], {"COMET_DATA_DIR": str(data_dir)})
        wait_until(lambda: listens(port), "server", server)
        for number in range(1, 6):
            with urllib.request.urlopen(f"http://{HOST}:{port}/orders/{number}", timeout=60) as answer:
                assert json.load(answer) == {"order": number}
            assert stored.span_names(data_dir).count("read order") == number
        wait_until(lambda: len(stored.span_names(data_dir)) == 10, "spans of the requests", server)
        server.kill()
    assert len([found for found in stored.span_names(data_dir) if found.startswith("GET /orders/")]) == 5


def test_a_celery_worker_s_pool_stores_what_its_tasks_do(tmp_path) -> None:
    """Each task's span is there by the time the task is done."""
    pytest.importorskip("celery")
    environment = {"COMET_DATA_DIR": str(tmp_path / "telemetry"), "BROKER_DIR": str(tmp_path / "broker")}
    run("celery_worker.py", "Ada", "Grace", "Edsger", **environment)
    with Processes(tmp_path) as processes:
        command = ["celery", "--workdir", "examples", "--app", "celery_worker", "worker", "--pool", "prefork"]
        worker = processes.start("worker", [*command, "--concurrency", "2", "--loglevel", "WARNING"], environment)
        wait_until(lambda: stored.span_names(tmp_path / "telemetry") == ["greet"] * 3, "three greetings", worker)
        assert worker.stop(60.0) == 0
    assert stored.span_names(tmp_path / "telemetry") == ["greet"] * 3


def test_the_last_spans_of_a_dying_service_reach_the_collector(node) -> None:
    """However it dies; the shipper is started afterwards."""
    exit_codes = {"segfault": -signal.SIGSEGV, "os_exit": 1, "oom": -signal.SIGKILL, "kill": -signal.SIGKILL}
    for death, code in exit_codes.items():
        program = str(EXAMPLES / "last_spans" / "dying_service.py")
        assert subprocess.run([sys.executable, program, str(node.data), death], check=False).returncode == code
    assert stored.span_names(node.data) == ["last step"] * 4 + ["out of memory"]
    assert stored.log_bodies(node.data) == sorted(f"about to die of {death}" for death in exit_codes)
    expected = {
        identity
        for entries in stored.entries(node.data, TRACES).values()
        for entry in entries
        for identity in span_ids_of_request(ExportTraceServiceRequest.FromString(entry))
    }
    assert len(expected) == 5

    def received() -> set[str]:
        lines = node.received.read_text().splitlines() if node.received.exists() else []
        return {found for line in lines if line for found in json.loads(line)["ids"]}

    node.start_collector()
    shipper = node.start_shipper()
    wait_until(lambda: expected <= received(), "the last spans", shipper)
    assert shipper.stop() == 0


def test_any_language_stores_what_it_receives(tmp_path) -> None:
    """Requests in JSON, each answered when it was stored."""
    data_dir = tmp_path / "telemetry"
    assert run("any_language.py", str(data_dir)).splitlines()[1:] == ["scan: 200", "pay: 200", "print receipt: 200"]
    assert stored.span_names(data_dir) == ["pay", "print receipt", "scan"]


def test_edge_and_hub_loses_nothing_in_spite_of_kills(tmp_path) -> None:
    """Every span that the edge acknowledged arrives at the collector behind the hub."""
    received, port = tmp_path / "received.jsonl", free_port()
    with Processes(tmp_path) as processes:
        collector = processes.start(
            "collector", ["demo.collector", "--record", str(received), "--grpc-port", str(port)]
        )
        wait_until(lambda: listens(port), "collector", collector)
        output = run("edge_and_hub.py", f"http://{HOST}:{port}", str(tmp_path / "nodes"))
    assert output.splitlines()[-1] == "60 spans acknowledged and delivered"
    assert len(count_ids(received)["traces"]) == 60


def test_every_example_is_tested() -> None:
    """A new example needs a test here."""
    assert {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")} == {
        "any_language.py",
        "auto_instrumentation/app.py",
        "by_environment.py",
        "celery_worker.py",
        "edge_and_hub.py",
        "fastapi_service.py",
        "flask_gunicorn.py",
        "last_spans/dying_service.py",
        "logging_handler.py",
        "metrics.py",
        "quickstart.py",
    }
