"""A process that drains a log to an HTTP server; told to, it dies between the two steps of a rejection."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from comet_otel.streams import Signal
from comet_storage import Client, Consumer
from shipper.endpoint import parse_endpoint
from shipper.sending.protocol import create_sender
from shipper.settings import SignalConfig
from tests.support.delivery import destination, drain


def die(*_: object, **__: object) -> NoReturn:
    """End as by ``kill -9``."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def main(directory: str, port: str, how: str) -> None:
    """Drain."""
    if how == "die-before-rejecting":
        Consumer.reject = die  # type: ignore[method-assign]
    endpoint = parse_endpoint(f"http://127.0.0.1:{port}")
    sender = create_sender(SignalConfig(signal=Signal.TRACES, endpoint=endpoint, protocol="http/protobuf"))
    with Client(Path(directory)) as client:
        drain(client, sender, destination(max_request_bytes=100_000))
    sender.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
