"""What was given on the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from shipper.configuration.environment import header_table
from shipper.configuration.layers import Layer, Problems, read_layer
from shipper.configuration.schema import DESTINATION, PACING, RETRY, SENDING, SHIPPER, Keys


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Values of the flags; None, or nothing, where one was not given.

    Each is named like the key of the file that it stands for, but for those that follow.

    Attributes:
        config: the file of settings.
        header: texts ``NAME=VALUE``.
        signal: names of the signals to send.
        retry_max: stands for ``longest`` of the retry table.
        once: deliver what is there and end; no key, since it is no way to run a daemon.
    """

    config: Path | None = None
    data_dir: Path | None = None
    listen: str | None = None
    log_format: str | None = None
    shutdown_timeout: str | None = None
    assignment: str | None = None
    endpoint: str | None = None
    insecure: bool | None = None
    protocol: str | None = None
    header: tuple[str, ...] = ()
    compression: str | None = None
    timeout: str | None = None
    certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    bearer_token_file: Path | None = None
    proxy: str | None = None
    group: str | None = None
    signal: tuple[str, ...] = ()
    max_request_bytes: str | None = None
    max_request_wait: str | None = None
    window: int | None = None
    order: str | None = None
    max_bytes_per_second: str | None = None
    retry_max: str | None = None
    once: bool = False


_RENAMED: Final = {"header": "headers", "signal": "signals", "retry_max": "longest"}


def flag_name(name: str) -> str:
    """Return the flag of a field."""
    return f"--{name.replace('_', '-')}"


def layer_of_flags(flags: Flags, keys: Keys, problems: Problems) -> Layer:
    """Read those flags that stand for some of `keys`."""
    raw: dict[str, Any] = {}
    origins = {}
    for each in fields(flags):
        key = _RENAMED.get(each.name, each.name)
        value = getattr(flags, each.name)
        if key not in keys or value is None or value == ():
            continue
        origins[key] = flag_name(each.name)
        try:
            raw[key] = header_table(list(value)) if each.name == "header" else value
        except ValueError as error:
            problems.add(origins[key], str(error))
    return read_layer(raw, keys, problems, origins)


def flags_of_destinations(flags: Flags) -> list[str]:
    """Return the flags that were given and that say something of a destination."""
    names = {*SENDING, *DESTINATION, *RETRY, *PACING} - set(SHIPPER)
    return [
        flag_name(each.name)
        for each in fields(flags)
        if _RENAMED.get(each.name, each.name) in names and getattr(flags, each.name) not in {None, ()}
    ]
