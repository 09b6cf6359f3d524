"""What every command begins with: which log, which stream, since when."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from comet_otel.streams import ROUTES
from comet_storage import Client, CometError, ConfigError, InvalidArgumentError, InvalidStreamName
from comet_storage.names import parse_shard_stream, parse_stream
from comet_storage.quantities import parse_duration
from shipper.configuration.environment import DATA_DIR_VARIABLE
from shipper.data_directory import find_log
from shipper.delivery.dead_letters import STREAM as DEAD_LETTERS
from shipper.errors import ConfigurationError, EnvironmentFailedError

_SHORT_NAMES = {route.signal.value: route.stream for route in ROUTES} | {"deadletter": DEAD_LETTERS}


@contextmanager
def open_log(data_dir: Path | None, *, read_only: bool = True) -> Iterator[Client]:
    """Open the log that is meant; what goes wrong with it meanwhile becomes one of the two errors of a command.

    Raises:
        ConfigurationError: no directory is given, or a name or number is wrong.
        EnvironmentFailedError: there is no log, or the machine refuses.
    """
    if data_dir is None:
        named = os.environ.get(DATA_DIR_VARIABLE, "").strip()
        if not named:
            raise ConfigurationError(f"--data-dir is not given: say where the log is, or set {DATA_DIR_VARIABLE}")
        data_dir = Path(named)
    if find_log(data_dir) is None:
        raise EnvironmentFailedError(f"there is no log in {data_dir}; has the application written to it yet?")
    try:
        with Client(data_dir, read_only=read_only) as client:
            yield client
    except (ConfigError, InvalidArgumentError, InvalidStreamName) as error:
        raise ConfigurationError(str(error)) from error
    except CometError as error:
        raise EnvironmentFailedError(f"the log in {data_dir}: {error}") from error


def stream_names(client: Client, text: str | None) -> list[str]:
    """The stream or shard that is meant: by its full name, or as ``traces``, ``metrics``, ``logs``, ``deadletter``.

    All streams of the log where none is named.

    Raises:
        ConfigurationError: the log has no such stream.
    """
    existing = client.streams()
    if text is None:
        return existing
    name = _SHORT_NAMES.get(text, text)
    try:
        stream = parse_shard_stream(name).stream
    except InvalidStreamName:
        parse_stream(name)
        stream = name
    if stream not in existing:
        raise ConfigurationError(f"the log has no stream {stream}; it has {', '.join(existing) or 'none'}")
    return [name]


def shard_names(client: Client, stream: str) -> list[str]:
    """Full names of the shards that a name stands for."""
    if stream in client.streams():
        return [f"{stream}:shard:{shard:04d}" for shard in client.shards(stream)]
    return [stream]


def parse_moment(name: str, text: str | None) -> int | None:
    """Nanoseconds since 1970, from a time such as ``2026-03-01T12:00Z``, or from how long ago it was (``2h``).

    A time without a zone is this machine's local time.

    Raises:
        ConfigurationError: it is neither.
    """
    if text is None:
        return None
    try:
        return time.time_ns() - int(parse_duration(text) * 1e9)
    except ValueError:
        pass
    try:
        # Python 3.10 knows no Z.
        found = datetime.fromisoformat(text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise ConfigurationError(
            f"{name} is {text!r}: must be a time such as 2026-03-01T12:00Z, or a duration such as 2h"
        ) from None
    return int(found.timestamp() * 1e9)


def moment_text(nanoseconds: int) -> str:
    """A time as it is printed: UTC, to the millisecond."""
    found = datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")
