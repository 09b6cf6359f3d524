"""The shipper's settings: frozen values, validated together before anything is touched."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from comet_storage import CometError
from comet_storage.names import parse_group
from shipper.endpoint import Endpoint, parse_endpoint
from shipper.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROTOCOLS: Final = ("grpc", "http/protobuf")
COMPRESSIONS: Final = ("gzip", "none")

MAX_REQUEST_BYTES_DEFAULT: Final = 4 * 1024 * 1024 - 64 * 1024
"""Just under the 4 MiB that a gRPC server takes unless told otherwise."""

TIMEOUT_DEFAULT: Final = 10.0
RETRY_MAX_DEFAULT: Final = 30.0
RETRY_FIRST: Final = 0.5
"""Seconds of the first pause after a failure."""

PAUSE_MAX: Final = 300.0
"""Seconds that pauses grow to where the collector said that waiting alone does not help."""

SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds that a request in flight may take to finish after the order to stop."""

_MAX_REQUEST_BYTES_RANGE: Final = (1024, 64 * 1024 * 1024)
_SECONDS_RANGE: Final = (0.1, 3600.0)
_HEADER_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was given on the command line; None where nothing was."""

    data_dir: Path | None = None
    endpoint: str | None = None
    protocol: str | None = None
    compression: str | None = None
    headers: tuple[str, ...] = ()
    certificate: Path | None = None
    insecure: bool = False
    max_request_bytes: int = MAX_REQUEST_BYTES_DEFAULT
    timeout: float | None = None
    retry_max: float = RETRY_MAX_DEFAULT
    group: str = "shipper"
    once: bool = False


@dataclass(frozen=True, kw_only=True)
class ShipperConfig:
    """What the daemon works with.

    Attributes:
        data_dir: directory of the log.
        endpoint: the collector.
        protocol: ``grpc`` or ``http/protobuf``.
        compression: ``gzip`` or ``none``.
        headers: names and values sent with every request. They hold secrets and are left out of representations.
        certificate: PEM file of the authorities to trust instead of the system's.
        max_request_bytes: bytes up to which entries are joined to one request, before compression.
        timeout: seconds that one request may take.
        retry_max: seconds that pauses between tries grow to while the collector cannot be reached.
        group: consumer group in whose name the log is read.
        once: end when everything that is in the log has been delivered.
    """

    data_dir: Path
    endpoint: Endpoint
    protocol: str
    compression: str
    headers: tuple[tuple[str, str], ...]
    certificate: Path | None
    max_request_bytes: int
    timeout: float
    retry_max: float
    group: str
    once: bool

    def __repr__(self) -> str:
        return f"ShipperConfig({self.data_dir} -> {self.endpoint} by {self.protocol}, group {self.group})"


def load_config(options: Options, environment: Mapping[str, str]) -> ShipperConfig:
    """Combine options with ``OTEL_EXPORTER_OTLP_*`` and ``COMET_DATA_DIR``; an option wins over its variable.

    Raises:
        ConfigurationError: naming every wrong option or variable, its value and the rule.
    """
    reader = _Reader(environment)
    data_dir = options.data_dir or reader.path("COMET_DATA_DIR")
    if data_dir is None:
        reader.problem("--data-dir", "is not given: say where the log is, or set COMET_DATA_DIR")
    protocol = reader.choice(options.protocol, "--protocol", "OTEL_EXPORTER_OTLP_PROTOCOL", PROTOCOLS)
    compression = reader.choice(options.compression, "--compression", "OTEL_EXPORTER_OTLP_COMPRESSION", COMPRESSIONS)
    endpoint = reader.endpoint(options.endpoint, insecure=options.insecure)
    certificate = reader.certificate(options.certificate)
    headers = reader.headers(options.headers)
    timeout = reader.timeout(options.timeout)
    reader.in_range("--max-request-bytes", options.max_request_bytes, _MAX_REQUEST_BYTES_RANGE, "bytes")
    reader.in_range("--retry-max", options.retry_max, _SECONDS_RANGE, "seconds")
    reader.group(options.group)
    if reader.problems or data_dir is None or endpoint is None:
        raise ConfigurationError("; ".join(reader.problems))
    return ShipperConfig(
        data_dir=data_dir,
        endpoint=endpoint,
        protocol=protocol,
        compression=compression,
        headers=headers,
        certificate=certificate,
        max_request_bytes=options.max_request_bytes,
        timeout=timeout,
        retry_max=options.retry_max,
        group=options.group,
        once=options.once,
    )


class _Reader:
    """Reads one setting after the other, and collects what is wrong instead of stopping at the first."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._environment = environment

    def problem(self, name: str, rule: str) -> None:
        self.problems.append(f"{name} {rule}")

    def variable(self, name: str) -> str | None:
        """Return a variable's text; an empty one counts as not set."""
        return self._environment.get(name, "").strip() or None

    def path(self, name: str) -> Path | None:
        text = self.variable(name)
        return Path(text) if text else None

    def choice(self, value: str | None, option: str, variable: str, choices: tuple[str, ...]) -> str:
        """Return the option's or the variable's value, or the first choice if neither is given."""
        name = option if value else variable
        value = value or self.variable(variable) or choices[0]
        if value not in choices:
            self.problem(name, f"is {value!r}: must be one of {', '.join(choices)}")
        return value

    def endpoint(self, value: str | None, *, insecure: bool) -> Endpoint | None:
        name = "--endpoint" if value else "OTEL_EXPORTER_OTLP_ENDPOINT"
        text = value or self.variable(name)
        if text is None:
            self.problem("--endpoint", "is not given: say where the collector is, or set OTEL_EXPORTER_OTLP_ENDPOINT")
            return None
        if insecure and text.startswith("https://"):
            self.problem("--insecure", f"contradicts the https of the endpoint {text!r}: leave one of them out")
        from_variable = (self.variable("OTEL_EXPORTER_OTLP_INSECURE") or "").lower() == "true"
        try:
            return parse_endpoint(text, insecure=insecure or from_variable)
        except ValueError as error:
            self.problem(name, f"is {text!r}: {error}")
            return None

    def certificate(self, value: Path | None) -> Path | None:
        name = "--certificate" if value else "OTEL_EXPORTER_OTLP_CERTIFICATE"
        path = value or self.path(name)
        if path is None:
            return None
        try:
            ssl.create_default_context(cafile=path)
        except ssl.SSLError as error:
            self.problem(name, f"is {str(path)!r}: must be a file of PEM certificates ({error.reason or error})")
        except OSError as error:
            self.problem(name, f"is {str(path)!r}: must be a readable file ({error.strerror})")
        return path

    def headers(self, values: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Return names and values of headers; those given as options replace the variable's as a whole."""
        given = [("--header", text, text) for text in values]
        if not given:
            variable = "OTEL_EXPORTER_OTLP_HEADERS"
            listed = (self.variable(variable) or "").split(",")
            given = [(variable, text, unquote(text)) for text in listed if text.strip()]
        headers = []
        for origin, _, text in given:
            name, equals, value = (part.strip() for part in text.partition("="))
            if not equals or not name or not set(name.lower()) <= _HEADER_NAME_CHARACTERS:
                # The value is left out: headers carry tokens, and this message ends up in logs.
                self.problem(origin, f"{name!r}: must be NAME=VALUE with a header name of letters, digits and '-'")
            elif not value.isascii() or not value.isprintable():
                self.problem(origin, f"{name!r}: its value must be printable ASCII")
            else:
                headers.append((name, value))
        return tuple(headers)

    def timeout(self, seconds: float | None) -> float:
        name = "--timeout"
        if seconds is None:
            name = "OTEL_EXPORTER_OTLP_TIMEOUT"
            text = self.variable(name)
            try:
                # Milliseconds, as the specification has it; the Python SDK reads the same variable as seconds.
                seconds = float(text) / 1000 if text else TIMEOUT_DEFAULT
            except ValueError:
                self.problem(name, f"is {text!r}: must be a number of milliseconds")
                return TIMEOUT_DEFAULT
        self.in_range(name, seconds, _SECONDS_RANGE, "seconds")
        return seconds

    def in_range(self, name: str, value: float, limits: tuple[float, float], unit: str) -> None:
        least, greatest = limits
        if not least <= value <= greatest:
            self.problem(name, f"is {value:g}: must be {least:g} to {greatest:g} {unit}")

    def group(self, name: str) -> None:
        try:
            parse_group(name)
        except CometError as error:
            self.problem("--group", f"is {name!r}: {error}")
