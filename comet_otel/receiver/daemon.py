"""The receiver as a process: opens the log, serves until a signal comes, and opens the log anew where it must."""

from __future__ import annotations

import contextlib
import logging
import resource
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from comet_otel.config import ExporterConfig
from comet_otel.receiver.config import ReceiverConfig
from comet_otel.receiver.receiver import OTLPReceiver
from comet_storage import Client, CompressionConfig

__all__ = ["COMPRESSION_LEVEL", "serve"]

COMPRESSION_LEVEL: Final = CompressionConfig().level
"""The log's own default: what an outage can last is worth more than the time that a negative level saves."""

LOOK_SECONDS: Final = 1.0
"""How soon it is noticed that the log was moved or removed."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_DESCRIPTORS_KEPT: Final = 128
"""Descriptors that are kept for the log, the sockets that listen, and the interpreter."""

_logger = logging.getLogger(__name__)


def serve(log: ExporterConfig, config: ReceiverConfig, grace: float, compression_level: int) -> None:
    """Serve until SIGTERM or SIGINT, and then give requests ``grace`` seconds. What comes is compressed at the level.

    Raises:
        CometError: the log cannot be opened, or a setting is wrong.
        OSError: an endpoint cannot be had.
    """
    compression = replace(log.storage.compression, level=compression_level)
    log = replace(log, storage=replace(log.storage, compression=compression))
    config = replace(config, max_connections=_affordable_connections(config.max_connections))
    with _signals() as received:
        while not _serve_one_log(log, config, grace, received):
            _logger.warning("the log in %s is opened again", log.data_dir)
    _logger.info("stopped")


def _serve_one_log(log: ExporterConfig, config: ReceiverConfig, grace: float, received: socket.socket) -> bool:
    """Serve through one client; return whether a signal ended it, and not the client's own end."""
    with Client(log.data_dir, log.storage) as client:
        # Also while nothing comes in: what is in the log is to stay within its limits.
        client.start_maintenance()
        receiver = OTLPReceiver(client, config.grpc_endpoint, config.http_endpoint, config=config)
        receiver.start()
        _logger.info(
            "OTLP/gRPC at %s, OTLP/HTTP at %s, into %s", receiver.grpc_endpoint, receiver.http_endpoint, log.data_dir
        )
        try:
            while receiver.broken is None:
                if select.select([received], [], [], LOOK_SECONDS)[0]:
                    return True
            return False
        finally:
            receiver.stop(grace)


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """While entered, a socket becomes readable when one of the signals comes; nothing else happens then."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.settimeout(0)
        previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        previous = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(previous_fd)
            for number, handler in previous.items():
                signal.signal(number, handler)


def _affordable_connections(most: int) -> int:
    """Raise the limit of descriptors as far as this user may; return how many connections it allows each protocol."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * most + _DESCRIPTORS_KEPT
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(raised, soft), hard))
        soft = max(raised, soft)
    affordable = max(1, min(most, (soft - _DESCRIPTORS_KEPT) // 2))
    if affordable < most:
        _logger.warning("the limit of %d open files allows %d connections of each protocol", soft, affordable)
    return affordable
