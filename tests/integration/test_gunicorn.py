"""gunicorn's workers, killed at random: each span once, each worker in its own lane, and nothing that grows."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from comet_otel.streams import TRACES
from demo.processes import HOST, Child, Processes, answers, free_port, wait_until
from tests.support.wsgi_service import TOLD_VARIABLE, ids_told
from tests.unit.comet_otel import stored

pytest.importorskip("gunicorn")

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FULL = bool(os.environ.get("COMET_CRASH_FULL"))
REQUESTS = 2_000 if FULL else 100
KILL_EVERY = 25
"""Requests between two kills."""
RESTARTS = 500 if FULL else 8
WORKERS = 4
CLIENTS = 4


class Server:
    """gunicorn with the service, and what it left behind."""

    def __init__(self, folder: Path, processes: Processes, *, preload: bool) -> None:
        self.data, self.told, self.port = folder / "log", folder / "told", free_port()
        self.told.mkdir()
        arguments = ["--workers", str(WORKERS), "--bind", f"{HOST}:{self.port}", "--log-level", "error"]
        self.master: Child = processes.start(
            "gunicorn",
            ["gunicorn", *arguments, *(["--preload"] if preload else []), "tests.support.wsgi_service:application"],
            {"COMET_DATA_DIR": str(self.data), TOLD_VARIABLE: str(self.told)},
        )
        wait_until(lambda: answers(self.port, "/"), "gunicorn", self.master)

    def workers(self) -> list[int]:
        """Process ids of the workers that live now."""
        return [
            int(pid) for pid in Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children").read_text().split()
        ]

    def request(self) -> int | None:
        """Make a request and return who answered it; None if its worker died over it."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.request("GET", "/")
            return int(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def kill_one(self, chance: random.Random) -> None:
        """Kill a worker, and wait until there is another."""
        workers = self.workers()
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
        wait_until(lambda: len(set(self.workers()) - set(workers)) > 0, "new worker", self.master)

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """Shard, span id and process id of every span in the log."""
        for shard, entries in stored.entries(self.data, TRACES).items():
            for entry in entries:
                for group in ExportTraceServiceRequest.FromString(entry).resource_spans:
                    for span in (span for scope in group.scope_spans for span in scope.spans):
                        pid = next(item.value.int_value for item in span.attributes if item.key == "pid")
                        yield shard, int.from_bytes(span.span_id, "big"), pid


@pytest.fixture(params=[False, True], ids=["workers import", "preload"])
def server(tmp_path, request) -> Iterator[Server]:
    """Return a server whose processes end with the test."""
    with Processes(tmp_path) as processes:
        yield Server(tmp_path, processes, preload=request.param)


def test_workers_that_are_killed_lose_no_span_that_ended(server, capsys) -> None:
    """All clients ask while workers die; what the workers told is in the log once, and each worker's in one lane."""
    chance = random.Random(1)
    lock = threading.Lock()
    answered = Counter[int]()
    left = REQUESTS

    def ask() -> None:
        nonlocal left
        while True:
            with lock:
                if left <= 0:
                    return
                left -= 1
            pid = server.request()
            if pid is not None:
                with lock:
                    answered[pid] += 1

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    kills = 0
    while any(thread.is_alive() for thread in threads):
        if REQUESTS - left >= KILL_EVERY * (kills + 1):
            server.kill_one(chance)
            kills += 1
        time.sleep(0.002)
    for thread in threads:
        thread.join()
    assert server.master.stop() == 0

    told = ids_told(server.told)
    found = list(server.spans())
    assert len(told) >= 2 * answered.total() > 0
    assert not set(told) - {span_id for _, span_id, _ in found}
    assert Counter(span_id for _, span_id, _ in found).most_common(1)[0][1] == 1
    lanes = defaultdict(set)
    for shard, _, pid in found:
        lanes[pid].add(shard)
    assert all(len(shards) == 1 for shards in lanes.values())
    with capsys.disabled():
        print(
            f"\ngunicorn: {REQUESTS} requests, {answered.total()} answered by {len(answered)} workers, {kills} killed; "
            f"{len(told)} spans ended, {len(found)} stored, lost 0, doubled 0, lanes {len({s for s, _, _ in found})}"
        )


@pytest.mark.parametrize("server", [True], ids=["preload"], indirect=True)
def test_nothing_grows_with_the_restarts_of_workers(server, capsys) -> None:
    """Neither the master's descriptors, nor a worker's, nor the shards of the log; each worker has one to itself."""
    chance = random.Random(2)

    def serve_all() -> None:
        seen: set[int | None] = set()

        def all_answered() -> bool:
            seen.add(server.request())
            workers = set(server.workers())
            return len(workers) == WORKERS and workers <= seen

        wait_until(all_answered, "every worker", server.master)

    def descriptors(pid: int) -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    serve_all()
    before = descriptors(server.master.pid), max(map(descriptors, server.workers()))
    shards = len(stored.entries(server.data, TRACES))
    for restart in range(RESTARTS):
        server.kill_one(chance)
        if restart % 5 == 0:
            serve_all()
    serve_all()
    after = descriptors(server.master.pid), max(map(descriptors, server.workers()))
    workers = set(server.workers())
    lanes_of_workers = {(pid, shard) for shard, _, pid in server.spans() if pid in workers}
    assert len({shard for _, shard in lanes_of_workers}) == len(lanes_of_workers) == WORKERS
    lanes = len(stored.entries(server.data, TRACES))
    with capsys.disabled():
        print(f"\ngunicorn: {RESTARTS} restarts; descriptors {before} -> {after}, lanes {shards} -> {lanes}")
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 4  # a segment may be prepared, or an old one wait to be finished
    assert lanes <= shards + 1
    assert server.master.stop() == 0
