"""The settings that are in effect, each with the place where it was set, and without any secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from comet_otel.streams import Signal
from shipper.configuration.resolving import LoadedConfig
from shipper.endpoint import Endpoint
from shipper.settings import DestinationConfig, SignalConfig, proxy_without_password

MASK: Final = "***"
DEFAULT: Final = "default"


class Effective(NamedTuple):
    """One setting.

    Attributes:
        place: where it stands in the file's terms: ``data_dir``, ``central.window``, ``central.traces.endpoint``.
        value: it, or a mask; numbers are bytes and seconds.
        origin: the flag, variable or file and key that it is from, or ``default``.
    """

    place: str
    value: Any
    origin: str


def effective_settings(loaded: LoadedConfig) -> Iterator[Effective]:
    """Give every setting in effect, in the order of the file."""
    config = loaded.config
    for name in ("data_dir", "listen", "log_format", "shutdown_timeout", "assignment", "dead_letter_share"):
        value = getattr(config, name)
        if value is not None and name == "listen":
            value = f"{value[0]}:{value[1]}"
        elif value is not None and name == "assignment":
            value = f"{value[0]}/{value[1]}"
        yield _effective(loaded, name, name, value)
    for destination in config.destinations:
        yield from _of_destination(loaded, destination)


def _of_destination(loaded: LoadedConfig, destination: DestinationConfig) -> Iterator[Effective]:
    for field in dataclasses.fields(destination):
        value = getattr(destination, field.name)
        place = f"{destination.name}.{field.name}"
        if field.name in {"retry", "pacing"}:
            for part in dataclasses.fields(value):
                place_of_part = f"{place}.{part.name}"
                yield _effective(loaded, place_of_part, place_of_part, getattr(value, part.name))
        elif field.name == "signals":
            yield _effective(loaded, place, place, tuple(each.signal for each in value))
        elif field.name != "name":
            yield _effective(loaded, place, place, value)
    for signal in destination.signals:
        yield from _of_signal(loaded, f"{destination.name}.{signal.signal.value}", signal)


def _of_signal(loaded: LoadedConfig, place: str, config: SignalConfig) -> Iterator[Effective]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "tls":
            for part in dataclasses.fields(value):
                yield _effective(loaded, f"{place}.{part.name}", f"{place}.{part.name}", getattr(value, part.name))
        elif field.name == "headers":
            masked = {name: MASK for name, _ in value}
            yield _effective(loaded, f"{place}.headers", f"{place}.headers", masked)
        elif field.name == "proxy":
            shown = None if value is None else proxy_without_password(value)
            yield _effective(loaded, f"{place}.proxy", f"{place}.proxy", shown)
        elif field.name not in {"signal", "http_path_is_complete"}:
            yield _effective(loaded, f"{place}.{field.name}", f"{place}.{field.name}", value)


def _effective(loaded: LoadedConfig, place: str, key: str, value: Any) -> Effective:
    return Effective(place, _plain(value), loaded.origins.get(key, DEFAULT))


def _plain(value: Any) -> Any:
    """Return a value as JSON and people have it."""
    if isinstance(value, Signal):
        return value.value
    if isinstance(value, Path | Endpoint):
        return str(value)
    if isinstance(value, tuple):
        pairs = all(isinstance(each, tuple) for each in value)
        return {str(k): _plain(v) for k, v in value} if value and pairs else [_plain(each) for each in value]
    return value
