"""Nodes in a row for a test, every part in a process of its own: application, edge, hub, collector."""

from __future__ import annotations

from pathlib import Path

from comet_otel.streams import ROUTES
from comet_storage import Client
from demo.processes import HOST, Child, Processes, answers, free_port, listens, wait_until
from demo.report import compare

GROUP = "shipper"


class ReceivingNode:
    """A receiver and a shipper over one log; the shipper sends to the next node or to the collector."""

    def __init__(self, name: str, folder: Path, processes: Processes, next_port: int) -> None:
        """Use an empty folder; start nothing."""
        self.data = folder / name
        self.port = free_port()
        self._name = name
        self._processes = processes
        self._next_port = next_port

    def start_receiver(self) -> Child:
        """Start the receiver and wait until it stores."""
        receiver = self._processes.start(
            f"{self._name}-receiver",
            [
                *("comet_otel.receiver", "--data-dir", str(self.data)),
                *("--grpc-endpoint", "off", "--http-endpoint", f"{HOST}:{self.port}"),
            ],
        )
        wait_until(lambda: answers(self.port, "/readyz"), f"{self._name}'s receiver", receiver)
        return receiver

    def start_shipper(self) -> Child:
        """Start the shipper."""
        return self._processes.start(
            f"{self._name}-shipper",
            [
                *("shipper", "run", "--data-dir", str(self.data), "--group", GROUP, "--retry-max", "0.5"),
                *("--endpoint", f"http://{HOST}:{self._next_port}", "--protocol", "http/protobuf"),
            ],
        )

    def wait_until_drained(self, shipper: Child) -> None:
        """Wait until everything in the log is delivered."""
        with Client(self.data, read_only=True) as log:
            wait_until(
                lambda: all(log.accounting(route.stream, GROUP).pending == 0 for route in ROUTES),
                f"empty backlog of {self._name}",
                shipper,
            )


class Row:
    """An application, some nodes one after the other, and a collector; any of them can be killed and started again."""

    def __init__(self, folder: Path, processes: Processes, nodes: tuple[str, ...]) -> None:
        """Start them, the collector first."""
        self._folder = folder
        self._processes = processes
        self._received = folder / "received.jsonl"
        self._acknowledged = folder / "acknowledged"
        self._acknowledged.mkdir()
        self._collector_port = free_port()
        self.nodes: list[ReceivingNode] = []
        for name in reversed(nodes):
            next_port = self.nodes[0].port if self.nodes else self._collector_port
            self.nodes.insert(0, ReceivingNode(name, folder, processes, next_port))
        self._starters = {"collector": self._start_collector}
        for node in reversed(self.nodes):
            self._starters[f"{node.data.name}-receiver"] = node.start_receiver
            self._starters[f"{node.data.name}-shipper"] = node.start_shipper
        self.children = {place: start() for place, start in self._starters.items()}

    def start_application(self) -> Child:
        """Start an application that sends to the first node."""
        application = self._processes.start(
            "application",
            [
                *("tests.integration.clients.application", f"http://{HOST}:{self.nodes[0].port}"),
                str(self._acknowledged),
            ],
        )
        wait_until(lambda: "begun" in application.last_words(), "beginning of the application", application)
        return application

    def kill_and_start(self, place: str) -> None:
        """Kill what is at a place and start it again."""
        assert self.children[place].alive(), self.children[place].last_words()
        self.children[place].kill()
        self.children[place] = self._starters[place]()

    def wait_until_received(self, requests: int) -> None:
        """Wait until that many more requests than now have arrived at the end."""
        enough = self._request_count() + requests
        wait_until(lambda: self._request_count() >= enough, "requests at the collector")

    def wait_until_drained(self) -> None:
        """Wait until everything is delivered, node after node."""
        for node in self.nodes:
            node.wait_until_drained(self.children[f"{node.data.name}-shipper"])

    def assert_nothing_lost(self) -> None:
        """Check that all that the application was told is stored has arrived."""
        for report in compare(self._acknowledged, self._received):
            assert report.exported > 0, report
            assert report.lost == 0, report

    def _request_count(self) -> int:
        return self._received.read_bytes().count(b'"ids"') if self._received.exists() else 0

    def _start_collector(self) -> Child:
        collector = self._processes.start(
            "collector",
            ["demo.collector", "--record", str(self._received), "--http-port", str(self._collector_port)],
        )
        wait_until(lambda: listens(self._collector_port), "collector", collector)
        return collector
