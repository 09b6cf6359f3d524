"""Does everything that was exported arrive, equal, while collectors and shippers are killed and the network is cut?"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from comet_otel.streams import ROUTES
from comet_storage import Client
from demo.processes import HOST, Child, Processes, free_port, listens, wait_until
from tests.support.cutting_proxy import CuttingProxy

pytestmark = [pytest.mark.crash, pytest.mark.slow]

FULL = bool(os.environ.get("COMET_CRASH_FULL"))
COLLECTOR = os.environ.get("OTELCOL_BIN") or shutil.which("otelcol-contrib") or shutil.which("otelcol")
GROUP = "shipper"
WINDOW = 4

# With the queue of its exporter off, the Collector answers when what is behind it has answered: so it may be killed.
OTELCOL = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "{host}:{grpc}"}}
      http: {{endpoint: "{host}:{http}"}}
exporters:
  otlp:
    endpoint: "{host}:{behind}"
    tls: {{insecure: true}}
    sending_queue: {{enabled: false}}
    retry_on_failure: {{enabled: false}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlp]}}
    logs: {{receivers: [otlp], exporters: [otlp]}}
    metrics: {{receivers: [otlp], exporters: [otlp]}}
"""


@dataclass(frozen=True)
class Plan:
    """What is exported, and what happens meanwhile."""

    spans: int
    logs: int
    points: int
    seconds: float
    collector_kills: int
    shipper_kills: int
    cuts: int


PLAN = Plan(100_000, 100_000, 20_000, 60, 10, 10, 3) if FULL else Plan(1200, 1200, 400, 3, 2, 2, 1)


class World:
    """The processes of one campaign."""

    def __init__(self, folder: Path, processes: Processes, protocol: str, collector: str | None) -> None:
        self.data = folder / "log"
        self.exported = folder / "exported.jsonl"
        self.received = folder / "received.jsonl"
        self._folder = folder
        self._processes = processes
        self._protocol = protocol
        self._collector_program = collector
        self._grpc, self._http = free_port(), free_port()
        self._behind = free_port()
        self.proxy = CuttingProxy(self._grpc if protocol == "grpc" else self._http)
        self._collector: Child | subprocess.Popen[bytes] | None = None
        self.shipper: Child | None = None
        if collector is not None:
            self._start_recorder(self._behind, free_port())

    def start_source(self) -> Child:
        """Start the application."""
        arguments = ["--spans", PLAN.spans, "--logs", PLAN.logs, "--points", PLAN.points, "--seconds", PLAN.seconds]
        return self._processes.start(
            "source",
            ["tests.support.telemetry_source", "--record", str(self.exported), *map(str, arguments)],
            {"COMET_DATA_DIR": str(self.data)},
        )

    def start_collector(self) -> None:
        """Start what the shipper sends to, and wait until it listens."""
        if self._collector_program is None:
            self._collector = self._start_recorder(self._grpc, self._http)
        else:
            file = self._folder / "otelcol.yaml"
            file.write_text(OTELCOL.format(host=HOST, grpc=self._grpc, http=self._http, behind=self._behind))
            with (self._folder / "otelcol.log").open("ab") as log:
                self._collector = subprocess.Popen(
                    [self._collector_program, "--config", str(file)], stdout=log, stderr=log
                )
        wait_until(lambda: listens(self._grpc) and listens(self._http), "collector")

    def kill_collector(self) -> None:
        """Send it SIGKILL."""
        collector, self._collector = self._collector, None
        if collector is not None:
            collector.kill()
        if isinstance(collector, subprocess.Popen):
            collector.wait()

    def start_shipper(self) -> None:
        """Start the shipper, with small requests, so that there are many."""
        self.shipper = self._processes.start(
            "shipper",
            [
                *("shipper", "run", "--data-dir", str(self.data), "--group", GROUP, "--protocol", self._protocol),
                *("--endpoint", f"http://{HOST}:{self.proxy.port}", "--window", str(WINDOW)),
                *("--retry-max", "0.3", "--timeout", "1.5", "--max-request-bytes", "64 KiB"),
            ],
        )

    def requests(self) -> int:
        """Return how many requests have arrived."""
        return self.received.read_bytes().count(b'"signal"') if self.received.exists() else 0

    def drained(self, source: Child) -> bool:
        """Whether there is nothing more to come."""
        if source.alive():
            return False
        with Client(self.data, read_only=True) as log:
            return all(log.accounting(route.stream, GROUP).pending == 0 for route in ROUTES)

    def wait_until_drained(self) -> None:
        """Wait until nothing is pending."""
        with Client(self.data, read_only=True) as log:
            wait_until(
                lambda: all(log.accounting(route.stream, GROUP).pending == 0 for route in ROUTES),
                "empty backlog",
                self.shipper,
                300,
            )

    def _start_recorder(self, grpc_port: int, http_port: int) -> Child:
        recorder = self._processes.start(
            "recorder",
            [
                *("tests.support.telemetry_recorder", "--record", str(self.received), "--work-seconds", "0.01"),
                *("--grpc-port", str(grpc_port), "--http-port", str(http_port)),
            ],
        )
        wait_until(lambda: listens(grpc_port) and listens(http_port), "recorder", recorder)
        return recorder


@contextmanager
def world_of(folder: Path, protocol: str, collector: str | None) -> Iterator[World]:
    """Give a world whose processes end with the test."""
    with Processes(folder) as processes:
        world = World(folder, processes, protocol, collector)
        try:
            yield world
        finally:
            world.kill_collector()
            world.proxy.close()


def do_damage(world: World, source: Child, dice: random.Random) -> list[float]:
    """Kill and cut at random times, in random order; return when something was done."""
    kinds = ["collector"] * PLAN.collector_kills + ["shipper"] * PLAN.shipper_kills + ["cut"] * PLAN.cuts
    dice.shuffle(kinds)
    pause = PLAN.seconds / len(kinds) / 2
    when: list[float] = []
    for kind in kinds:
        enough = world.requests() + dice.randint(1, 5)
        wait_until(lambda n=enough: world.requests() >= n or world.drained(source), "progress", world.shipper, 120)
        time.sleep(dice.random() * pause)
        when.append(time.time())
        if kind == "collector":
            world.kill_collector()
            time.sleep(dice.random() * pause)
            world.start_collector()
        elif kind == "shipper":
            assert world.shipper is not None
            world.shipper.kill()
            world.start_shipper()
        else:
            dice.choice([world.proxy.cut, world.proxy.black_hole])()
            time.sleep(dice.random() * pause)
            world.proxy.mend()
        when.append(time.time())
    return when


def notes(file: Path) -> list[dict]:
    """Return the lines of a record; half lines are left out."""
    found = []
    for line in file.read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


@pytest.mark.parametrize(
    ("protocol", "collector"),
    [
        pytest.param("grpc", None, id="grpc"),
        pytest.param("http/protobuf", None, id="http"),
        pytest.param(
            "grpc",
            COLLECTOR,
            id="opentelemetry-collector",
            marks=pytest.mark.skipif(
                COLLECTOR is None,
                reason="no OpenTelemetry Collector: neither OTELCOL_BIN nor otelcol(-contrib) on PATH",
            ),
        ),
    ],
)
def test_everything_exported_arrives_equal_through_kills_and_cuts(tmp_path, capsys, protocol, collector) -> None:
    """Nothing is lost; what arrives twice was in a request under way when something was killed or cut."""
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    with world_of(tmp_path, protocol, collector) as world:
        world.start_collector()
        world.start_shipper()
        source = world.start_source()
        when = do_damage(world, source, dice)
        wait_until(lambda: not source.alive(), "end of the application", timeout=300)
        world.wait_until_drained()
        assert world.shipper is not None
        wait_until(lambda: "forwarding" in world.shipper.output.read_text(), "start of the last shipper", world.shipper)
        assert world.shipper.stop() == 0
        with Client(world.data, read_only=True) as log:
            for route in ROUTES:
                found = log.accounting(route.stream, GROUP)
                assert found.delivered == found.total > 0, found

    exported: defaultdict[str, list[str]] = defaultdict(list)
    for note in notes(world.exported):
        exported[note["signal"]] += note["items"]
    arrivals: defaultdict[str, list[float]] = defaultdict(list)
    doubled_requests = 0
    for note in sorted(notes(world.received), key=lambda note: note["time"]):
        doubled_requests += any(item in arrivals for item in note["items"])
        for item in note["items"]:
            arrivals[item].append(note["time"])
    numbers = {signal: len(items) for signal, items in exported.items()}
    assert numbers == {"traces": PLAN.spans, "logs": PLAN.logs, "metrics": PLAN.points}
    everything = {item for items in exported.values() for item in items}
    assert len(everything) == sum(numbers.values()), "digests tell the items apart"
    lost, strange = everything - arrivals.keys(), arrivals.keys() - everything
    duplicates = sum(len(times) - 1 for times in arrivals.values())
    with capsys.disabled():
        print(
            f"\n{protocol}{' to the OpenTelemetry Collector' if collector else ''}: exported {numbers}, "
            f"{PLAN.collector_kills} collector kills, {PLAN.shipper_kills} shipper kills, {PLAN.cuts} cuts: "
            f"lost {len(lost)}, changed {len(strange)}, duplicates {duplicates} in {doubled_requests} requests"
        )
    assert (len(lost), len(strange)) == (0, 0), f"seed {seed}"
    # Each stream has one shard here, so one request under way, when something happens.
    faults = PLAN.collector_kills + PLAN.shipper_kills + PLAN.cuts
    assert doubled_requests <= faults * len(ROUTES) * 2, f"seed {seed}"
    for item, times in arrivals.items():
        for earlier, later in pairwise(times):
            # A request is answered a little after it was written down.
            assert any(earlier - 1 <= moment <= later for moment in when), f"{item} twice for no reason; seed {seed}"
