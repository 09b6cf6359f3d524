"""A campaign: batches of requests by several clients at once, and after each batch a look at what is in the log.

The law: the entries that a batch adds to the log are those of its acknowledged requests, one each, and no others.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from comet_otel.streams import ROUTES
from comet_storage import Client, Consumer, shard_stream_name
from comet_storage.names import parse_stream
from demo.processes import HOST, Child, Processes, answers, free_port, listens, wait_until
from tests.fuzz.clients import Answer, GrpcClient, HttpClient, send_garbage
from tests.fuzz.requests import BODY_BYTES_MAX, FuzzedRequest, Mutator

BATCH: Final = 500
CLIENTS: Final = 4
GARBAGE_SHARE: Final = 0.004
GROUP: Final = "fuzz"
FULL: Final = frozenset({503, "UNAVAILABLE"})
"""The answers that a full log gives a reason for."""


@dataclass
class Result:
    """What a campaign found.

    Attributes:
        answers: how often each kind of request got each answer.
        violations: whatever broke the law, with the number of the request.
        resident: kilobytes of memory of the receiver after each batch.
        acknowledged: requests answered with success.
        refused_as_full: requests that a full log refused.
    """

    answers: Counter[tuple[str, str, int | str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    acknowledged: int = 0
    refused_as_full: int = 0


class Campaign:
    """One receiver and its clients.

    Args:
        folder: for the log and the receiver's output.
        processes: that start the receiver.
        seed: of all requests.
        small_log: bytes of the log, so small that it is full again and again; None: one with room for all.
    """

    def __init__(self, folder: Path, processes: Processes, seed: int, *, small_log: int | None = None) -> None:
        self.result = Result()
        self._mutator = Mutator(seed, large=small_log is None)
        self._seed = seed
        self._data = folder / "log"
        self._full_is_expected = small_log is not None
        self._seen: defaultdict[str, int] = defaultdict(int)
        self._ports = {"grpc": free_port(), "http": free_port()}
        self.receiver = self._start(processes, small_log)

    def _start(self, processes: Processes, small_log: int | None) -> Child:
        endpoints = {protocol: f"{HOST}:{port}" for protocol, port in self._ports.items()}
        if small_log is None:
            command = [
                *("comet_otel.receiver", "--data-dir", str(self._data), "--max-body-size", str(BODY_BYTES_MAX)),
                *("--grpc-endpoint", endpoints["grpc"], "--http-endpoint", endpoints["http"]),
            ]
        else:
            command = [
                *("tests.fuzz.receiver_child", str(self._data), endpoints["grpc"], endpoints["http"], str(small_log)),
            ]
        receiver = processes.start("receiver", command, {"COMET_MAX_TOTAL_SIZE": "2 GiB"})
        wait_until(
            lambda: answers(self._ports["http"], "/healthz") and listens(self._ports["grpc"]), "receiver", receiver
        )
        return receiver

    @contextlib.contextmanager
    def clients(self) -> Iterator[list[tuple[HttpClient, GrpcClient]]]:
        """While entered, there are some clients, each with a connection for either protocol."""
        with contextlib.ExitStack() as stack:
            yield [
                (
                    stack.enter_context(contextlib.closing(HttpClient(HOST, self._ports["http"]))),
                    stack.enter_context(contextlib.closing(GrpcClient(HOST, self._ports["grpc"]))),
                )
                for _ in range(CLIENTS)
            ]

    def run(self, requests: int, first: int = 0) -> Iterator[int]:
        """Send so many requests, and yield after each batch how many there were so far."""
        with contextlib.ExitStack() as stack:
            clients = stack.enter_context(self.clients())
            log = stack.enter_context(Client(self._data))
            consumers = [stack.enter_context(Consumer(log, GROUP, stream=route.stream)) for route in ROUTES]
            for start in range(first, first + requests, BATCH):
                numbers = range(start, min(start + BATCH, first + requests))
                exchanges = self.send(numbers, clients)
                refused_before = self.result.refused_as_full
                self.judge(exchanges, [*self._added(log)])
                if not self._full_is_expected or self.result.refused_as_full > refused_before:
                    self._make_room(log, consumers)
                self.result.resident.append(_resident_kilobytes(self.receiver.pid))
                yield numbers.stop - first
                if not self.receiver.alive():
                    self.result.violations.append(f"the receiver ended: {self.receiver.last_words()}")
                    return

    def _added(self, log: Client) -> Iterator[bytes]:
        """Yield every entry that came since the last look."""
        for route in ROUTES:
            for shard in log.shards(route.stream):
                stream = shard_stream_name(*parse_stream(route.stream), shard)
                for message in log.scan(stream, self._seen[stream]):
                    self._seen[stream] = message.id.entry_number + 1
                    yield bytes(message.data)

    def _make_room(self, log: Client, consumers: list[Consumer]) -> None:
        """Acknowledge for the group all that was looked at."""
        for consumer, route in zip(consumers, ROUTES, strict=True):
            for shard in log.shards(route.stream):
                end = self._seen[shard_stream_name(*parse_stream(route.stream), shard)]
                while consumer.lag(shard) and (messages := consumer.read(shards=[shard], count=5_000)):
                    consumer.ack(*[message.id for message in messages if message.id.entry_number < end])

    def send(self, numbers: range, clients: list[tuple[HttpClient, GrpcClient]]) -> list[tuple[FuzzedRequest, Answer]]:
        """Send requests, each client a part of them at the same time, and return the answers."""
        exchanges: list[tuple[FuzzedRequest, Answer]] = []
        failures: list[str] = []

        def work(which: int) -> None:
            http, grpc = clients[which]
            for number in numbers[which :: len(clients)]:
                try:
                    request = self._mutator.request(number)
                    exchanges.append((request, (http if request.protocol == "http" else grpc).send(request)))
                    choose = random.Random(f"{self._seed} garbage {number}")
                    if choose.random() < GARBAGE_SHARE:
                        send_garbage(HOST, choose.choice([*self._ports.values()]), choose)
                except Exception as error:
                    failures.append(f"request {number}: {type(error).__name__}: {error}")
                    http.close()

        threads = [threading.Thread(target=work, args=(which,)) for which in range(len(clients))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.result.violations += failures
        return exchanges

    def judge(self, exchanges: list[tuple[FuzzedRequest, Answer]], stored: list[bytes]) -> None:
        """Compare the answers with the entries that have come into the log, and note what breaks the law."""
        expected: Counter[bytes] = Counter()
        unforeseen = 0
        for request, answer in exchanges:
            kind = request.headers.get("Content-Type", "")[:30] if request.protocol == "http" else "protobuf"
            self.result.answers[request.protocol, kind, answer.code] += 1
            self.result.acknowledged += answer.acknowledged
            as_full = self._full_is_expected and answer.code in FULL
            self.result.refused_as_full += as_full
            if answer.broken and not as_full:
                self._violated(request, answer, "an answer that no request may have")
            if request.head_damage is not None or request.may_be_refused:
                unforeseen += answer.acknowledged or answer.code == 0  # without an answer it may be stored or not
            elif answer.acknowledged and request.expected is None:
                self._violated(request, answer, "acknowledged, but it is no request")
                unforeseen += 1
            elif answer.acknowledged:
                expected.update([request.expected] if request.expected else [])
            elif request.expected is not None and not as_full:
                self._violated(request, answer, "refused, but it is a request")
        found = Counter(stored)
        for entry in (expected - found).elements():
            self.result.violations.append(f"acknowledged, but not in the log: {entry[:80].hex()}")
        surplus = [*(found - expected).elements()]
        if len(surplus) > unforeseen:
            self.result.violations.append(
                f"{len(surplus)} entries in the log beside those that were acknowledged, {unforeseen} of unknown "
                f"content: {[entry[:80].hex() for entry in surplus[:3]]}; batch of {exchanges[0][0].number}"
            )

    def _violated(self, request: FuzzedRequest, answer: Answer, what: str) -> None:
        self.result.violations.append(
            f"request {request.number}: {what}: {request.protocol} {request.signal.value} {request.headers} "
            f"{len(request.body)} bytes -> {answer.code} {answer.text!r}"
        )


def _resident_kilobytes(pid: int) -> int:
    """What the process has of memory of its own; pages of mapped files are the kernel's to take back."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])
