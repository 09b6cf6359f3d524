"""Deleting segments, under the ledger's lock: what the policy says, recorded, oldest first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from comet_storage._log.clock import LogClock
from comet_storage._log.layout import LogLayout
from comet_storage._log.space import Need, SpaceLedger
from comet_storage._os.door import Door
from comet_storage._retention.history import Histories
from comet_storage._retention.policy import Reason, Rules, Sealed, in_order_of_eviction, overdue
from comet_storage._retention.survey import Survey
from comet_storage.errors import CometError
from comet_storage.names import ShardName

_ORPHANS_SECONDS = 1.0
"""How often shards are asked whether they still have a writer, where all that could go has gone."""
CHUNK = 16
"""Segments that go before the ledger is let go again, so that appends of others need not wait for all of them."""


class Evictor:
    """Deletes closed segments of one log.

    1. The shard's and its groups' histories say what goes. A crash leaves numbers in them that are still there; whoever
       reads them looks at the first segment, and the next eviction does not add them again.
    2. The segment is unlinked. A crash leaves the ledger too high until it is measured anew.
    3. The ledger goes down.
    """

    def __init__(self, door: Door, layout: LogLayout, ledger: SpaceLedger, clock: LogClock, survey: Survey) -> None:
        self._door = door
        self._layout = layout
        self._ledger = ledger
        self._clock = clock
        self._survey = survey
        self._orphans_at = float("-inf")
        self.histories = Histories(door, layout, ledger, survey)
        self.rules = Rules()
        self.close_orphan: Callable[[ShardName], bool] = lambda _: False
        """Closes the active segment of a shard that nobody writes, so that it can be evicted. Set by the engine."""
        self.evicted_segments = 0

    def make_room(self, size: int, need: Need) -> None:
        """Delete segments until ``size`` bytes are free, or nothing is left that may go. The ledger's lock is held."""
        size -= self._free(size, need)
        now = self._door.monotonic()
        if size > 0 and now - self._orphans_at >= _ORPHANS_SECONDS:
            self._orphans_at = now
            closed = [self.close_orphan(name) for name in self._layout.all_shards()]
            if any(closed):
                self._free(size, need)

    def evict_overdue(self, name: ShardName, most: int = CHUNK) -> int:
        """Delete up to ``most`` segments of a shard that age or size condemn. Takes the ledger's lock.

        Returns:
            How many were deleted.

        Raises:
            StorageIOError, LogBusyError: the shard stays as it is.
        """
        done = 0
        with self._ledger.locked():
            for segment, reason in overdue(self._survey.shard(name, self.rules), self.rules, self._clock.now_ns()):
                self._evict(name, segment, reason)
                done += 1
                if done >= most:
                    break
        return done

    def _free(self, size: int, need: Need) -> int:
        """Delete closed segments until ``size`` bytes are free, and return how many are."""
        freed = 0
        shards = self._survey.shards(self.rules)
        now = self._clock.now_ns()
        for shard, segment in in_order_of_eviction(shards, self.rules, now, for_bound=need == "bound"):
            if isinstance(shard.key, ShardName):
                freed += self._evict(shard.key, segment, need)
            if freed >= size:
                break
        return freed

    def _evict(self, name: ShardName, segment: Sealed, reason: Reason) -> int:
        self._door.failpoint("evict.before_record")
        recorded = False
        with contextlib.suppress(OSError, CometError):
            # A disk that is too full for a record is one more reason to delete.
            recorded = self.histories.record(name, segment.first, segment.end, reason)
        self._door.failpoint("evict.before_unlink")
        try:
            self._door.unlink(self._layout.shard(name).segment(segment.first))
        except FileNotFoundError:
            return 0
        self._door.failpoint("evict.after_unlink")
        self._ledger.freed(segment.allocated)
        self.evicted_segments += 1
        if not recorded:
            with contextlib.suppress(OSError, CometError):
                self.histories.record(name, segment.first, segment.end, reason)
        return segment.allocated
