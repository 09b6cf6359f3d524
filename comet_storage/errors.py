"""Everything that this package raises, as one tree.

    CometError
    ├── ConfigError                 a setting is wrong; names every wrong key at once
    ├── InvalidStreamName           a stream, shard or group name that cannot exist
    ├── InvalidArgumentError        an argument of a call that can mean nothing
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

Each class says three things: its docstring the cause, ``retryable`` whether the same call may succeed later with
nothing but time passing, and ``remedy`` what to do. The message names the thing at hand: the key, the file, the holder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "AckError",
    "BatchTooLarge",
    "ClosedError",
    "CometError",
    "ConfigError",
    "CorruptLogError",
    "EntryTooLarge",
    "InvalidArgumentError",
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

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later with nothing but time passing."""
    remedy: ClassVar[str] = "see the error's own class"
    """What to do about it."""


class ConfigError(CometError, ValueError):
    """A setting is wrong. The message names every wrong key, its value and the rule.

    Attributes:
        problems: a sentence for each wrong setting.
    """

    remedy = "mend the settings that are named"

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or (message,)


class InvalidStreamName(CometError, ValueError):
    """A stream, shard or group name breaks the naming rules. Nothing was created."""

    remedy = "use a name of the form that the message shows"


class InvalidArgumentError(CometError, ValueError):
    """An argument of a call can mean nothing. The message names it and the rule. Nothing changed."""

    remedy = "give a value of the kind that the message names"


class InvalidEntryError(CometError, TypeError):
    """An entry is not bytes-like, or the batch is not a sequence of entries. Nothing was appended."""

    remedy = "encode each entry to bytes, and hand over a list of them"


class EntryTooLarge(CometError, ValueError):
    """One entry is over ``max_entry_bytes``. Nothing of its batch was appended."""

    remedy = "split the entry, or raise storage.max_entry_bytes"


class BatchTooLarge(CometError, ValueError):
    """One append call is over ``max_append_bytes`` or 16,777,215 entries. Nothing was appended."""

    remedy = "append in parts, or raise storage.max_append_bytes"


class ClosedError(CometError):
    """The object was closed, or its process was forked and it belongs to the parent."""

    remedy = "open a new one"


class ReadOnlyError(CometError):
    """The client was opened with ``read_only=True`` and was asked to change something."""

    remedy = "open the client without read_only"


class AckError(CometError, ValueError):
    """An acknowledgement of what was never delivered to this consumer, or after its lease was lost. Nothing changed."""

    remedy = "read again and acknowledge what that returns; to skip entries, use reset_offset"


class ReentrantAppendError(CometError):
    """A signal handler or finalizer appended to a shard while its own thread was inside an append to that shard.

    Waiting would deadlock, so it is refused. Nothing was appended.
    """

    retryable = True
    remedy = "append again outside the handler, or to another shard, or through lanes"


class ShardOwnedError(CometError):
    """Another live writer owns the shard; the message names it. Nothing was appended."""

    retryable = True
    remedy = "wait for the holder's end, append to another shard, or use CometConfig.multi_process()"


class ShardLostError(CometError):
    """This writer's lock is gone: its lock file was deleted or its descriptors were closed, and another may write now.

    What was appended before is safe; nothing of this call was appended. This writer stays refused.
    """

    retryable = True
    remedy = "append again: the client claims the shard anew"


class LogBusyError(CometError):
    """A lock was held by another process for longer than ``lock_timeout``. Nothing was appended."""

    retryable = True
    remedy = "try again, raise concurrency.lock_timeout, or look at what stopped the holder"


class LogMovedError(CometError):
    """The log's directory was moved, replaced or removed while this writer had it open."""

    remedy = "close the client and open the log where it is now"


class CorruptLogError(CometError):
    """Stored bytes cannot be used. Only what is damaged is refused; the rest of the log stays readable."""

    remedy = "read on: what is damaged is counted and left out"


class UnsupportedFormatError(CorruptLogError):
    """The bytes are of a newer major format version, or have a codec of a newer release.

    Nothing is passed over: what cannot be read stays where it is, and stays pending for every group.
    """

    remedy = "use a release that knows this version"


class StorageIOError(CometError, OSError):
    """The operating system refused an operation on the log (permission, I/O error). The cause is chained."""

    retryable = True
    remedy = "look at the chained error: mend the permission or the disk"


class LogFullError(StorageIOError):
    """No room: the bound is reached and nothing may be evicted, or the volume is full. Nothing was appended."""

    retryable = True
    remedy = "free space, let consumers catch up, or use when_full='evict_oldest'; the log needs no repair"


class UnsafeDirectoryError(StorageIOError):
    """The data directory is no directory, a symbolic link, owned by another user, or writable by everyone."""

    retryable = False
    remedy = "use a directory of this user that others cannot write to"


class UnsupportedFilesystemError(StorageIOError):
    """The directory is on a network filesystem, whose locks and maps cannot be relied on."""

    retryable = False
    remedy = "use a local disk, or allow_network_filesystem at your own risk"
