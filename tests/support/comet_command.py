"""Runs the command ``comet`` in this process, and the logs that its tests look after."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from comet_cli import cli
from comet_otel.streams import LOGS, METRICS, TRACES
from comet_storage import Client
from shipper.delivery.dead_letters import DeadLetter, encode
from tests.support.otlp_requests import log_request, metric_request, trace_request

EVENTS = "events:v1:shard:0003"
GROUP = "shipper"


@dataclass(frozen=True)
class Outcome:
    """What a run of the command said."""

    code: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.output.decode()

    @property
    def answer(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.output)


Command = Callable[..., Outcome]


def make_command(data_dir: Path, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[bytes]) -> Command:
    """A function that runs the command with arguments, on the log in that directory."""

    def run(*arguments: object, data_dir: object = data_dir) -> Outcome:
        monkeypatch.setenv("COMET_DATA_DIR", str(data_dir))
        monkeypatch.setattr(sys, "argv", ["comet", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output, errors = captured.readouterr()
        return Outcome(int(ended.value.code or 0), output, errors.decode())

    return run


def shard_of(stream: str) -> str:
    """The first shard of a stream."""
    return f"{stream}:shard:0000"


def fill_log(data_dir: Path) -> dict[str, bytes]:
    """A log with one request of each signal and two entries of another kind; returns the requests by stream."""
    requests = {TRACES: trace_request(3), METRICS: metric_request(), LOGS: log_request()}
    with Client(data_dir) as client:
        for stream, request in requests.items():
            client.append(shard_of(stream), [request])
            client.register_group(stream, GROUP)
        client.append(EVENTS, [b"a\x1b[31m", b"b"])
    return requests


def dead_letter(number: int, body: bytes, **changes: Any) -> DeadLetter:
    """A refused request of traces."""
    facts: dict[str, Any] = {
        "destination": "main",
        "signal": "traces",
        "stream": TRACES,
        "shard": 0,
        "first_entry": number,
        "last_entry": number,
        "reason": "rejected",
        "code": "HTTP 400",
        "message": "no \x1b[31m",
        "attempts": 1,
        "first_try": 1_700_000_000.0,
        "last_try": 1_700_000_000.0 + number,
        "items": 3,
        "request_id": f"request-{number}",
        "body": body,
    }
    return DeadLetter(**{**facts, **changes})


def store_letters(data_dir: Path, *letters: DeadLetter) -> None:
    """Put dead letters into a log, as the shipper does."""
    with Client(data_dir) as client:
        client.append(shard_of("deadletter:v1"), [encode(letter) for letter in letters])
