"""Looking at a shard and at a group's place in it, without taking part."""

from __future__ import annotations

from comet_storage._format.group_record import GroupRecord
from comet_storage._groups.messages import FoundEntries, frame_messages
from comet_storage._groups.tracker import Tracker
from comet_storage._segment.file import Frame
from comet_storage._shard.reader import Gap, ShardReader
from comet_storage.errors import UnsupportedFormatError
from comet_storage.names import ShardName
from comet_storage.types import MissingEntries, ShardVerification, StreamMessage, StreamStats


def recent_messages(reader: ShardReader, name: ShardName, count: int) -> list[StreamMessage]:
    """The last ``count`` entries of a shard in order, fewer where it holds no more."""
    first, following = reader.first_held(), reader.next_number()
    span = count
    while first is not None:
        start = max(first, following - span)
        found = [
            message
            for frame in reader.frames(start)
            if isinstance(frame, Frame)
            for message in frame_messages(str(name), name.shard_id, frame, start, frame.end_entry)
        ]
        if len(found) >= count or start == first:
            return found[-count:]
        # Numbers are missing there.
        span *= 4
    return []


def oldest_pending(reader: ShardReader, record: GroupRecord) -> int | None:
    """Time stamp of the first entry that a group has still to get, None when there is none."""
    tracker = Tracker(record)
    for found in reader.frames(record.offset):
        if isinstance(found, Frame) and tracker.wanted(found.first_entry, found.end_entry):
            return found.header.timestamp
    return None


def stream_stats(reader: ShardReader, name: ShardName, offsets: dict[str, int], file_count: int) -> StreamStats:
    """What a shard holds."""
    first, end = reader.position_of(0)
    newest = recent_messages(reader, name, 1)
    return StreamStats(
        shard_id=name.shard_id,
        total_entries=reader.held(),
        total_bytes=end - first,
        oldest_entry_ns=oldest_pending(reader, GroupRecord()),
        newest_entry_ns=newest[0].timestamp if newest else None,
        consumer_offsets=offsets,
        file_count=file_count,
    )


def verification(reader: ShardReader, name: ShardName, file_count: int) -> ShardVerification:
    """Read every frame of a shard, as consumers do, and tell which numbers they would get."""
    entries = entry_bytes = following = 0
    missing: list[MissingEntries] = []
    for found in reader.frames(0):
        if isinstance(found, Gap):
            missing.append(MissingEntries(found.first, found.end - 1, found.kind))
            following = found.end
            continue
        first, following = found.first_entry, found.end_entry
        try:
            held, _, size = FoundEntries(found).part(first, following)
        except UnsupportedFormatError:
            missing.append(MissingEntries(first, following - 1, "unsupported"))
            continue
        if len(held) < following - first:
            missing.append(MissingEntries(first, following - 1, "corrupt"))
        else:
            entries, entry_bytes = entries + len(held), entry_bytes + size
    return ShardVerification(str(name), file_count, entries, entry_bytes, following, tuple(missing))
