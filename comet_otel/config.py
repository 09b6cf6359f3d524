"""Settings of the exporters: keyword arguments first, then ``COMET_*`` environment variables, then defaults.

A wrong argument is a programming error and raises `ConfigError` at construction. A wrong environment variable must not
stop an application that somebody else deploys: it is reported with a warning and its default is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from comet_storage import CometConfig, ConfigError, quantities

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA_DIR_VARIABLE: Final = "COMET_DATA_DIR"
DURABILITY_VARIABLE: Final = "COMET_DURABILITY"
MAX_TOTAL_SIZE_VARIABLE: Final = "COMET_MAX_TOTAL_SIZE"

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB

MAX_TOTAL_SIZE_DEFAULT: Final = 1 * _GIB
"""Bytes that the log may take on disk unless told otherwise, or a tenth of the volume if that is less."""

_VOLUME_SHARE: Final = 10
_TOTAL_SIZE_FLOOR: Final = 1 * _MIB
"""On a volume so small that a tenth of it is less than this, the log takes this much all the same."""

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
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
    max_total_size: int | str | None = None,
    config: CometConfig | None = None,
    environment: Mapping[str, str] | None = None,
) -> ExporterConfig:
    """Combine arguments, environment and defaults.

    Args:
        data_dir: directory of the log.
        durability: ``process`` (survives the death of every process) or ``always`` (survives a power cut too).
        max_total_size: bound of the log on disk, in bytes or as text such as ``512 MiB``.
        config: complete configuration of the log; then the two variables for the others are not looked at, while
            `durability` and `max_total_size`, where given, still win.
        environment: variables to read instead of the process's own.

    Raises:
        ConfigError: an argument has a wrong value. Wrong environment variables do not raise.
    """
    variables = os.environ if environment is None else environment
    directory = resolve_data_dir(data_dir or variables.get(DATA_DIR_VARIABLE) or default_data_dir(variables))
    if config is None:
        config = _with(CometConfig.default(), max_total_size=default_max_total_size(directory))
        config = _with_variables(config, variables)
    size = None if max_total_size is None else parse_size(max_total_size, name="max_total_size")
    config = _with(config, durability=durability, max_total_size=size)
    config.validate()
    return ExporterConfig(directory, config)


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


def parse_size(value: int | str, *, name: str) -> int:
    """Return a size in bytes from a number or from text such as ``512 MiB``, ``1.5GB`` or ``1048576``.

    Raises:
        ConfigError: it is not a positive size; the message names `name`, the value and the rule.
    """
    size = 0
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            size = quantities.parse_size(value)
    elif not isinstance(value, bool):
        size = value
    if size <= 0:
        raise ConfigError(f"{name} is {value!r}: must be a positive number of bytes, or text such as '512 MiB'")
    return size


def resolve_data_dir(directory: str | os.PathLike[str]) -> Path:
    """Return the directory's real path, so that two spellings of it are known to be one log."""
    path = Path(directory)
    try:
        path = path.expanduser()
    except RuntimeError:  # no home directory is known, as in some containers; the opening will name the path
        _logger.warning("cannot tell the home directory for the data directory %s", directory)
    return Path(os.path.realpath(path))


def _with_variables(config: CometConfig, variables: Mapping[str, str]) -> CometConfig:
    durability = variables.get(DURABILITY_VARIABLE, "").strip()
    if durability:
        config = _with_or_warn(config, DURABILITY_VARIABLE, durability=durability)
    size_text = variables.get(MAX_TOTAL_SIZE_VARIABLE, "").strip()
    if size_text:
        config = _with_or_warn(config, MAX_TOTAL_SIZE_VARIABLE, size_text=size_text)
    return config


def _with_or_warn(
    config: CometConfig, variable: str, *, durability: str | None = None, size_text: str | None = None
) -> CometConfig:
    try:
        size = None if size_text is None else parse_size(size_text, name=variable)
        changed = _with(config, durability=durability, max_total_size=size)
        changed.validate()
    except ConfigError as error:
        _logger.warning("the environment variable %s is wrong and its default is used: %s", variable, error)
        return config
    return changed


def _with(config: CometConfig, *, durability: str | None = None, max_total_size: int | None = None) -> CometConfig:
    storage, retention = config.storage, config.retention
    if durability is not None:
        storage = dataclasses.replace(storage, durability=durability)
    if max_total_size is not None:
        retention = dataclasses.replace(retention, max_total_size=max_total_size)
    return dataclasses.replace(config, storage=storage, retention=retention)
