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
from comet_storage.names import ShardName, parse_stream

_ORPHANS_SECONDS = 1.0
"""How often shards are asked whether they still have a writer, where all that could go has gone."""
PINNED_SHARE = 8
"""This part of the bound may be taken by segments that were evicted while somebody had them open; of the others the
names go, and the blocks when they are closed."""
CHUNK = 16
"""Segments that go before the ledger is let go again, so that appends of others need not wait for all of them."""


class Evictor:
    """Deletes closed segments of one log.

    1. The shard's and its groups' histories say what goes. A crash leaves numbers in them that are still there; whoever
       reads them looks at the first segment, and the next eviction does not add them again.
    2. The segment gets a name that no reader looks for. A crash leaves that file, which counts like any other.
    3. If nobody has it open, it is unlinked; until then its blocks are taken, and a later eviction or pass, of any
       process, tries again. A crash behind that leaves the ledger too high until it is measured anew.
    4. The ledger goes down.
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
        self.finish_closed: Callable[[], None] = lambda: None
        """Lets go of this process's closed segments, which it has open until they are trimmed. Set by the engine."""
        self._pinned: list[str] = []

    def make_room(self, size: int, need: Need) -> None:
        """Delete segments until ``size`` bytes are free, or nothing is left that may go. The ledger's lock is held."""
        self.finish_closed()
        size -= self._let_go()
        if size <= 0:
            return
        size -= self._free(size, need)
        now = self._door.monotonic()
        if size > 0 and now - self._orphans_at >= _ORPHANS_SECONDS:
            self._orphans_at = now
            shards = list(self._layout.all_shards())
            for name in shards:
                self._find_pinned(name)
            closed = [self.close_orphan(name) for name in shards]
            if any(closed):
                size -= self._free(size, need)
        if size > 0:
            # Rather than refusing an append: what is left has its names removed, whoever has it open.
            self._let_go(at_most=0)

    def evict_overdue(self, name: ShardName, most: int = CHUNK) -> int:
        """Delete up to ``most`` segments of a shard that age or size condemn. Takes the ledger's lock.

        Returns:
            How many were deleted.

        Raises:
            StorageIOError, LogBusyError: the shard stays as it is.
        """
        done = 0
        with self._ledger.locked():
            self._find_pinned(name)
            self._let_go()
            for segment, reason in overdue(self._survey.shard(name, self.rules), self.rules, self._clock.now_ns()):
                self._evict(name, segment, reason)
                done += 1
                if done >= most:
                    break
        return done

    def shrink_stream(self, stream: str, limit: int) -> int:
        """Delete closed segments of one stream, oldest first, wanted or not, until they have at most ``limit`` bytes.

        Takes the ledger's lock.

        Returns:
            The bytes of its closed segments that are left.
        """
        rules = Rules(protect=False)
        names = [ShardName(*parse_stream(stream), shard_id) for shard_id in self._layout.shards(stream)]
        self.finish_closed()
        with self._ledger.locked():
            left = 0
            for name in names:
                self._survey.forget(name)
                left += sum(segment.allocated for segment in self._survey.shard(name, rules).sealed)
                self._survey.forget(name)
            shards = [self._survey.shard(name, rules) for name in names]
            for shard, segment in in_order_of_eviction(shards, rules, self._clock.now_ns(), for_bound=True):
                if left <= limit:
                    break
                if isinstance(shard.key, ShardName):
                    self._evict(shard.key, segment, "shard_size")
                    left -= segment.allocated
        return left

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
        self._door.failpoint("evict.before_rename")
        layout = self._layout.shard(name)
        aside = layout.pinned(segment.first)
        try:
            self._door.rename(layout.segment(segment.first), aside)
        except FileNotFoundError:
            return 0
        except OSError:
            # The directory has no room for one more name; whoever has the segment open holds its blocks uncounted.
            freed = self._unlink(layout.segment(segment.first))
        else:
            self._pinned.append(aside)
            freed = self._let_go()
        self._survey.gone(name, segment.first)
        if not recorded:
            with contextlib.suppress(OSError, CometError):
                self.histories.record(name, segment.first, segment.end, reason)
        return freed

    def _find_pinned(self, name: ShardName) -> None:
        """Find segments of a shard that another process set aside; it may have died since."""
        self._pinned += (path for path in self._layout.shard(name).all_pinned() if path not in self._pinned)

    def _let_go(self, at_most: int | None = None) -> int:
        """Unlink those evicted segments that nobody has open any more, and return how many bytes that gave.

        So that idle readers cannot take the log's room, at most so many bytes are kept for them.
        """
        at_most = self._ledger.bound // PINNED_SHARE if at_most is None else at_most
        pinned, self._pinned = self._pinned, []
        freed, kept = 0, 0
        for path in reversed(pinned):
            try:
                allocated = self._door.status(path).allocated
                if kept + allocated <= at_most and self._door.is_open_elsewhere(path):
                    kept += allocated
                    self._pinned.insert(0, path)
                else:
                    freed += self._unlink(path)
            except FileNotFoundError:
                continue
            except OSError:
                self._pinned.insert(0, path)
        return freed

    def _unlink(self, path: str) -> int:
        # Whoever wrote it may have trimmed it meanwhile.
        allocated = self._door.status(path).allocated
        self._door.failpoint("evict.before_unlink")
        self._door.unlink(path)
        self._door.failpoint("evict.after_unlink")
        self._ledger.freed(allocated)
        return allocated
