"""Tries the destinations of a configuration: name, connection, TLS, and an OTLP request without any telemetry in it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from comet_otel.streams import route_of_signal
from shipper.outcome import Delivered, Partial
from shipper.sending.protocol import create_sender
from shipper.settings import DestinationConfig, ShipperConfig, SignalConfig, proxy_without_password

REQUEST_ID = "check"


@dataclass(frozen=True)
class Finding:
    """What came of one step.

    Attributes:
        destination: the destination's name.
        signal: the signal; empty for steps that concern all signals of an endpoint.
        step: what was tried.
        good: whether it worked.
        text: what was found.
    """

    destination: str
    signal: str
    step: str
    good: bool
    text: str


def try_destinations(config: ShipperConfig) -> Iterator[Finding]:
    """Try every destination; steps that an earlier failure makes pointless are left out."""
    for destination in config.destinations:
        tried: dict[object, bool] = {}
        for signal in destination.signals:
            way = (signal.endpoint.host, signal.endpoint.port, signal.endpoint.secure, signal.proxy, signal.tls)
            if way not in tried:
                tried[way] = True
                for finding in _try_connection(destination, signal):
                    tried[way] = tried[way] and finding.good
                    yield finding
            if tried[way]:
                yield _try_request(destination, signal)


class _Steps:
    """Makes the findings of one destination."""

    def __init__(self, destination: str, signal: str = "", suffix: str = "") -> None:
        self._names = (destination, signal)
        self._suffix = suffix
        self._begin = time.monotonic()

    def good(self, step: str, text: str) -> Finding:
        begin, self._begin = self._begin, time.monotonic()
        took = f"{(self._begin - begin) * 1000:.0f} ms"
        return Finding(*self._names, step, good=True, text=f"{text}{self._suffix} ({took})")

    def bad(self, step: str, text: str) -> Finding:
        return Finding(*self._names, step, good=False, text=f"{text}{self._suffix}")


def _try_connection(destination: DestinationConfig, signal: SignalConfig) -> Iterator[Finding]:
    host, port, secure = signal.endpoint.host, signal.endpoint.port, signal.endpoint.secure
    suffix = ""
    if signal.proxy is not None and signal.protocol != "grpc":
        parts = urlsplit(signal.proxy)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        secure = False  # what the proxy leads to is tried by the request
        suffix = f" (proxy {proxy_without_password(signal.proxy)})"
    steps = _Steps(destination.name, suffix=suffix)
    if signal.endpoint.unix:
        return  # there is nothing between here and there that could be told apart
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        yield steps.bad("name", f"{host} is not known: {error}")
        return
    yield steps.good("name", f"{host} is {', '.join(dict.fromkeys(str(entry[4][0]) for entry in found))}")
    try:
        connection = socket.create_connection((host, port), timeout=signal.timeout)
    except OSError as error:
        yield steps.bad("connection", f"{host}:{port} cannot be reached: {error.strerror or error}")
        return
    with connection:
        yield steps.good("connection", f"{host}:{port} accepts connections")
        if secure:
            yield _try_tls(connection, signal, steps)


def _try_tls(connection: socket.socket, signal: SignalConfig, steps: _Steps) -> Finding:
    try:
        context = ssl.create_default_context(cafile=signal.tls.certificate)
        if signal.tls.client_certificate and signal.tls.client_key:
            context.load_cert_chain(signal.tls.client_certificate, signal.tls.client_key)
        if signal.protocol == "grpc":
            context.set_alpn_protocols(["h2"])
        with context.wrap_socket(connection, server_hostname=signal.endpoint.host) as secured:
            certificate = secured.getpeercert() or {}
            until = certificate.get("notAfter", "unknown")
            return steps.good("TLS", f"{secured.version()}, certificate valid until {until}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error
        return steps.bad("TLS", f"{signal.endpoint} cannot be trusted: {reason}")


def _try_request(destination: DestinationConfig, signal: SignalConfig) -> Finding:
    name = signal.signal.value
    steps = _Steps(destination.name, name)
    sender = create_sender(signal)
    try:
        outcome = sender.send(route_of_signal(signal.signal), b"", REQUEST_ID)
    finally:
        with contextlib.suppress(OSError):
            sender.close()
    if isinstance(outcome, Delivered | Partial):
        return steps.good("request", f"{signal.endpoint} takes {name} by {signal.protocol}")
    answer = f"{outcome.code}: {outcome.message}" if outcome.message else outcome.code
    return steps.bad("request", f"{signal.endpoint} does not take {name} by {signal.protocol}: {answer}")
