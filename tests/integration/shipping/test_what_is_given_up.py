"""Requests that a destination never takes: found among thousands, kept byte for byte, and nothing else with them."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_otel.streams import Signal
from comet_storage import Client, CometConfig, RetentionConfig
from shipper.delivery.dead_letters import STREAM, DeadLetter, DeadLetters, decode
from shipper.endpoint import parse_endpoint
from shipper.sending.http_sender import HttpSender
from shipper.settings import SignalConfig
from tests.support.delivery import GROUP, destination, drain, span_names, span_request
from tests.support.faulty_http import FaultyServer, answer, faulty_server

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
SHARDS = 4
KIB = 1024


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    """Run a server for one test."""
    with faulty_server() as running:
        yield running


@pytest.fixture
def sender(server) -> Iterator[HttpSender]:
    """Return a sender to it."""
    endpoint = parse_endpoint(f"http://127.0.0.1:{server.port}")
    made = HttpSender(SignalConfig(signal=Signal.TRACES, endpoint=endpoint, protocol="http/protobuf"))
    yield made
    made.close()


def refusing(server: FaultyServer, status: int, wrong) -> None:
    """Have a server refuse what is wrong, and take note of the rest."""

    def behave(connection: socket.socket, body: bytes) -> bool:
        if wrong(body):
            return answer(status, b"")(connection, body)
        server.taken.append(body)
        return answer()(connection, body)

    server.otherwise = behave
    server.taken.clear()


def delivered(server: FaultyServer, wrong) -> list[str]:
    """Return the names of the spans that it took."""
    return span_names([body for body in server.taken if not wrong(body)])


def letters(client: Client) -> list[DeadLetter]:
    """Return all dead letters."""
    return [decode(message.data) for message in client.list_recent(STREAM, 100_000)]


def test_a_poison_request_in_the_middle_of_ten_thousand(server, sender, tmp_path) -> None:
    """Everything else arrives, in order per shard; the poison is kept byte for byte."""
    poison = span_request("poison", padding=100)

    def wrong(body: bytes) -> bool:
        return "poison" in span_names([body])

    refusing(server, 400, wrong)
    names: dict[int, list[str]] = {shard: [] for shard in range(SHARDS)}
    with Client(tmp_path / "log") as client:
        for number in range(10_000):
            shard = number % SHARDS
            name = f"span {number}"
            if number == 5_000:
                client.append(f"traces:v1:shard:{shard:04d}", [poison])
            else:
                names[shard].append(name)
                client.append(f"traces:v1:shard:{shard:04d}", [span_request(name)])
        drain(client, sender, destination(max_request_bytes=100_000))
        arrived = [name for body in unique(server.taken) if not wrong(body) for name in span_names([body])]
        for shard in range(SHARDS):
            assert [name for name in arrived if int(name.split()[1]) % SHARDS == shard] == names[shard]
        (letter,) = letters(client)
        assert letter.body == poison
        assert (letter.shard, letter.code, letter.reason) == (0, "HTTP 400", "rejected")
        total = client.accounting("traces:v1", GROUP)
        assert (total.delivered, total.rejected, total.pending) == (9_999, 1, 0)


def unique(bodies: list[bytes]) -> list[bytes]:
    """Return each body once: the server takes note of a success twice."""
    return list(dict.fromkeys(bodies))


def test_a_server_that_takes_64_kib_and_entries_of_4_mib(server, sender, tmp_path) -> None:
    """Everything that fits alone arrives; the rest is put aside with its reason."""

    def wrong(body: bytes) -> bool:
        return len(body) > 64 * KIB

    refusing(server, 413, wrong)
    small = [f"small {number}" for number in range(4000)]
    huge = [span_request(f"huge {number}", padding=100 * KIB) for number in range(30)]
    entry = span_request(*small[:2000], padding=KIB) + b"".join(huge) + span_request(*small[2000:], padding=KIB)
    with Client(tmp_path / "log") as client:
        client.append("traces:v1:shard:0000", [entry, span_request("last")])
        drain(client, sender, destination())
        arrived = [name for body in unique(server.taken) if not wrong(body) for name in span_names([body])]
        assert arrived == [*small, "last"]
        found = letters(client)
        assert [letter.body for letter in found] == huge
        assert {(letter.reason, letter.code, letter.items) for letter in found} == {("too large", "HTTP 413", 1)}
        total = client.accounting("traces:v1", GROUP)
        assert (total.delivered, total.rejected, total.pending) == (1, 1, 0)


def test_killed_between_storing_a_letter_and_rejecting_its_entry(server, tmp_path) -> None:
    """The next process sends the entry again, and stores no second letter."""
    poison = span_request("poison")
    refusing(server, 400, lambda body: "poison" in span_names([body]))
    with Client(tmp_path / "log") as client:
        client.append("traces:v1:shard:0000", [span_request("a"), poison, span_request("b")])
    for how, code in (("die-before-rejecting", -signal.SIGKILL), ("die-before-rejecting", -signal.SIGKILL), ("", 0)):
        command = [sys.executable, "-m", "tests.integration.shipping.shipping_child"]
        done = subprocess.run(
            [*command, str(tmp_path / "log"), str(server.port), how or "drain"], cwd=ROOT, check=False, timeout=60
        )
        assert done.returncode == code
        with Client(tmp_path / "log") as client:
            assert [letter.body for letter in letters(client)] == [poison]
    with Client(tmp_path / "log") as client:
        total = client.accounting("traces:v1", GROUP)
        assert (total.delivered, total.rejected, total.pending) == (2, 1, 0)


def test_dead_letters_stay_within_their_share_of_the_log(tmp_path) -> None:
    """The oldest go first; what the log is for is not touched."""
    config = CometConfig(retention=RetentionConfig(max_total_size=256 * 2**20))
    share = 2 * 2**20
    with Client(tmp_path / "log", config) as client:
        client.append("traces:v1:shard:0000", [span_request("kept")])
        store = DeadLetters(client, share)
        for number in range(100):
            store.store(
                DeadLetter(
                    destination="remote",
                    signal="traces",
                    stream="traces:v1",
                    shard=0,
                    first_entry=number,
                    last_entry=number,
                    reason="rejected",
                    code="HTTP 400",
                    message="",
                    attempts=1,
                    first_try=1.0,
                    last_try=2.0,
                    items=1,
                    request_id=f"id {number}",
                    body=random.Random(number).randbytes(200_000),
                )
            )
        found = letters(client)
        assert sum(len(letter.body) for letter in found) <= share
        assert [letter.first_entry for letter in found] == list(range(found[0].first_entry, 100))
        assert len(found) > 3
        assert client.len("traces:v1") == 1
