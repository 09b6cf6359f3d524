"""Where a collector is: the endpoint URL, as the OTLP specification reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PORT_MAX: Final = 65535
_UNIX: Final = "unix:"


@dataclass(frozen=True)
class Endpoint:
    """One destination.

    Attributes:
        host: name or address; an IPv6 address without its brackets; of a Unix socket its path.
        port: TCP port; 0 for a Unix socket.
        path: path of the base URL, with a leading and without a trailing slash, or empty; or, of an endpoint that is
            used as it is, its whole path. OTLP/gRPC has no use for it.
        secure: whether TLS is spoken.
    """

    host: str
    port: int
    path: str
    secure: bool

    @property
    def unix(self) -> bool:
        """Whether it is a Unix socket, which OTLP/gRPC alone can use."""
        return self.port == 0

    @property
    def target(self) -> str:
        """Host and port, or a Unix socket, as gRPC names a destination."""
        if self.unix:
            return f"{_UNIX}{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def http_url(self, signal_path: str) -> str:
        """Return the URL of a signal, whose path (``v1/traces``) is appended to the base URL."""
        return f"{'https' if self.secure else 'http'}://{self.target}{self.path}/{signal_path}"

    def __str__(self) -> str:
        if self.unix:
            return self.target
        return f"{'https' if self.secure else 'http'}://{self.target}{self.path}"


def parse_endpoint(text: str, *, insecure: bool = False, keep_path: bool = False) -> Endpoint:
    """Read an endpoint: a URL with ``http`` or ``https``, a bare ``host:port``, or ``unix:`` and the path of a socket.

    Args:
        text: the endpoint.
        insecure: for an endpoint without scheme, that TLS is not to be spoken; a scheme decides for itself.
        keep_path: the path is used as it is; an empty one is ``/``.

    Raises:
        ValueError: it is not an endpoint; the message is the rule that it breaks.
    """
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX).removeprefix("//")
        if not path.startswith("/"):
            raise ValueError("a Unix socket must be named with its whole path, such as unix:///run/collector.sock")
        return Endpoint(path, 0, "", secure=False)
    has_scheme = "://" in text
    parts = urlsplit(text if has_scheme else f"//{text}")
    if has_scheme and parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("the scheme must be http or https")
    if not parts.hostname or any(c.isspace() for c in text):
        raise ValueError("it must be a URL such as http://collector:4317, or host:port")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("it must have no user, query or fragment; credentials go into --header")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"the port must be a number from 1 to {_PORT_MAX}")
    secure = parts.scheme == "https" if has_scheme else not insecure
    default_port = _DEFAULT_PORTS["https" if secure else "http"]
    path = (parts.path or "/") if keep_path else parts.path.rstrip("/")
    return Endpoint(parts.hostname, port or default_port, path, secure)
