"""The standard ``OTEL_EXPORTER_OTLP_*`` variables, for all signals and for single ones, and ``COMET_DATA_DIR``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from comet_otel.streams import Signal
from shipper.configuration.layers import Layer, Problems, read_layer
from shipper.configuration.schema import SENDING, SHIPPER

DATA_DIR_VARIABLE: Final = "COMET_DATA_DIR"
CONFIG_VARIABLE: Final = "COMET_SHIPPER_CONFIG"
PREFIX: Final = "OTEL_EXPORTER_OTLP_"
SUFFIXES: Final = {
    "ENDPOINT": "endpoint",
    "PROTOCOL": "protocol",
    "HEADERS": "headers",
    "COMPRESSION": "compression",
    "TIMEOUT": "timeout",
    "CERTIFICATE": "certificate",
    "CLIENT_CERTIFICATE": "client_certificate",
    "CLIENT_KEY": "client_key",
    "INSECURE": "insecure",
}
"""Ends of the variables' names and the keys that they stand for."""

_TIMEOUT_LEAST: Final = 100
_TIMEOUT_MOST: Final = 3_600_000


def shipper_layer(environment: Mapping[str, str], problems: Problems) -> Layer:
    """Read what variables say of the shipper as a whole."""
    value = variable(environment, DATA_DIR_VARIABLE)
    raw = {"data_dir": value} if value else {}
    return read_layer(raw, SHIPPER, problems, {"data_dir": DATA_DIR_VARIABLE})


def sending_layer(environment: Mapping[str, str], signal: Signal | None, problems: Problems) -> Layer:
    """Read what variables say of all signals, or of one."""
    prefix = PREFIX if signal is None else f"{PREFIX}{signal.name}_"
    raw: dict[str, Any] = {}
    origins = {}
    for suffix, key in SUFFIXES.items():
        name = f"{prefix}{suffix}"
        value = variable(environment, name)
        if value is None:
            continue
        origins[key] = name
        try:
            raw[key] = _convert(key, value)
        except ValueError as error:
            problems.add(name, str(error), shown=None if key == "headers" else value)
    return read_layer(raw, SENDING, problems, origins, of_signal=signal is not None)


def variable(environment: Mapping[str, str], name: str) -> str | None:
    """Return a variable's text; an empty one counts as not set, as the specification says."""
    return environment.get(name, "").strip() or None


def _convert(key: str, value: str) -> Any:
    """Turn a variable's text into what the file would have."""
    if key == "headers":
        return header_table(value.split(","), decode=True)
    if key == "insecure":
        return value.lower() == "true"  # whatever else it says means false, as the specification has it
    if key == "timeout":
        try:
            # Milliseconds, as the specification has it; the Python SDK reads the same variable as seconds.
            milliseconds = float(value)
        except ValueError:
            milliseconds = 0.0
        if not _TIMEOUT_LEAST <= milliseconds <= _TIMEOUT_MOST:
            raise ValueError(f"must be a number of milliseconds from {_TIMEOUT_LEAST} to {_TIMEOUT_MOST}")
        return milliseconds / 1000
    return value


def header_table(parts: list[str], *, decode: bool = False) -> dict[str, str]:
    """Turn ``NAME=VALUE`` texts into a table.

    Raises:
        ValueError: one of them is none; the message does not show its value.
    """
    table = {}
    for part in parts:
        name, equals, value = part.strip().partition("=")
        if not equals and not name:
            continue
        if not equals or not name.strip():
            # Without "=" the whole text may be a secret that was meant as a value; only its beginning is shown.
            raise ValueError(f"{name.strip()[:4]!r}...: must be NAME=VALUE")
        table[name.strip()] = unquote(value.strip()) if decode else value.strip()
    return table
