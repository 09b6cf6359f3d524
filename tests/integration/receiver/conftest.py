"""A receiver over a log of its own, in this process, on ports that the system chooses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from comet_otel.receiver import OTLPReceiver, ReceiverConfig
from comet_storage import Client, CometConfig


class Node:
    """A log and the receiver that fills it."""

    def __init__(self, client: Client, receiver: OTLPReceiver) -> None:
        """Take both."""
        self.client = client
        self.receiver = receiver
        self._seen: dict[str, int] = {}

    @property
    def http(self) -> str:
        """Where OTLP/HTTP is served."""
        assert self.receiver.http_endpoint is not None
        return self.receiver.http_endpoint

    @property
    def grpc(self) -> str:
        """Where OTLP/gRPC is served."""
        assert self.receiver.grpc_endpoint is not None
        return self.receiver.grpc_endpoint

    def forget(self) -> None:
        """Let `stored` return only what comes from now on."""
        self._seen = {stream: self.client.len(stream) for stream in self.client.streams()}

    def stored(self, stream: str = "traces:v1") -> list[bytes]:
        """Return the entries of a stream."""
        return [message.data for message in self.client.list_recent(stream, 100_000)][self._seen.get(stream, 0) :]


def _start(
    stack: ExitStack,
    folder: Path,
    *,
    log: CometConfig | None = None,
    grpc_endpoint: str | None = "127.0.0.1:0",
    http_endpoint: str | None = "127.0.0.1:0",
    **settings: Any,
) -> Node:
    client = stack.enter_context(Client(folder, log))
    receiver = OTLPReceiver(client, grpc_endpoint, http_endpoint, config=ReceiverConfig(**settings))
    return Node(client, stack.enter_context(receiver))


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Node]]:
    """Return a function that starts a receiver with some settings over a new log."""
    numbers = itertools.count()
    with ExitStack() as stack:
        yield lambda **settings: _start(stack, tmp_path / f"log-{next(numbers)}", **settings)


@pytest.fixture(scope="module")
def _shared(tmp_path_factory) -> Iterator[Node]:
    with ExitStack() as stack:
        yield _start(stack, tmp_path_factory.mktemp("shared") / "log")


@pytest.fixture
def node(_shared) -> Node:
    """Return a log and a receiver with the defaults, which the tests of a module share."""
    _shared.forget()
    return _shared
