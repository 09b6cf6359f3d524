"""Finding the facts that decisions rest on, as few as needed: directories are listed, and their front is looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from comet_storage._format.group_record import GroupRecord
from comet_storage._log.layout import LogLayout
from comet_storage._os.door import Door
from comet_storage._retention.policy import Rules, Sealed, ShardFacts
from comet_storage._segment.file import SegmentFile
from comet_storage._shard.group_file import read_group_record
from comet_storage.errors import CometError
from comet_storage.names import ShardName, parse_stream

_NOTHING_WANTED = 1 << 63
"""Above every entry number."""
_FEW_FILES = 4
"""Names that were listed earlier are used until so many are left: only the front of a shard goes, and meanwhile more
may have come behind."""


class Survey:
    """Facts about one log. Remembers listings between questions, since the front of a shard is all that changes."""

    def __init__(self, door: Door, layout: LogLayout) -> None:
        self._door = door
        self._layout = layout
        self._listed: dict[ShardName, list[int]] = {}
        """Known first entries of segments, newest first, so that the oldest is taken off the end."""

    def shards(self, rules: Rules) -> Iterator[ShardFacts]:
        """Every shard of the log."""
        for stream in self._layout.streams():
            groups = self._layout.protecting_groups(stream)
            namespace, version = parse_stream(stream)
            for shard_id in self._layout.shards(stream):
                try:
                    facts = self.shard(ShardName(namespace, version, shard_id), rules, groups)
                except OSError:
                    # A directory that cannot be read must not keep the others from making room.
                    continue
                yield facts

    def shard(self, name: ShardName, rules: Rules, groups: tuple[list[str], bool] | None = None) -> ShardFacts:
        """One shard; ``groups`` are those of its stream that protect their lag, and whether there are others."""
        protecting, others = self._layout.protecting_groups(name.stream) if groups is None else groups
        # Where no group protects anything, nothing is wanted; that is not the same as a stream without groups.
        default = _NOTHING_WANTED if others else None
        names = self._names(name, rules.min_files)
        return ShardFacts(
            key=name,
            priority=rules.priorities.get(name.stream, 0),
            files=len(names),
            acknowledged=min((self.record(name, group).offset for group in protecting), default=default),
            sealed=self._sealed(name, names),
            size=self._size(name, names) if rules.max_shard_size is not None else 0,
        )

    def record(self, name: ShardName, group: str) -> GroupRecord:
        """A group's record of a shard; as long as there is none, the group wants everything."""
        return read_group_record(self._door, self._layout.shard(name).group(group)) or GroupRecord()

    def active_segment(self, name: ShardName) -> tuple[int, int] | None:
        """Of the segment that a shard's writer writes or wrote: when it was begun, and its size. None without any."""
        segments = self._layout.shard(name).segments()
        if not segments:
            return None
        with contextlib.suppress(FileNotFoundError):
            return self._begun(name, segments[-1]), self._door.status(self._path(name, segments[-1])).size
        return None

    def newest_time(self) -> int:
        """The largest time of the log clock that a shard's last segment knows of; 0 if none does."""
        found = (self.active_segment(name) for name in self._layout.all_shards())
        return max((each[0] for each in found if each is not None), default=0)

    def gone(self, name: ShardName, first: int) -> None:
        """Note that a shard's oldest segment was evicted."""
        names = self._listed.get(name)
        if names and names[-1] == first:
            names.pop()

    def forget(self, name: ShardName) -> None:
        """List a shard anew when it is next asked for."""
        self._listed.pop(name, None)

    def _names(self, name: ShardName, min_files: int) -> list[int]:
        names = self._listed.get(name)
        if names is None or len(names) < max(min_files, 1) + _FEW_FILES or not self._exists(name, names[-1]):
            names = self._listed[name] = self._layout.shard(name).segments()[::-1]
        return names

    def _exists(self, name: ShardName, first: int) -> bool:
        """Whether a segment is still there: if the oldest is, then all that were listed with it are."""
        try:
            self._door.status(self._path(name, first))
        except FileNotFoundError:
            return False
        return True

    def _sealed(self, name: ShardName, names: list[int]) -> Iterator[Sealed]:
        """The closed segments, oldest first; ``names`` gets shorter by those that are gone."""
        while len(names) > 1:
            first, end = names[-1], names[-2]
            try:
                status = self._door.status(self._path(name, first))
            except FileNotFoundError:
                # Somebody who takes no lock was here.
                names.pop()
                continue
            except OSError:
                return
            yield Sealed(first, end, self._closed(name, names), status.allocated)
            self.gone(name, first)

    def _closed(self, name: ShardName, names: list[int]) -> int:
        """When the oldest segment was closed: when the next one, or the first behind it that can tell, was begun."""
        for first in reversed(names[:-1]):
            begun = self._begun(name, first)
            if begun:
                return begun
        return 0

    def _begun(self, name: ShardName, first: int) -> int:
        try:
            segment = SegmentFile(self._door, self._path(name, first))
        except (OSError, CometError):
            return 0
        segment.close()
        return segment.header.created_log_ns if segment.header is not None else 0

    def _size(self, name: ShardName, names: list[int]) -> int:
        total = 0
        for first in names:
            with contextlib.suppress(FileNotFoundError):
                total += self._door.status(self._path(name, first)).allocated
        return total

    def _path(self, name: ShardName, first: int) -> str:
        return self._layout.shard(name).segment(first)
