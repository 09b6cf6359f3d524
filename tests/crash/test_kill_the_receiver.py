"""Is every request that the receiver acknowledged in the log, whenever it is killed?"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from comet_storage import Client
from demo.processes import HOST, Processes, free_port, listens, wait_until
from tests.support.otlp_requests import PROTOBUF, TRACES_METHOD, trace_request

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow]

KILLS = 50 if os.environ.get("COMET_CRASH_FULL") else 3
SENDERS = 3
"""Threads for each protocol, each with a connection of its own."""


class Load:
    """Sends requests of many sizes by both protocols, until it is told to stop, and keeps what was acknowledged."""

    def __init__(self, grpc_port: int, http_port: int, seed: int) -> None:
        """Begin."""
        self.acknowledged: list[bytes] = []
        self.sent = 0
        self._stop = threading.Event()
        self._grpc_port, self._http_port = grpc_port, http_port
        self._threads = [
            threading.Thread(target=self._run, args=(send, random.Random(f"{seed} {number} {send.__name__}")))
            for number in range(SENDERS)
            for send in (self._by_grpc, self._by_http)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop, and wait for all threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, sending, chance: random.Random) -> None:
        with sending() as send:
            while not self._stop.is_set():
                size = chance.choice((1, 1, 1, 20, 500))
                body = trace_request(size, padding=chance.choice((0, 0, 2000)))
                self.sent += 1
                if not send(body):
                    return  # the receiver is dead
                self.acknowledged.append(body)

    @contextlib.contextmanager
    def _by_grpc(self) -> Iterator:
        with grpc.insecure_channel(f"{HOST}:{self._grpc_port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            method = channel.unary_unary(TRACES_METHOD)

            def send(body: bytes) -> bool:
                try:
                    return method(body, timeout=60) == b""
                except grpc.RpcError:
                    return False

            yield send

    @contextlib.contextmanager
    def _by_http(self) -> Iterator:
        connection = http.client.HTTPConnection(HOST, self._http_port, timeout=60)

        def send(body: bytes) -> bool:
            try:
                connection.request("POST", "/v1/traces", body, {"content-type": PROTOBUF})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                return False
            return response.status == 200

        yield send
        connection.close()


def test_what_was_acknowledged_is_in_the_log_after_each_kill(tmp_path, capsys) -> None:
    """Kill -9 at random instants under load, on one log: each acknowledged request is there, unchanged, each time."""
    data, chance = tmp_path / "log", random.Random(6)
    acknowledged: list[bytes] = []
    sent = 0
    with Processes(tmp_path) as processes:
        for kill in range(KILLS):
            grpc_port, http_port = free_port(), free_port()
            arguments = ("--grpc-endpoint", f"{HOST}:{grpc_port}", "--http-endpoint", f"{HOST}:{http_port}")
            receiver = processes.start("receiver", ["comet_otel.receiver", "--data-dir", str(data), *arguments])
            wait_until(lambda: listens(grpc_port) and listens(http_port), "receiver", receiver)  # noqa: B023 - used at once
            load = Load(grpc_port, http_port, kill)
            wait_until(lambda: len(load.acknowledged) > SENDERS, "first answers", receiver)  # noqa: B023 - as above
            time.sleep(chance.uniform(0, 0.5))  # the instant of the kill, which nothing is to announce
            receiver.kill()
            load.stop()
            acknowledged += load.acknowledged
            sent += load.sent
    with Client(data) as client:
        shards = client.shards("traces:v1")
        found = {m.data for shard in shards for m in client.scan(f"traces:v1:shard:{shard:04d}")}
    assert [body for body in acknowledged if body not in found] == []
    assert sent > len(acknowledged) > KILLS * SENDERS
    with capsys.disabled():
        print(f"\nkilled receivers: {KILLS} kills, {sent} requests sent, {len(acknowledged)} acknowledged, none lost")
