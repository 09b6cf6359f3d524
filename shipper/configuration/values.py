"""What a value must be. Each reader returns the value in the form that settings have, or raises the rule it breaks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from comet_otel.streams import Signal
from comet_storage import CometError
from comet_storage.names import parse_group, parse_stream
from comet_storage.quantities import parse_duration, parse_size

Reader: TypeAlias = Callable[[Any], Any]
"""Returns the setting that a raw value stands for; raises ValueError, whose message is the rule that it breaks."""

PORT_MAX: Final = 65535
LOOPBACK: Final = "127.0.0.1"
MEANINGS: Final = ("retry", "pause", "split", "reject")
SIGNAL_NAMES: Final = tuple(signal.value for signal in Signal)

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS: Final = frozenset(
    (
        "accept-encoding",
        "comet-request-id",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "te",
        "transfer-encoding",
        "user-agent",
    )
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ANSWER: Final = re.compile(r"HTTP [1-5][0-9][0-9]|[A-Z][A-Z_]+")
_NOT_FORWARDED: Final = "deadletter"


@dataclass(frozen=True)
class Kind:
    """One kind of setting.

    Attributes:
        read: its reader.
        secret: the value is never shown.
    """

    read: Reader
    secret: bool = False


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - every broken rule is the same error here
    return value


def text(value: Any) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def path(value: Any) -> Path:
    """Read the path of a file or directory."""
    return value if isinstance(value, Path) else Path(text(value))


def choice(*choices: str) -> Reader:
    """Make a reader of one of some words."""

    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return read


def whole(least: int, most: int) -> Reader:
    """Make a reader of whole numbers."""

    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return read


def number(least: float, most: float) -> Reader:
    """Make a reader of numbers."""

    def read(value: Any) -> float:
        if not _is_number(value) or not least <= value <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return float(value)

    return read


def size(least: int, most: int) -> Reader:
    """Make a reader of bytes: a number, or text such as ``4 MiB``."""

    def read(value: Any) -> int:
        amount = parse_size(value) if isinstance(value, str) else value
        if not isinstance(amount, int) or isinstance(amount, bool) or not least <= amount <= most:
            raise ValueError(f"must be {least} to {most} bytes, as a number or as text such as '4 MiB'")
        return amount

    return read


def seconds(least: float, most: float) -> Reader:
    """Make a reader of durations: a number of seconds, or text such as ``1h30m``."""

    def read(value: Any) -> float:
        amount = parse_duration(value) if isinstance(value, str) else value
        if not _is_number(amount) or not least <= amount <= most:
            raise ValueError(f"must be {least:g} to {most:g} seconds, as a number or as text such as '30s' or '4h'")
        return float(amount)

    return read


def signals(value: Any) -> tuple[Signal, ...]:
    """Read a list of signals; their order means nothing."""
    if not isinstance(value, list | tuple) or not value or not set(map(str, value)) <= set(SIGNAL_NAMES):
        raise ValueError(f"must be a list of some of {', '.join(SIGNAL_NAMES)}")
    return tuple(signal for signal in Signal if signal.value in value)


def streams(value: Any) -> tuple[tuple[str, Signal], ...]:
    """Read a table of streams and the signal that each holds."""
    rule = "must be a table such as {'traces:v1' = 'traces'}: streams, and the signal that each holds"
    if not isinstance(value, Mapping) or not value:
        raise ValueError(rule)
    found = []
    for stream, signal in value.items():
        try:
            namespace, version = parse_stream(stream)
        except CometError as error:
            raise ValueError(f"{rule}; {stream!r}: {error}") from error
        if signal not in SIGNAL_NAMES:
            raise ValueError(f"{rule}; {stream!r}: {signal!r} is not one of {', '.join(SIGNAL_NAMES)}")
        if namespace == _NOT_FORWARDED:
            raise ValueError(f"{stream!r} holds dead letters, which are no OTLP requests")
        found.append((f"{namespace}:{version}", Signal(signal)))
    return tuple(found)


def headers(value: Any) -> tuple[tuple[str, str], ...]:
    """Read a table of header names and values. Messages name the header and never its value."""
    if not isinstance(value, Mapping):
        raise ValueError("must be a table of header names and values")  # noqa: TRY004 - every broken rule is the same error here
    found: list[tuple[str, str]] = []
    lower: set[str] = set()
    for name, content in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r}: must be NAME=VALUE with a header name of letters, digits and '-'")
        if name.lower() in _OWN_HEADERS or name.lower().startswith("grpc-"):
            raise ValueError(f"{name!r}: is a header that the protocol, or the shipper, needs for itself")
        if name.lower() in lower:
            raise ValueError(f"{name!r}: is there more than once")
        lower.add(name.lower())
        if not isinstance(content, str) or not content.isascii() or not content.isprintable():
            raise ValueError(f"{name!r}: its value must be printable ASCII")
        found.append((str(name), content))
    return tuple(found)


def overrides(value: Any) -> tuple[tuple[str, str], ...]:
    """Read a table of answers (``HTTP 500``, ``INTERNAL``) and what they are to mean."""
    if not isinstance(value, Mapping):
        raise ValueError("must be a table such as {'HTTP 500' = 'retry'}")  # noqa: TRY004 - every broken rule is the same error here
    for answer, meaning in value.items():
        if not _ANSWER.fullmatch(answer):
            raise ValueError(f"{answer!r}: must be an answer such as 'HTTP 500' or the name of a gRPC status")
        if meaning not in MEANINGS:
            raise ValueError(f"{answer!r}: is {meaning!r}, must be one of {', '.join(MEANINGS)}")
    return tuple(sorted(value.items()))


def listen(value: Any) -> tuple[str, int]:
    """Read where to listen: ``host:port``, or a port of the loopback address."""
    rule = f"must be HOST:PORT, or a port of {LOOPBACK} from 1 to {PORT_MAX}"
    parts = urlsplit(f"//{value}" if isinstance(value, str) and not value.isdigit() else f"//{LOOPBACK}:{value}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(rule) from None
    if isinstance(value, bool) or not isinstance(value, int | str) or not host or not port or parts.path:
        raise ValueError(rule)
    return host, port


def assignment(value: Any) -> tuple[int, int]:
    """Read a part of the shards: ``0/2`` is the first of two."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value.strip()) if isinstance(value, str) else None
    if found is None or int(found[1]) >= int(found[2]):
        raise ValueError("must be INDEX/TOTAL with an index below the total, such as '0/2' and '1/2' for two shippers")
    return int(found[1]), int(found[2])


def group(value: Any) -> str:
    """Read the name of a consumer group."""
    try:
        return parse_group(text(value))
    except CometError as error:
        raise ValueError(str(error)) from error


def destination_name(value: str) -> str:
    """Read the name of a destination."""
    if not _NAME.fullmatch(value):
        raise ValueError("must be a name of letters, digits, '-' and '_', of at most 64 characters")
    return value


def proxy(value: Any) -> str:
    """Read the URL of an HTTP proxy. Messages do not show it, since it may hold a password."""
    try:
        parts = urlsplit(text(value))
        port_is_right = parts.port != 0
    except ValueError:
        port_is_right, parts = False, urlsplit("")
    if not port_is_right or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be the URL of an HTTP proxy, such as http://proxy:3128")
    return text(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
