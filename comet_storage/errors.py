"""Everything that this package raises, as one tree.

    CometError
    ├── ConfigError                 a setting is wrong; names every wrong key at once
    ├── InvalidStreamName           a stream, shard or group name that cannot exist
    ├── InvalidEntryError           an entry that is not bytes-like
    ├── EntryTooLarge               one entry over ``max_entry_bytes``
    ├── BatchTooLarge               one append call over ``max_append_bytes``
    ├── ClosedError                 the client, writer or consumer was closed
    ├── ReadOnlyError               a change asked of a read-only client
    ├── AckError                    an acknowledgement that cannot be true
    ├── ReentrantAppendError        an append interrupted by an append of its own thread
    ├── ShardOwnedError             another writer owns the shard
    ├── ShardLostError              this writer owned the shard and does not any more
    ├── LogBusyError                a lock was not free within ``lock_timeout``
    ├── LogMovedError               the directory was moved or removed under a live writer
    ├── CorruptLogError             stored bytes that cannot be used at all
    │   └── UnsupportedFormatError  bytes of a newer format version
    └── StorageIOError              the operating system refused
        ├── LogFullError            no room within the bound, or none on the volume
        ├── UnsafeDirectoryError    a directory that others control, or that is none
        └── UnsupportedFilesystemError

``retryable`` says whether the same call may succeed later with nothing but time passing.
"""

from __future__ import annotations

__all__ = [
    "AckError",
    "BatchTooLarge",
    "ClosedError",
    "CometError",
    "ConfigError",
    "CorruptLogError",
    "EntryTooLarge",
    "InvalidEntryError",
    "InvalidStreamName",
    "LogBusyError",
    "LogFullError",
    "LogMovedError",
    "ReadOnlyError",
    "ReentrantAppendError",
    "ShardLostError",
    "ShardOwnedError",
    "StorageIOError",
    "UnsafeDirectoryError",
    "UnsupportedFilesystemError",
    "UnsupportedFormatError",
]


class CometError(Exception):
    """Base of every error that this package raises on purpose."""

    retryable: bool = False


class ConfigError(CometError, ValueError):
    """A setting is wrong. The message names every wrong key, its value and the rule. Mend it; do not retry."""


class InvalidStreamName(CometError, ValueError):
    """A stream, shard or group name breaks the naming rules. Nothing was created. Do not retry."""


class InvalidEntryError(CometError, TypeError):
    """An entry is not bytes-like, or the batch is not a sequence of entries. Nothing was appended."""


class EntryTooLarge(CometError, ValueError):
    """One entry is over ``max_entry_bytes``. Nothing of its batch was appended. Split the entry or raise the limit."""


class BatchTooLarge(CometError, ValueError):
    """One append call is over ``max_append_bytes`` or 16,777,215 entries. Nothing was appended. Append in parts."""


class ClosedError(CometError):
    """The object was closed. Open a new one."""


class ReadOnlyError(CometError):
    """The client was opened with ``read_only=True`` and was asked to change something."""


class AckError(CometError, ValueError):
    """An acknowledgement of what was never delivered to this consumer, or after its lease was lost. Nothing changed."""


class ReentrantAppendError(CometError):
    """A signal handler or finalizer appended to a shard while its own thread was inside an append to that shard.

    Waiting would deadlock, so it is refused. Append again outside the handler, or to another shard.
    """

    retryable = True


class ShardOwnedError(CometError):
    """Another live writer owns the shard; the message names it. Wait for its end, use another shard or shared mode."""

    retryable = True


class ShardLostError(CometError):
    """This writer's lock is gone: its lock file was deleted or its descriptors were closed, and another may write now.

    What was appended before is safe. This writer stays refused; the next append of the client claims anew.
    """

    retryable = True


class LogBusyError(CometError):
    """A lock was held by another process for longer than ``lock_timeout``. Nothing was appended. Retry later."""

    retryable = True


class LogMovedError(CometError):
    """The log's directory was moved, replaced or removed while this writer had it open. Open the log again."""


class CorruptLogError(CometError):
    """Stored bytes cannot be used. Only what is damaged is refused; the rest of the log stays readable."""


class UnsupportedFormatError(CorruptLogError):
    """The bytes are of a newer major format version, or have a codec of a newer release. Read them with that one.

    Nothing is passed over: what cannot be read stays where it is, and stays pending for every group.
    """


class StorageIOError(CometError, OSError):
    """The operating system refused an operation on the log (permission, I/O error). The cause is chained."""

    retryable = True


class LogFullError(StorageIOError):
    """No room: the bound is reached and nothing may be evicted, or the volume is full. Nothing was appended.

    Retry after space was freed; the log needs no repair.
    """

    retryable = True


class UnsafeDirectoryError(StorageIOError):
    """The data directory is no directory, a symbolic link, owned by another user, or writable by everyone."""

    retryable = False


class UnsupportedFilesystemError(StorageIOError):
    """The directory is on a network filesystem, whose locks and maps cannot be relied on. Use a local disk."""

    retryable = False
