"""The command ``comet-receiver``: its start, its end, and what it says when it cannot."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import grpc
import pytest

from comet_storage import Client
from demo.processes import HOST, Child, Processes, answers, free_port, listens, wait_until
from tests.support.otlp_requests import TRACES_METHOD, post, raw_connection, trace_request

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def processes(tmp_path) -> Iterator[Processes]:
    """Return a starter of processes that ends them with the test."""
    with Processes(tmp_path) as found:
        yield found


def start(processes: Processes, data, *arguments: str) -> tuple[Child, str, str]:
    """Start the command, wait until it serves, and return it with its two endpoints."""
    grpc_port, http_port = free_port(), free_port()
    endpoints = ("--grpc-endpoint", f"{HOST}:{grpc_port}", "--http-endpoint", f"{HOST}:{http_port}")
    child = processes.start("receiver", ["comet_otel.receiver", "--data-dir", str(data), *endpoints, *arguments])
    wait_until(lambda: answers(http_port, "/readyz") and listens(grpc_port), "receiver", child)
    return child, f"{HOST}:{grpc_port}", f"{HOST}:{http_port}"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "comet_otel.receiver", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_what_has_come_is_answered(processes, tmp_path, number) -> None:
    """A request whose body is still coming when the signal does is answered, stored, and then the exit code is 0."""
    child, _, http = start(processes, tmp_path / "log")
    body = trace_request(20)
    with raw_connection(http) as connection:
        connection.send(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"
            % len(body)
        )
        connection.send(body[:100])
        ended: list[int] = []
        stopping = threading.Thread(target=lambda: ended.append(child.signal(number)))
        stopping.start()
        wait_until(lambda: not listens(int(http.rpartition(":")[2])), "end of listening")
        connection.send(body[100:])
        assert connection.read_answer().status == 200
        stopping.join()
    assert ended == [0]
    with Client(tmp_path / "log", read_only=True) as client:
        assert [message.data for message in client.list_recent("traces:v1", 10)] == [body]


def test_an_end_does_not_wait_for_clients_that_send_nothing(processes, tmp_path) -> None:
    """Open connections, half-sent bodies and unfinished calls keep it no longer than the grace."""
    child, grpc_endpoint, http = start(processes, tmp_path / "log", "--grace", "0.5")
    with (
        raw_connection(http),
        raw_connection(http) as half,
        raw_connection(grpc_endpoint),
        grpc.insecure_channel(grpc_endpoint) as channel,
    ):
        half.send(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        never = threading.Event()
        call = channel.stream_unary(TRACES_METHOD).future(iter(lambda: never.wait(60) or b"", None), timeout=60)
        assert child.signal(signal.SIGTERM) == 0
        never.set()
        assert call.exception() is not None


def test_a_log_that_was_removed_is_opened_anew(processes, tmp_path) -> None:
    """After the directory is gone, requests are refused for a moment, and then stored in a new log."""
    data = tmp_path / "log"
    child, _, http = start(processes, data)
    assert post(http, "/v1/traces", trace_request()).status == 200
    shutil.rmtree(data)
    body = trace_request()

    def stored() -> bool:
        try:
            return post(http, "/v1/traces", body).status == 200 and (data / "log.json").exists()
        except OSError:
            return False  # between the old receiver and the new one

    wait_until(stored, "a request in the new log", child)
    with Client(data, read_only=True) as client:
        assert body in [message.data for message in client.list_recent("traces:v1", 1000)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--http-endpoint", "0.0.0.0:0"), 2, "allow_insecure"),
        (("--http-endpoint", "off", "--grpc-endpoint", "off"), 2, "at least one"),
        (("--grpc-endpoint", "nonsense"), 2, "HOST:PORT"),
        (("--max-body-size", "much"), 2, "--max-body-size"),
        (("--token-file", "/nonexistent"), 2, "token_file"),
        (("--no-such-option",), 2, "--no-such-option"),
        (("--data-dir", "/proc/nowhere"), 3, "/proc"),
        (("--http-endpoint", "192.0.2.1:4318", "--allow-insecure"), 3, "assign"),
    ],
)
def test_what_cannot_be_is_said_with_an_exit_code(tmp_path, arguments, code, words) -> None:
    """Wrong usage is 2 and a machine that refuses is 3; the message names what to mend."""
    given = ["--data-dir", str(tmp_path / "log")] if "--data-dir" not in arguments else []
    found = run(*given, *arguments)
    assert (found.returncode, words in found.stderr) == (code, True), found.stderr
    assert "Traceback" not in found.stderr


def test_help_has_examples() -> None:
    """``--help`` shows options, examples and exit codes."""
    found = run("--help")
    assert found.returncode == 0
    assert "comet-receiver --data-dir /var/lib/comet" in found.stdout
    assert "Exit codes" in found.stdout


def test_a_missing_package_is_named_with_what_to_install() -> None:
    """Without the extra's packages, library and command say how to get them."""
    hide = "import sys; sys.modules['uvicorn'] = None; "
    found = subprocess.run(
        [sys.executable, "-c", hide + "from comet_otel.receiver.cli import main; main()"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (found.returncode, "comet-otel[receiver]" in found.stderr) == (3, True)
    found = subprocess.run(
        [sys.executable, "-c", hide + "from comet_otel.receiver import OTLPReceiver"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "comet-otel[receiver]" in found.stderr
