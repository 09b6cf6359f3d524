"""The writers' retention settings, kept in the log for processes that bring none of their own: the shipper, tools.

Who only looks after a log must not have rules that differ from those of its owner.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os

from comet_storage._format.checksum import crc32
from comet_storage._format.limits import PAGE_BYTES
from comet_storage._log.layout import LogLayout
from comet_storage._log.space import SpaceLedger
from comet_storage._os.door import Door
from comet_storage.config import RetentionConfig, seconds
from comet_storage.errors import CometError

_FILE = "retention.json"
_FILE_BYTES_MAX = 64 * 1024
_ELSEWHERE = frozenset({"max_total_size", "when_full"})
"""Fixed by ``log.json`` for everybody."""
_NAMES = tuple(field.name for field in dataclasses.fields(RetentionConfig) if field.name not in _ELSEWHERE)
_DURATIONS = ("max_age", "cleanup_interval", "force_delete_after")


def load_policy(door: Door, layout: LogLayout) -> RetentionConfig | None:
    """What was recorded, or None when there is nothing that proves itself and follows the rules."""
    with contextlib.suppress(OSError):
        return _decode(_read(door, _path(layout)))
    return None


def record_policy(door: Door, layout: LogLayout, ledger: SpaceLedger, config: RetentionConfig) -> None:
    """Keep a writer's settings in the log, unless they are there already. What cannot be kept is left out.

    1. The text is written under a temporary name and synced. A crash leaves that file, which nobody reads.
    2. It is renamed. A crash leaves the old settings or the new ones.
    """
    text = _encode(config)
    path = _path(layout)
    with contextlib.suppress(OSError, CometError):
        with contextlib.suppress(FileNotFoundError):
            if _read(door, path) == text:
                return
        temporary = f"{path}.{os.getpid()}.{door.random_bytes(4).hex()}.new"
        fd = door.open(temporary, write=True, create=True, exclusive=True)
        try:
            try:
                ledger.reserve_small(PAGE_BYTES, lambda: door.write(fd, text, 0))
                door.sync_data(fd)
            finally:
                door.close(fd)
            door.rename(temporary, path)
        except BaseException:
            door.unlink(temporary)
            raise


def _path(layout: LogLayout) -> str:
    return f"{layout.root}/{_FILE}"


def _read(door: Door, path: str) -> bytes:
    fd = door.open(path)
    try:
        return door.read(fd, _FILE_BYTES_MAX, 0)
    finally:
        door.close(fd)


def _encode(config: RetentionConfig) -> bytes:
    members = {name: getattr(config, name) for name in _NAMES}
    for name in _DURATIONS:
        if members[name] is not None:
            members[name] = seconds(members[name])
    members["priorities"] = dict(config.priorities)
    return json.dumps({**members, "checksum": _checksum(members)}, indent=2).encode() + b"\n"


def _decode(text: bytes) -> RetentionConfig | None:
    try:
        members = json.loads(text)
        if members.pop("checksum") != _checksum(members):
            return None
        config = RetentionConfig(**{name: value for name, value in members.items() if name in _NAMES})
        return None if list(config.problems()) else config
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _checksum(members: dict[str, object]) -> str:
    return f"{crc32(json.dumps(members, sort_keys=True).encode(), 0):08x}"
