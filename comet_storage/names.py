"""Names of streams, shards and groups, and which shard a key belongs to.

A stream is ``namespace:version``; a shard of it is ``namespace:version:shard:0003``. Names become directory names,
so their alphabet is small and checked before anything is created.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from comet_storage.errors import InvalidArgumentError, InvalidStreamName

DEFAULT_SHARD_COUNT = 16
SHARD_ID_MAX = 2**32 - 1

_FNV_OFFSET_BASIS = 2166136261
_FNV_PRIME = 16777619

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
# Namespaces lie beside the log's own files (log.json, log.lock, retention.json), so none begins like one.
_NAMESPACE = rf"(?!log\.(?:json|lock)|retention\.json){_PART}"
_STREAM = re.compile(rf"({_NAMESPACE}):({_PART})(?::shard:\*)?", re.ASCII)
_SHARD_STREAM = re.compile(rf"({_NAMESPACE}):({_PART}):shard:([0-9]{{4,10}})", re.ASCII)
_SHARD_DIRECTORY = re.compile(r"shard-([0-9]{4,10})", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


class ShardName(NamedTuple):
    """One shard of one stream."""

    namespace: str
    version: str
    shard_id: int

    @property
    def stream(self) -> str:
        """The stream that the shard belongs to, ``namespace:version``."""
        return f"{self.namespace}:{self.version}"

    def __str__(self) -> str:
        return shard_stream_name(self.namespace, self.version, self.shard_id)


def shard_stream_name(namespace: str, version: str, shard_id: int) -> str:
    """Full name of a shard, for example ``events:v1:shard:0003``; numbers over 9999 just have more digits.

    Raises:
        InvalidStreamName: the number is no 32-bit one. The other parts are looked at where the name is used.
    """
    if not 0 <= shard_id <= SHARD_ID_MAX:
        raise InvalidStreamName(f"invalid shard number {shard_id}: expected 0 to {SHARD_ID_MAX}")
    return f"{namespace}:{version}:shard:{shard_id:04d}"


def pick_shard(key: str, shard_count: int = DEFAULT_SHARD_COUNT) -> int:
    """Shard of a key: FNV-1a (32 bit) of its UTF-8 bytes, modulo ``shard_count`` (0 means 16).

    The same hash as the original's, so producers in Go and in Python route a key alike. It is plain modulo: another
    count moves most keys.

    Raises:
        InvalidArgumentError: the key is no text, or the count is negative or over 2**32.
    """
    if not _is_text(key):
        raise InvalidArgumentError(f"key is {key!r}: must be text")
    count = _checked_count(shard_count)
    digest = _FNV_OFFSET_BASIS
    # Bytes that were no UTF-8 where the key came from (a file name, an argument) hash as those bytes.
    for byte in key.encode("utf-8", "surrogateescape"):
        digest = ((digest ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return digest % count


def pick_shard_stream(key: str, namespace: str, version: str, shard_count: int = DEFAULT_SHARD_COUNT) -> str:
    """Full shard name for a key, for example to append to."""
    return shard_stream_name(namespace, version, pick_shard(key, shard_count))


def all_shards_range(shard_count: int = DEFAULT_SHARD_COUNT) -> list[int]:
    """Shard numbers from 0 up to ``shard_count`` (0 means 16).

    Raises:
        InvalidArgumentError: the count is negative or over 2**32.
    """
    return list(range(_checked_count(shard_count)))


def all_shard_streams(namespace: str, version: str, shard_count: int = DEFAULT_SHARD_COUNT) -> list[str]:
    """Full names of the shards of :func:`all_shards_range`."""
    return [shard_stream_name(namespace, version, shard_id) for shard_id in all_shards_range(shard_count)]


def _checked_count(shard_count: int) -> int:
    if not 0 <= shard_count <= SHARD_ID_MAX + 1:
        raise InvalidArgumentError(
            f"shard_count is {shard_count}: must be 0 (for {DEFAULT_SHARD_COUNT}) to {SHARD_ID_MAX + 1}"
        )
    return shard_count or DEFAULT_SHARD_COUNT


def _is_text(name: object) -> bool:
    """Callers without a type checker pass anything."""
    return isinstance(name, str)


def parse_shard_stream(name: str) -> ShardName:
    """Parse a full shard name.

    Raises:
        InvalidStreamName: the name is not ``namespace:version:shard:NNNN`` in its one canonical spelling.
    """
    match = _SHARD_STREAM.fullmatch(name) if _is_text(name) else None
    if match is None:
        raise InvalidStreamName(
            f"invalid shard stream name {name!r}: expected 'namespace:version:shard:NNNN', parts of letters, digits, "
            "'.', '_' and '-' (at most 64, starting with a letter or digit), for example 'events:v1:shard:0001'"
        )
    shard_id = int(match[3])
    if shard_id > SHARD_ID_MAX or f"{shard_id:04d}" != match[3]:
        raise InvalidStreamName(
            f"invalid shard number {match[3]!r} in {name!r}: expected 0000 to {SHARD_ID_MAX}, "
            "four digits or more without further leading zeros"
        )
    return ShardName(match[1], match[2], shard_id)


def parse_stream(name: str) -> tuple[str, str]:
    """Parse ``namespace:version`` (or ``namespace:version:shard:*``) into its two parts.

    Raises:
        InvalidStreamName: the name has another form.
    """
    match = _STREAM.fullmatch(name) if _is_text(name) else None
    if match is None:
        raise InvalidStreamName(
            f"invalid stream name {name!r}: expected 'namespace:version' or 'namespace:version:shard:*', "
            "for example 'traces:v1'"
        )
    return match[1], match[2]


def parse_group(name: str) -> str:
    """Check a consumer group's name and return it.

    Raises:
        InvalidStreamName: it is empty, too long (128) or has other characters than letters, digits, '.', '_', '-'.
    """
    if not _is_text(name) or _GROUP.fullmatch(name) is None:
        raise InvalidStreamName(
            f"invalid group name {name!r}: expected 1 to 128 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    return name


def shard_directory_name(shard_id: int) -> str:
    """Directory of a shard inside its stream's directory."""
    return f"shard-{shard_id:04d}"


def parse_shard_directory(name: str) -> int | None:
    """Shard number of a directory name, or None for any other name."""
    match = _SHARD_DIRECTORY.fullmatch(name)
    if match is None:
        return None
    shard_id = int(match[1])
    return shard_id if shard_id <= SHARD_ID_MAX and shard_directory_name(shard_id) == name else None
