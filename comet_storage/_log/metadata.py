"""``log.json``: what the first opener of a log fixed for all later ones."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import dataclass

from comet_storage._format.checksum import crc32
from comet_storage._format.limits import FORMAT_MAJOR, SEGMENT_HEADER_BYTES
from comet_storage._format.segment_header import decode_segment_header
from comet_storage._log.layout import LogLayout
from comet_storage._os.door import Door
from comet_storage.config import CometConfig
from comet_storage.errors import CometError, UnsupportedFormatError

LOG_FILE_BYTES_MAX = 64 * 1024

_logger = logging.getLogger("comet_storage")


@dataclass(frozen=True)
class LogMetadata:
    """The log's identity and the values that all its writers share."""

    log_id: bytes
    max_total_size: int
    max_file_size: int
    when_full: str

    def encode(self) -> bytes:
        """JSON text with a checksum of its other members."""
        members = {
            "format": FORMAT_MAJOR,
            "log_id": self.log_id.hex(),
            "max_total_size": self.max_total_size,
            "max_file_size": self.max_file_size,
            "when_full": self.when_full,
        }
        return json.dumps({**members, "checksum": _checksum(members)}, indent=2).encode() + b"\n"


def decode_metadata(data: bytes) -> LogMetadata | None:
    """The values, or None when the text does not prove itself.

    Raises:
        UnsupportedFormatError: the log was made by a newer major version.
    """
    try:
        members = json.loads(data)
        checksum = members.pop("checksum")
        if checksum != _checksum(members):
            return None
        if members["format"] != FORMAT_MAJOR:
            raise UnsupportedFormatError(
                f"the log has format version {members['format']}; this release reads version {FORMAT_MAJOR}"
            )
        return LogMetadata(
            bytes.fromhex(members["log_id"]),
            int(members["max_total_size"]),
            int(members["max_file_size"]),
            str(members["when_full"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def load_metadata(door: Door, layout: LogLayout) -> LogMetadata | None:
    """What ``log.json`` says, or None when it is missing or does not prove itself."""
    try:
        fd = door.open(layout.log_file)
    except FileNotFoundError:
        return None
    try:
        return decode_metadata(door.read(fd, LOG_FILE_BYTES_MAX, 0))
    finally:
        door.close(fd)


def open_metadata(door: Door, layout: LogLayout, config: CometConfig | None) -> LogMetadata:
    """Read ``log.json``, or make it; warn where another opener fixed something else than was asked for.

    ``config`` is what was asked for, None where anything will do.

    A damaged file is kept aside as ``log.json.damaged`` and made anew; the log's id comes back from a segment.
    """
    found = load_metadata(door, layout)
    if found is None:
        wanted = config or CometConfig.default()
        metadata = LogMetadata(
            _surviving_log_id(door, layout) or door.random_bytes(16),
            wanted.retention.max_total_size,
            wanted.segment_size(),
            wanted.retention.when_full,
        )
        found = _publish(door, layout, metadata)
    if config is not None:
        _warn_of_differences(layout, found, config)
    return found


def _publish(door: Door, layout: LogLayout, metadata: LogMetadata) -> LogMetadata:
    """Give the file its name, unless another process was first."""
    temporary = f"{layout.log_file}.{os.getpid()}.{door.random_bytes(4).hex()}"
    fd = door.open(temporary, write=True, create=True, exclusive=True)
    try:
        try:
            door.write(fd, metadata.encode(), 0)
            door.sync_data(fd)
        finally:
            door.close(fd)
        for _ in range(2):
            with contextlib.suppress(FileExistsError):
                door.link(temporary, layout.log_file)
                door.sync_directory(layout.root)
                return metadata
            existing = load_metadata(door, layout)
            if existing is not None:
                return existing
            _logger.warning("%s is damaged; it is kept as log.json.damaged and made anew", layout.log_file)
            door.rename(layout.log_file, f"{layout.log_file}.damaged")
        return metadata
    finally:
        door.unlink(temporary)


def _surviving_log_id(door: Door, layout: LogLayout) -> bytes | None:
    for name in layout.all_shards():
        shard = layout.shard(name)
        for first_entry in shard.segments():
            with contextlib.suppress(OSError, CometError):
                fd = door.open(shard.segment(first_entry))
                try:
                    header = decode_segment_header(door.read(fd, SEGMENT_HEADER_BYTES, 0))
                finally:
                    door.close(fd)
                if header is not None:
                    return header.log_id
    return None


def _warn_of_differences(layout: LogLayout, found: LogMetadata, config: CometConfig) -> None:
    asked = {
        "max_total_size": config.retention.max_total_size,
        "max_file_size": config.segment_size(),
        "when_full": config.retention.when_full,
    }
    for key, value in asked.items():
        fixed = getattr(found, key)
        if fixed != value:
            _logger.warning("%s fixes %s=%s; the configured %s is not used", layout.log_file, key, fixed, value)


def _checksum(members: dict[str, object]) -> str:
    return f"{crc32(json.dumps(members, sort_keys=True).encode(), 0):08x}"
