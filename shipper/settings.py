"""What the shipper works with: frozen values, already validated, in which every default is resolved.

Nothing here reads a file or a variable; `shipper.configuration` does. Equal values mean the same behaviour, which is
how a reload finds out which destinations go on undisturbed. No representation shows a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from comet_otel.streams import Signal
from shipper.endpoint import Endpoint

Protocol: TypeAlias = Literal["grpc", "http/protobuf"]
Compression: TypeAlias = Literal["gzip", "none"]
Order: TypeAlias = Literal["oldest-first", "fresh-first"]
LogFormat: TypeAlias = Literal["auto", "text", "json"]

PROTOCOLS: Final = ("grpc", "http/protobuf")
COMPRESSIONS: Final = ("gzip", "none")
ORDERS: Final = ("oldest-first", "fresh-first")
LOG_FORMATS: Final = ("auto", "text", "json")

MAX_REQUEST_BYTES_DEFAULT: Final = 4 * 1024 * 1024 - 64 * 1024
"""Just under the 4 MiB that a gRPC server takes unless told otherwise."""

TIMEOUT_DEFAULT: Final = 10.0
SHUTDOWN_TIMEOUT_DEFAULT: Final = 5.0
DEAD_LETTER_SHARE_DEFAULT: Final = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class TLSConfig:
    """Whom to trust and how to prove who one is; all PEM files, which are read again when they change.

    Attributes:
        certificate: authorities to trust instead of the system's.
        client_certificate: the shipper's own certificate, with its chain.
        client_key: the private key of that.
    """

    certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SignalConfig:
    """How one signal of a destination is sent.

    Attributes:
        signal: the signal.
        endpoint: where to.
        protocol: ``grpc`` or ``http/protobuf``.
        headers: names and values sent with every request.
        compression: ``gzip`` or ``none``.
        compression_level: of gzip, 0 (fast) to 3 (small), as `isal` counts.
        timeout: seconds that one request may take.
        tls: certificates.
        bearer_token_file: a file whose content is sent as ``Authorization: Bearer``; read again when it changes.
        proxy: URL of the HTTP proxy to go through; None for a direct connection.
        http_path_is_complete: the endpoint's path is used as it is, without ``v1/traces`` and the like behind it.
    """

    signal: Signal
    endpoint: Endpoint
    protocol: Protocol = "grpc"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    compression: Compression = "gzip"
    compression_level: int = 1
    timeout: float = TIMEOUT_DEFAULT
    tls: TLSConfig = field(default_factory=TLSConfig)
    bearer_token_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)
    http_path_is_complete: bool = False


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """How long to wait between tries, and what an answer means where a destination uses it in its own way.

    Attributes:
        first: seconds of the first pause after a success.
        longest: seconds that pauses grow to while the destination cannot be reached.
        pause_longest: seconds that they grow to where waiting alone does not help (wrong credentials, wrong path).
        overrides: pairs of an answer (``HTTP 500``, ``INTERNAL``) and its meaning: ``retry``, ``pause``, ``split`` or
            ``reject``.
    """

    first: float = 0.5
    longest: float = 30.0
    pause_longest: float = 300.0
    overrides: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class PacingConfig:
    """How fast a destination is fed.

    Attributes:
        max_bytes_per_second: of request bodies before compression, over all signals; None for no limit.
        max_requests_per_second: over all signals; None for no limit.
        slow_start: begin slowly after an outage.
    """

    max_bytes_per_second: int | None = None
    max_requests_per_second: float | None = None
    slow_start: bool = True


@dataclass(frozen=True, kw_only=True)
class DestinationConfig:
    """One place that everything goes to, independent of the others.

    Attributes:
        name: its name in log lines, metrics and the status.
        group: the consumer group in whose name the log is read; destinations never share one.
        signals: how each signal is sent; signals that are not there are not sent.
        streams: the streams to send and the signal that each holds; none for the standard stream of each signal.
        max_request_bytes: entries are joined up to this size, before compression.
        max_request_wait: seconds that a small request waits for more.
        window: requests in flight at once, across shards.
        ordered: at most one request in flight per shard.
        order: ``oldest-first``, or ``fresh-first``: what is exported now goes before the backlog.
        retry: pauses, and meanings of answers.
        pacing: limits of speed.
        max_lag_bytes: stored bytes of a stream that the destination may lag behind before it stops protecting them.
        max_lag_age: seconds that the oldest of them may be old.
        dead_letters: keep what the destination refuses for good in ``deadletter:v1``.
    """

    name: str
    group: str
    signals: tuple[SignalConfig, ...]
    streams: tuple[tuple[str, Signal], ...] = ()
    max_request_bytes: int = MAX_REQUEST_BYTES_DEFAULT
    max_request_wait: float = 0.2
    window: int = 4
    ordered: bool = True
    order: Order = "oldest-first"
    retry: RetryConfig = field(default_factory=RetryConfig)
    pacing: PacingConfig = field(default_factory=PacingConfig)
    max_lag_bytes: int | None = None
    max_lag_age: float | None = None
    dead_letters: bool = True


@dataclass(frozen=True, kw_only=True)
class ShipperConfig:
    """Everything that a running shipper is told.

    Attributes:
        data_dir: directory of the log.
        destinations: where the log goes to.
        listen: host and port of health, readiness and metrics; None for no such port.
        shutdown_timeout: seconds that requests in flight may take to finish after the order to stop.
        assignment: ``(id, total)``: only shards whose number modulo ``total`` is ``id``; None for all.
        once: end when everything that is in the log has been delivered.
        log_format: ``text``, ``json``, or ``auto``: text on a terminal.
        dead_letter_share: bytes of the log that ``deadletter:v1`` may take.
    """

    data_dir: Path
    destinations: tuple[DestinationConfig, ...]
    listen: tuple[str, int] | None = None
    shutdown_timeout: float = SHUTDOWN_TIMEOUT_DEFAULT
    assignment: tuple[int, int] | None = None
    once: bool = False
    log_format: LogFormat = "auto"
    dead_letter_share: int = DEAD_LETTER_SHARE_DEFAULT


def proxy_without_password(proxy: str) -> str:
    """Return a proxy's URL as it may be shown."""
    parts = urlsplit(proxy)
    return parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}").geturl() if "@" in parts.netloc else proxy
