"""One node in miniature for a test: applications, a log, a shipper and a collector, each in its own process."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

from comet_otel.streams import ROUTES
from comet_storage import Client
from demo.processes import HOST, Child, Processes, free_port, listens, wait_until
from demo.report import compare
from demo.telemetry import LEDGER_VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

    from comet_storage import Accounting
    from demo.report import SignalReport

GROUP = "shipper"


class Node:
    """Starts and watches the processes; ports and files are the test's own."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        """Use an empty folder."""
        self.data = folder / "log"
        self.acknowledged = folder / "acknowledged"
        self.acknowledged.mkdir()
        self.received = folder / "received.jsonl"
        self.grpc_port = free_port()
        self.http_port = free_port()
        self._processes = processes

    def start_application(self, rounds: int | None = None) -> Child:
        """Start an application and wait until it works."""
        application = self._processes.start(
            "application",
            ["tests.integration.application", *(["--rounds", str(rounds)] if rounds else [])],
            {"COMET_DATA_DIR": str(self.data), LEDGER_VARIABLE: str(self.acknowledged)},
        )
        wait_until(lambda: "begun" in application.last_words(), "first round", application)
        return application

    def another(self, name: str) -> Node:
        """Return the same node towards another collector, which is started by itself."""
        other = copy.copy(self)
        other.received = self.received.with_name(f"received-{name}.jsonl")
        other.grpc_port, other.http_port = free_port(), free_port()
        return other

    def start_collector(self, *arguments: str) -> Child:
        """Start the collector and wait until it listens."""
        collector = self._processes.start(
            "collector",
            [
                *("demo.collector", "--record", str(self.received)),
                *("--grpc-port", str(self.grpc_port), "--http-port", str(self.http_port), *arguments),
            ],
        )
        wait_until(lambda: listens(self.grpc_port) and listens(self.http_port), "collector", collector)
        return collector

    def start_shipper(self, *arguments: str, endpoint: str | None = None, protocol: str = "grpc") -> Child:
        """Start the shipper, by default towards the collector's plain endpoint, with short pauses."""
        port = self.grpc_port if protocol == "grpc" else self.http_port
        return self._processes.start(
            "shipper",
            [
                *("shipper", "run", "--data-dir", str(self.data), "--group", GROUP, "--retry-max", "0.5"),
                *("--endpoint", endpoint or f"http://{HOST}:{port}", "--protocol", protocol, *arguments),
            ],
        )

    def start_configured_shipper(self, configuration: Path, **environment: str) -> Child:
        """Start the shipper with a file of settings."""
        return self._processes.start("shipper", ["shipper", "run", "--config", str(configuration)], environment)

    def accounting(self, group: str = GROUP) -> dict[str, Accounting]:
        """Return what became of every entry of each signal, for a group."""
        with Client(self.data, read_only=True) as log:
            return {route.signal.value: log.accounting(route.stream, group) for route in ROUTES}

    def wait_until_pending(self, shipper: Child | None = None) -> None:
        """Wait until all three signals are in the log and the shipper's group has something to deliver."""

        def pending() -> bool:
            with Client(self.data, read_only=True) as log:
                return all(log.accounting(route.stream, GROUP).pending > 0 for route in ROUTES)

        wait_until(pending, "something pending", shipper)

    def wait_until_drained(self, shipper: Child, group: str = GROUP) -> None:
        """Wait until everything in the log is delivered."""
        with Client(self.data, read_only=True) as log:
            wait_until(
                lambda: all(log.accounting(route.stream, group).pending == 0 for route in ROUTES),
                "empty backlog",
                shipper,
            )

    def wait_until_received(self, requests: int, child: Child | None = None) -> None:
        """Wait until the collector has received that many more requests than now."""
        enough = self.request_count() + requests
        wait_until(lambda: self.request_count() >= enough, "requests at the collector", child)

    def request_count(self) -> int:
        """Return how many requests the collector has received."""
        return self.received.read_bytes().count(b'"ids"') if self.received.exists() else 0

    def encodings(self) -> set[tuple[str, str | None]]:
        """Return protocol and content encoding of the requests received."""
        notes = [json.loads(line) for line in self.received.read_text().splitlines() if line]
        return {(note["protocol"], note.get("encoding")) for note in notes}

    def reports(self) -> list[SignalReport]:
        """Return what became of everything that exporters acknowledged."""
        return compare(self.acknowledged, self.received)

    def assert_nothing_lost(self, *, duplicates: bool = False) -> None:
        """Check that everything acknowledged has arrived, and once unless duplicates are allowed."""
        for report in self.reports():
            assert report.exported > 0, report
            assert report.lost == 0, report
            assert duplicates or report.duplicates == 0, report
