"""Settings of the exporters: keyword arguments first, then ``COMET_*`` environment variables, then defaults.

A wrong argument is a programming error and raises `ConfigError` at construction. A wrong environment variable must not
stop an application that somebody else deploys: it is reported with a warning and its default is used.

Arguments may be of plain types throughout, because declarative configuration (``OTEL_CONFIG_FILE``) has no others:
sizes and durations may be text, and a whole configuration of the log may be a mapping of sections.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import comet_storage
from comet_otel._logging import warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from comet_storage import CometConfig

DATA_DIR_VARIABLE: Final = "COMET_DATA_DIR"

VARIABLES: Final[dict[str, tuple[str, str]]] = {
    "COMET_DURABILITY": ("storage", "durability"),
    "COMET_COMPRESSION": ("compression", "codec"),
    "COMET_MAX_TOTAL_SIZE": ("retention", "max_total_size"),
    "COMET_MAX_AGE": ("retention", "max_age"),
    "COMET_MIN_FREE_BYTES": ("retention", "min_free_bytes"),
    "COMET_WHEN_FULL": ("retention", "when_full"),
    "COMET_SYNC_INTERVAL": ("storage", "sync_interval"),
    "COMET_WRITE_METHOD": ("storage", "write_method"),
    "COMET_LANES": ("concurrency", "lanes"),
}
"""The section and the key of the log's configuration that each environment variable sets."""

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB

MAX_TOTAL_SIZE_DEFAULT: Final = 1 * _GIB
"""Bytes that the log may take on disk unless told otherwise, or a tenth of the volume if that is less."""

_VOLUME_SHARE: Final = 10
_TOTAL_SIZE_FLOOR: Final = 1 * _MIB
"""On a volume so small that a tenth of it is less than this, the log takes this much all the same."""

_DIGITS_MAX: Final = 18

_Sections = dict[str, dict[str, Any]]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExporterConfig:
    """What an exporter needs to open the log.

    Attributes:
        data_dir: directory of the log; symbolic links in it are resolved.
        storage: configuration with which the directory is opened if this process is the first to open it.
    """

    data_dir: Path
    storage: CometConfig


def load_config(
    *,
    data_dir: str | os.PathLike[str] | None = None,
    durability: str | None = None,
    compression: str | None = None,
    max_total_size: float | str | None = None,
    max_age: float | timedelta | str | None = None,
    config: CometConfig | Mapping[str, Any] | str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ExporterConfig:
    """Combine arguments, environment and defaults.

    Args:
        data_dir: directory of the log.
        durability: ``process`` (survives the death of every process) or ``always`` (survives a power cut too).
        compression: ``zstd`` or ``none``.
        max_total_size: bound of the log on disk, in bytes or as text such as ``512 MiB``.
        max_age: age at which data goes, in seconds, as a timedelta or as text such as ``7d``; 0 for no limit.
        config: complete configuration of the log, also as a mapping of its sections or as JSON text of one. Then no
            variable but that of the directory is looked at; the other arguments, where given, still win.
        environment: variables to read instead of the process's own.

    Raises:
        ConfigError: an argument has a wrong value. Wrong environment variables do not raise.
    """
    variables = os.environ if environment is None else environment
    directory = resolve_data_dir(
        data_dir or variables.get(DATA_DIR_VARIABLE, "").strip() or default_data_dir(variables)
    )
    if config is None:
        settings = _with(comet_storage.CometConfig.default(), _default_bound(directory))
        settings = _with_variables(settings, variables)
    else:
        settings = _complete(config, directory)
    given: _Sections = {
        "storage": {"durability": durability},
        "compression": {"codec": compression},
        "retention": {"max_total_size": _whole(max_total_size), "max_age": _seconds(max_age)},
    }
    chosen = {
        section: present
        for section, values in given.items()
        if (present := {key: value for key, value in values.items() if value is not None})
    }
    return ExporterConfig(directory, _with(settings, chosen))


def default_data_dir(variables: Mapping[str, str]) -> Path:
    """Return the directory used when none is given.

    It is never one that other users can write to: what is found there is trusted to be this user's own telemetry.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/comet")
    state_home = variables.get("XDG_STATE_HOME", "")
    # The XDG specification says that relative paths in its variables are to be ignored.
    base = Path(state_home) if state_home.startswith("/") else Path("~/.local/state")
    return base / "comet-otel"


def default_max_total_size(data_dir: Path) -> int:
    """Return the default bound in bytes: 1 GiB, or a tenth of the volume that holds `data_dir` if that is less."""
    for candidate in (data_dir, *data_dir.parents):
        try:
            volume = os.statvfs(candidate)
        except OSError:
            continue
        share = volume.f_blocks * volume.f_frsize // _VOLUME_SHARE
        return max(_TOTAL_SIZE_FLOOR, min(MAX_TOTAL_SIZE_DEFAULT, share))
    return MAX_TOTAL_SIZE_DEFAULT


def resolve_data_dir(directory: str | os.PathLike[str]) -> Path:
    """Return the directory's real path, so that two spellings of it are known to be one log.

    Raises:
        ConfigError: it can be no path.
    """
    try:
        path = Path(directory)
    except TypeError:
        raise comet_storage.ConfigError(f"data_dir is {directory!r}: must be the path of a directory") from None
    try:
        path = path.expanduser()
    except RuntimeError:  # no home directory is known, as in some containers; the opening will name the path
        warn(_logger, "cannot tell the home directory for the data directory %s", directory)
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # a null character
        raise comet_storage.ConfigError(f"data_dir is {directory!r}: {error}") from None
    except OSError:  # relative to a working directory that is gone; the opening will name the path
        return path


def _with_variables(config: CometConfig, variables: Mapping[str, str]) -> CometConfig:
    for variable, (section, key) in VARIABLES.items():
        text = variables.get(variable, "").strip()
        if not text:
            continue
        # Python refuses to read numbers of thousands of digits; as text they are refused like any other wrong value.
        value = int(text) if key == "lanes" and text.isdecimal() and len(text) <= _DIGITS_MAX else text
        try:
            config = _with(config, {section: {key: value}})
        except comet_storage.ConfigError as error:
            warn(_logger, "the environment variable %s is wrong and its default is used: %s", variable, error)
    return config


def _complete(config: Any, directory: Path) -> CometConfig:
    """Return the configuration that `config` is, or describes in the log's JSON form."""
    if isinstance(config, comet_storage.CometConfig):
        return config
    base = _with(comet_storage.CometConfig.default(), _default_bound(directory))
    if isinstance(config, str):
        comet_storage.CometConfig.from_json(config)  # says what is wrong with the text as it is
        config = json.loads(config)
    try:
        sections = {name: dict(values) for name, values in dict(config).items()}
    except (TypeError, ValueError):
        raise comet_storage.ConfigError(f"config is {config!r}: must be a configuration, or its sections") from None
    return _with(base, sections)


def _default_bound(directory: Path) -> _Sections:
    return {"retention": {"max_total_size": default_max_total_size(directory)}}


def _with(config: CometConfig, sections: _Sections) -> CometConfig:
    """Return a configuration with some settings in the place of its own; they may be plain or text, as in JSON.

    Raises:
        ConfigError: naming everything that is wrong with it then.
    """
    if not sections:
        config.validate()
        return config
    document: _Sections = json.loads(config.to_json())
    for section, values in sections.items():
        document[section] = {**document.get(section, {}), **values}
    try:
        text = json.dumps(document)
    except (TypeError, ValueError) as error:
        raise comet_storage.ConfigError(f"the configuration holds what JSON cannot: {error}") from error
    return comet_storage.CometConfig.from_json(text)


def _whole(value: float | str | None) -> float | str | None:
    """Turn a whole number that a configuration file wrote as a float into what it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _seconds(value: float | timedelta | str | None) -> float | str | None:
    return value.total_seconds() if isinstance(value, timedelta) else value
