"""Who lost what, and when: small files beside the segments, one for a shard and one for each group that lost anything.

They tell numbers and times; what became of every number of a group is derived without them (P1). Nobody but who holds
the ledger writes them.
"""

from __future__ import annotations

import contextlib

from comet_storage._format.eviction_history import (
    HISTORY_FILE_BYTES,
    HISTORY_SLOT_BYTES,
    REASONS,
    EvictedRange,
    History,
    decode_history,
    encode_history_slot,
    with_range,
)
from comet_storage._groups.tracker import Tracker
from comet_storage._log.layout import LogLayout
from comet_storage._log.space import SpaceLedger
from comet_storage._os.door import Door
from comet_storage._retention.policy import Reason
from comet_storage._retention.survey import Survey
from comet_storage.errors import LogFullError
from comet_storage.names import ShardName

_FILE = "evicted"


class Histories:
    """Reads and writes the histories of one log."""

    def __init__(self, door: Door, layout: LogLayout, ledger: SpaceLedger, survey: Survey) -> None:
        self._door = door
        self._layout = layout
        self._ledger = ledger
        self._survey = survey

    def record(self, name: ShardName, first: int, end: int, reason: Reason) -> bool:
        """Note that the numbers ``[first, end)`` go now. False if there is no block for a file that is missing."""
        bit = 1 << REASONS.index(reason)
        now = max(0, self._door.wall_clock_ns())
        complete = self._add(self.path(name), EvictedRange(first, end, end - first, now, now, bit))
        for group in self._layout.groups(name.stream):
            lost = Tracker(self._survey.record(name, group)).wanted(first, end)
            if lost:
                count = sum(behind - number for number, behind in lost)
                new = EvictedRange(lost[0][0], lost[-1][1], count, now, now, bit)
                complete = self._add(self.path(name, group), new) and complete
        return complete

    def read(self, name: ShardName, group: str | None = None) -> History:
        """What was evicted of a shard, or of what a group had still to acknowledge then."""
        try:
            fd = self._door.open(self.path(name, group))
        except FileNotFoundError:
            return ()
        try:
            found = decode_history(self._door.read(fd, HISTORY_FILE_BYTES, 0))
        finally:
            self._door.close(fd)
        return found[1] if found else ()

    def path(self, name: ShardName, group: str | None = None) -> str:
        """Path of a history."""
        return f"{self._layout.shard(name).directory}/{_FILE}{'' if group is None else '-' + group}"

    def _add(self, path: str, new: EvictedRange) -> bool:
        fd = self._door.open(path, write=True, create=True)
        try:
            if self._door.descriptor_status(fd).allocated < HISTORY_FILE_BYTES:
                with contextlib.suppress(LogFullError):
                    self._ledger.reserve(HISTORY_FILE_BYTES, lambda: self._door.allocate(fd, 0, HISTORY_FILE_BYTES))
                if self._door.descriptor_status(fd).allocated < HISTORY_FILE_BYTES:
                    return False
            sequence, history = decode_history(self._door.read(fd, HISTORY_FILE_BYTES, 0)) or (0, ())
            longer = with_range(history, new)
            if longer != history:
                slot = encode_history_slot(sequence + 1, longer)
                self._door.write(fd, slot, (sequence + 1) % 2 * HISTORY_SLOT_BYTES)
            return True
        finally:
            self._door.close(fd)
