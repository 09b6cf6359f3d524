"""The TOML file: found, parsed, its variables filled in, every key looked up."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from comet_otel.streams import Signal
from shipper.configuration import values
from shipper.configuration.layers import Layer, Problems, read_layer
from shipper.configuration.schema import DESTINATION, PACING, PATHS, RETRY, SENDING, SHIPPER, Keys
from shipper.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_BYTES_MAX: Final = 1024 * 1024
_DESTINATION_TABLE: Final = "destination"
_VARIABLE: Final = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\})")


@dataclass
class FileDestination:
    """What the file says of one destination.

    Attributes:
        name: its name.
        sending: how all its signals are sent.
        of_signal: how single ones are.
        settings: its own keys.
        retry: those of its table ``retry``.
        pacing: those of its table ``pacing``.
    """

    name: str
    sending: Layer = field(default_factory=dict)
    of_signal: dict[Signal, Layer] = field(default_factory=dict)
    settings: Layer = field(default_factory=dict)
    retry: Layer = field(default_factory=dict)
    pacing: Layer = field(default_factory=dict)


@dataclass
class ConfigurationFile:
    """What a file says.

    Attributes:
        shipper: keys at its top.
        destinations: its destinations, in their order.
    """

    shipper: Layer = field(default_factory=dict)
    destinations: list[FileDestination] = field(default_factory=list)


def read_file(path: Path, environment: Mapping[str, str], problems: Problems) -> ConfigurationFile:
    """Read a file; everything that is wrong in it is noted, and left out of what is returned.

    Raises:
        ConfigurationError: it cannot be read at all, so that nothing can be said of what is missing.
    """
    try:
        table = tomllib.loads(_content(path))
    except OSError as error:
        problems.add(str(path), f"must be a readable file of TOML ({error.strerror})")
        raise ConfigurationError(problems.found) from error
    except ValueError as error:
        problems.add(str(path), f"must be a readable file of TOML: {error}")
        raise ConfigurationError(problems.found) from error
    return _FileReader(path, environment, problems).read(table)


class _FileReader:
    """Goes through the tables of one file."""

    def __init__(self, path: Path, environment: Mapping[str, str], problems: Problems) -> None:
        self._path = path
        self._environment = environment
        self._problems = problems

    def read(self, table: dict[str, Any]) -> ConfigurationFile:
        found = ConfigurationFile(self._layer(table, "", SHIPPER, tables=(_DESTINATION_TABLE,)))
        destinations = table.get(_DESTINATION_TABLE, {})
        if not _is_table_of_tables(destinations):
            rule = f"must be tables with a name each, such as [{_DESTINATION_TABLE}.central]"
            self._problems.add(self._at(_DESTINATION_TABLE), rule)
            return found
        for name, content in destinations.items():
            prefix = f"{_DESTINATION_TABLE}.{name}"
            try:
                values.destination_name(name)
            except ValueError as error:
                self._problems.add(self._at(prefix), str(error), shown=name)
            found.destinations.append(self._destination(name, content, prefix))
        return found

    def _destination(self, name: str, content: dict[str, Any], prefix: str) -> FileDestination:
        signals = {signal.value: signal for signal in Signal}
        parts: dict[str, Keys] = {"retry": RETRY, "pacing": PACING, **dict.fromkeys(signals, SENDING)}
        both = self._layer(content, prefix, {**SENDING, **DESTINATION}, tables=tuple(parts))
        destination = FileDestination(
            name,
            sending={key: value for key, value in both.items() if key in SENDING},
            settings={key: value for key, value in both.items() if key in DESTINATION},
        )
        for part, keys in parts.items():
            if part not in content:
                continue
            if not isinstance(content[part], dict):
                self._problems.add(self._at(f"{prefix}.{part}"), "must be a table", shown=content[part])
                continue
            layer = self._layer(content[part], f"{prefix}.{part}", keys, of_signal=part in signals)
            if part in signals:
                destination.of_signal[signals[part]] = layer
            else:
                setattr(destination, part, layer)
        return destination

    def _layer(
        self,
        table: dict[str, Any],
        prefix: str,
        keys: Keys,
        *,
        tables: tuple[str, ...] = (),
        of_signal: bool = False,
    ) -> Layer:
        """Read the keys of one table; `tables` are names of tables inside it, which are not its keys."""
        raw, origins = {}, {}
        for key, value in table.items():
            if key in tables:
                continue
            if key not in keys:
                self._problems.unknown(self._at(prefix) if prefix else f"{self._path}:", key, (*keys, *tables))
                continue
            origins[key] = self._at(f"{prefix}.{key}" if prefix else key)
            try:
                raw[key] = self._filled(value)
            except ValueError as error:
                self._problems.add(origins[key], str(error))
                continue
            if key in PATHS and isinstance(raw[key], str) and raw[key]:
                raw[key] = str(self._path.parent / Path(raw[key]).expanduser())
        return read_layer(raw, keys, self._problems, origins, of_signal=of_signal)

    def _filled(self, value: Any) -> Any:
        """Put variables in place of ``${NAME}``, in texts and in tables of texts.

        Raises:
            ValueError: a variable is not set.
        """
        if isinstance(value, dict):
            return {key: self._filled(each) for key, each in value.items()}
        return _VARIABLE.sub(self._variable, value) if isinstance(value, str) else value

    def _variable(self, found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "$"
        if name not in self._environment:
            raise ValueError(f"names the variable {name!r}, which is not set")
        return self._environment[name]

    def _at(self, key: str) -> str:
        return f"{self._path}: {key}"


def _content(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"it is larger than {FILE_BYTES_MAX} bytes")
    return content.decode()


def _is_table_of_tables(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())
