"""The receiver's settings: frozen values, validated together before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from comet_otel.receiver.addresses import Address, parse_address
from comet_storage import ConfigError

__all__ = ["GRPC_ENDPOINT_DEFAULT", "HTTP_ENDPOINT_DEFAULT", "ReceiverConfig"]

GRPC_ENDPOINT_DEFAULT: Final = "127.0.0.1:4317"
HTTP_ENDPOINT_DEFAULT: Final = "127.0.0.1:4318"

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

_SECONDS_MAX: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class ReceiverConfig:
    """What the receiver works with. Sizes are bytes, durations seconds.

    Attributes:
        grpc_endpoint: ``HOST:PORT`` or ``unix:/PATH`` for OTLP/gRPC; None: not served.
        http_endpoint: the same for OTLP/HTTP, the health pages and the metrics.
        tls_certificate: PEM file with this server's certificate and those between it and the authority.
        tls_key: PEM file with its private key.
        client_authorities: PEM file; where given, a client must show a certificate that one of these signed.
        token_file: file with one bearer token a line; where given, a request must carry one of them.
        allow_insecure: listen without TLS also where other machines can connect.
        socket_mode: permissions of Unix domain sockets.
        max_body_bytes: most that a body may have, as it comes and decompressed.
        max_bytes_in_flight: most that the bodies of all requests may have together.
        max_concurrent_requests: complete requests that may wait to be stored or be stored at once.
        max_connections: connections of each protocol.
        max_header_bytes: most that a request's headers may have.
        header_timeout: within which the headers, and a TLS handshake, must be complete.
        body_timeout: within which the next piece of a body must come, and on top of which a body may take a second for
            each 16 KiB that it has.
        keep_alive_timeout: after which a connection without a request is closed.
        admission_timeout: how long a request waits for room in memory before it is told to come back.
        group_wait: how long a small request may wait for others to share its frame.
        duplicate_window: how long the request ids of ``comet-shipper`` are remembered; 0: not at all.
    """

    grpc_endpoint: str | None = GRPC_ENDPOINT_DEFAULT
    http_endpoint: str | None = HTTP_ENDPOINT_DEFAULT
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    client_authorities: Path | None = None
    token_file: Path | None = None
    allow_insecure: bool = False
    socket_mode: int = 0o600
    max_body_bytes: int = 64 * _MIB
    max_bytes_in_flight: int = 256 * _MIB
    max_concurrent_requests: int = 256
    max_connections: int = 4096
    max_header_bytes: int = 32 * _KIB
    header_timeout: float = 10.0
    body_timeout: float = 10.0
    keep_alive_timeout: float = 120.0
    admission_timeout: float = 5.0
    group_wait: float = 0.002
    duplicate_window: float = 600.0

    def grpc_address(self) -> Address | None:
        """Where OTLP/gRPC is served."""
        return None if self.grpc_endpoint is None else parse_address(self.grpc_endpoint)

    def http_address(self) -> Address | None:
        """Where OTLP/HTTP is served."""
        return None if self.http_endpoint is None else parse_address(self.http_endpoint)

    def validate(self) -> None:
        """Check every rule.

        Raises:
            ConfigError: naming every problem at once.
        """
        problems = [*self._problems()]
        if problems:
            raise ConfigError("; ".join(problems), problems)

    def _problems(self) -> Iterator[str]:
        if self.grpc_endpoint is None and self.http_endpoint is None:
            yield "grpc_endpoint and http_endpoint are both off: at least one must be served"
        for name in ("grpc_endpoint", "http_endpoint"):
            yield from self._endpoint_problems(name, getattr(self, name))
        if self.grpc_endpoint == self.http_endpoint and not (self.grpc_endpoint or ":0").endswith(":0"):
            yield f"http_endpoint is {self.http_endpoint!r}: must not be that of gRPC"
        if (self.tls_certificate is None) != (self.tls_key is None):
            yield "tls_certificate and tls_key: must be given together"
        if self.client_authorities is not None and self.tls_certificate is None:
            yield "client_authorities is given without tls_certificate: clients show certificates only over TLS"
        for name in ("tls_certificate", "tls_key", "client_authorities", "token_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                yield f"{name} is {str(path)!r}: must be a file"
        yield from self._range_problems()

    def _endpoint_problems(self, name: str, endpoint: str | None) -> Iterator[str]:
        if endpoint is None:
            return
        try:
            address = parse_address(endpoint)
        except ValueError as error:
            yield f"{name} is {endpoint!r}: {error}"
            return
        if self.tls_certificate is None and not self.allow_insecure and not address.is_local():
            yield (
                f"{name} is {endpoint!r}: other machines can connect there, so it must have tls_certificate and "
                "tls_key, or allow_insecure"
            )

    def _range_problems(self) -> Iterator[str]:
        if self.max_bytes_in_flight < self.max_body_bytes:
            yield f"max_bytes_in_flight is {self.max_bytes_in_flight}: must be max_body_bytes, {self.max_body_bytes}"
        for name in ("max_body_bytes", "max_concurrent_requests", "max_connections", "max_header_bytes"):
            if getattr(self, name) < 1:
                yield f"{name} is {getattr(self, name)}: must be positive"
        for name in ("header_timeout", "body_timeout", "keep_alive_timeout", "admission_timeout"):
            if not 0 < getattr(self, name) <= _SECONDS_MAX:
                yield f"{name} is {getattr(self, name)}: must be more than 0 and at most {_SECONDS_MAX:g} seconds"
        if not 0 <= self.group_wait <= 1:
            yield f"group_wait is {self.group_wait}: must be 0 to 1 seconds"
        if not 0 <= self.duplicate_window <= _SECONDS_MAX * 24:
            yield f"duplicate_window is {self.duplicate_window}: must be 0 to {_SECONDS_MAX * 24:g} seconds"
