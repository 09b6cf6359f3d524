"""An embedded, sharded, segmented, crash-safe log on the local disk.

    from comet_storage import Client, Consumer

    with Client("/var/lib/comet") as client:
        client.append("events:v1:shard:0001", [b"first", b"second"])
        with Consumer(client, group="my-processor", stream="events:v1") as consumer:
            messages = consumer.read()
            consumer.ack(*[message.id for message in messages])

Names are loaded when they are first asked for.
"""

from __future__ import annotations

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from comet_storage.client import Client
    from comet_storage.config import (
        CometConfig,
        CompressionConfig,
        ConcurrencyConfig,
        IndexingConfig,
        RetentionConfig,
        StorageConfig,
    )
    from comet_storage.consumer import Consumer
    from comet_storage.errors import (
        AckError,
        BatchTooLarge,
        ClosedError,
        CometError,
        ConfigError,
        CorruptLogError,
        EntryTooLarge,
        InvalidArgumentError,
        InvalidEntryError,
        InvalidStreamName,
        LogBusyError,
        LogFullError,
        LogMovedError,
        ReadOnlyError,
        ReentrantAppendError,
        ShardLostError,
        ShardOwnedError,
        StorageIOError,
        UnsafeDirectoryError,
        UnsupportedFilesystemError,
        UnsupportedFormatError,
    )
    from comet_storage.lanes import LaneWriter
    from comet_storage.names import (
        all_shard_streams,
        all_shards_range,
        pick_shard,
        pick_shard_stream,
        shard_stream_name,
    )
    from comet_storage.statistics import CometStats, Health
    from comet_storage.types import (
        Accounting,
        Eviction,
        MessageID,
        MessageIDs,
        MissingEntries,
        RetentionStats,
        ShardPosition,
        ShardRetentionStats,
        ShardVerification,
        StreamMessage,
        StreamStats,
    )

__all__ = [
    "Accounting",
    "AckError",
    "BatchTooLarge",
    "Client",
    "ClosedError",
    "CometConfig",
    "CometError",
    "CometStats",
    "CompressionConfig",
    "ConcurrencyConfig",
    "ConfigError",
    "Consumer",
    "CorruptLogError",
    "EntryTooLarge",
    "Eviction",
    "Health",
    "IndexingConfig",
    "InvalidArgumentError",
    "InvalidEntryError",
    "InvalidStreamName",
    "LaneWriter",
    "LogBusyError",
    "LogFullError",
    "LogMovedError",
    "MessageID",
    "MessageIDs",
    "MissingEntries",
    "ReadOnlyError",
    "ReentrantAppendError",
    "RetentionConfig",
    "RetentionStats",
    "ShardLostError",
    "ShardOwnedError",
    "ShardPosition",
    "ShardRetentionStats",
    "ShardVerification",
    "StorageConfig",
    "StorageIOError",
    "StreamMessage",
    "StreamStats",
    "UnsafeDirectoryError",
    "UnsupportedFilesystemError",
    "UnsupportedFormatError",
    "all_shard_streams",
    "all_shards_range",
    "pick_shard",
    "pick_shard_stream",
    "shard_stream_name",
]

# Each module is imported when a name of it is first asked for: a process that is to start quickly loads what it uses.
_NAMES_IN = {
    "client": "Client",
    "config": "CometConfig CompressionConfig ConcurrencyConfig IndexingConfig RetentionConfig StorageConfig",
    "consumer": "Consumer",
    "errors": (
        "AckError BatchTooLarge ClosedError CometError ConfigError CorruptLogError EntryTooLarge "
        "InvalidArgumentError InvalidEntryError InvalidStreamName LogBusyError LogFullError LogMovedError "
        "ReadOnlyError ReentrantAppendError ShardLostError ShardOwnedError StorageIOError "
        "UnsafeDirectoryError UnsupportedFilesystemError UnsupportedFormatError"
    ),
    "lanes": "LaneWriter",
    "names": "all_shard_streams all_shards_range pick_shard pick_shard_stream shard_stream_name",
    "statistics": "CometStats Health",
    "types": (
        "Accounting Eviction MessageID MessageIDs MissingEntries RetentionStats ShardPosition ShardRetentionStats "
        "ShardVerification StreamMessage StreamStats"
    ),
}
_HOME_OF = {name: home for home, names in _NAMES_IN.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name in _NAMES_IN:
        return _importlib.import_module(f"{__name__}.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(_importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
