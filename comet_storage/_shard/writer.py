"""Appending to a shard that this process owns for as long as the writer lives.

One append call is one frame and one publication. In its thread's turn the frame is copied into the active
segment, then published by one store of the log position into the state page. Asynchronous exceptions (a signal handler
that raises) arise at calls; none stands between that store and the one of the new cursor, so an append is stopped
before its publication or behind it, never in between. Where stores are calls (``pwrite``), an append that finds page
and cursor apart looks into it first (:meth:`ShardWriter._check`).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from comet_storage._format.checksum import crc32
from comet_storage._format.frame import frame_packers, pack_check, pack_head
from comet_storage._format.limits import FRAME_HEADER_BYTES, aligned
from comet_storage._format.segment_header import SegmentHeader
from comet_storage._format.state_page import (
    ACTIVE_SEGMENT,
    ALLOCATED,
    GENERATION,
    HINT_NUMBER,
    HINT_POSITION,
    PUBLISHED,
)
from comet_storage._os.door import as_storage_error
from comet_storage._segment.active import (
    SINGLES_PER_LIMIT,
    ActiveSegment,
)
from comet_storage._segment.opening import begin_segment, reopen_segment
from comet_storage._shard.batch import body_checksum, check_batch, pack_batch
from comet_storage._shard.claim import OWNER_WAIT, segment_capacity
from comet_storage._shard.context import ShardContext
from comet_storage._shard.counters import WriterCounters
from comet_storage._shard.growing import GrowingShard
from comet_storage._shard.replacement import replace_segment
from comet_storage.errors import CometError, ShardLostError
from comet_storage.types import MessageIDs, message_ids

CLOSING_SEGMENTS_MAX = 4
"""Closed segments that may wait for the flusher; beyond that the append path finishes them itself."""

SMALL_ENTRY_BYTES = 4096
"""Single entries up to this size take the shortest path: no system call, and the GIL is kept."""


class ShardWriter(GrowingShard):
    """The one writer of a shard.

    Raises (on construction):
        ShardOwnedError: another live writer owns the shard.
        StorageIOError: the operating system refused.
    """

    def __init__(self, context: ShardContext, *, wait: float = OWNER_WAIT) -> None:
        self._now = context.door.wall_clock_ns
        self._sync_each_append = context.settings.sync_each_append
        # Several processes take turns by a file lock, so their appends cannot share a sync (see DurableShardWriter).
        self._sync_in_turn = self._sync_each_append and self.shared
        self._shard_id = context.name.shard_id
        self._small = min(SMALL_ENTRY_BYTES, context.settings.max_entry_bytes)
        if (min_size := context.settings.compression.min_size) is not None:
            self._small = min(self._small, min_size - 1)
        super().__init__(context, ShardWriter.append.__code__, wait)
        self._first_position = self._seen_position

    def append(self, entries: Sequence[object]) -> MessageIDs:
        """Store entries as one publication and return their ids.

        Raises:
            CometError: one of its kinds; nothing was stored.
        """
        try:
            count = len(entries)
            # What becomes the frame's body: an entry, bytes or not, and then one or the other kind of packed body.
            body: Any = entries[0] if count == 1 else None
        except (TypeError, LookupError):
            check_batch(entries)
            raise
        if type(body) is bytes and (length := len(body)) <= self._small:
            kind = 1
        elif count:
            body, length, kind = pack_batch(entries, self._settings)
        else:
            return message_ids(self._shard_id, 0, 0)
        # Test and set without a call in between: no other thread and no signal handler can come in (see Turns).
        while True:
            if not self._busy:
                self._busy = True
                break
            self._wait_for_turn()
        try:
            if self.shared:
                self._enter()
            elif self._words[GENERATION] != self.generation or self._stores_are_calls:
                self._look_before_append()
            words = self._words
            active = self.active
            offset, number = active.cursor
            stop = offset + FRAME_HEADER_BYTES + length
            following = number + count
            if stop > active.limit or (count > 1 and following > active.number_limit):
                active = self._make_room(length, count)
                words = self._words
                offset, number = active.cursor
                stop = offset + FRAME_HEADER_BYTES + length
                following = number + count
            salt = active.salt
            if length <= SMALL_ENTRY_BYTES:
                head = pack_head(length, crc32(body, salt), number ^ active.mark, self._now(), kind)
                active.data[offset:stop] = frame_packers[length](head, crc32(head, salt ^ offset), body)
            else:
                head = pack_head(length, body_checksum(body, salt), number ^ active.mark, self._now(), kind)
                active.store(offset, head + pack_check(crc32(head, salt ^ offset)), body)
            if self._sync_in_turn:
                self._sync_active(offset, stop)
            end = (stop + 7) & -8
            position = end + active.delta
            cursor = (end, following)
            # From here to the cursor nothing is called: both stores are made, or neither.
            words[PUBLISHED] = position
            active.cursor = cursor
            words[HINT_NUMBER] = following
            words[HINT_POSITION] = position
        except OSError as error:
            if error.errno == errno.ENOENT:
                self.look_for_loss()
            raise as_storage_error(error, self.context.layout.directory) from error
        finally:
            try:
                if self.shared:
                    self._leave()
            finally:
                self._busy = False
        ids = MessageIDs()
        ids.shard_id = self._shard_id
        ids.first = number
        ids.size = count
        return ids

    def _look_before_append(self) -> None:
        active, words = self.active, self._words
        if words[GENERATION] != self.generation or words[PUBLISHED] != active.cursor[0] + active.delta:
            self._check()

    def _make_room(self, length: int, count: int) -> ActiveSegment:
        """Return the segment in which a body of ``length`` bytes fits at the cursor."""
        if self.failure is not None:
            raise self.failure
        if self.sync_state.refusal is not None:
            raise self.sync_state.refusal
        size = aligned(FRAME_HEADER_BYTES + length)
        if self._rotating:
            self._reload()
        active = self.active
        if not active.fits(size):
            active = self._rotate(size)
        # First the ceiling, then the limit that lets the fast path go on: no number is given out above it.
        ceiling = self.ceiling.ensure(self.page, active.cursor[1] + count + SINGLES_PER_LIMIT, count)
        active.number_limit = ceiling - SINGLES_PER_LIMIT
        active.make_room(size, self.context.reserve, self._settings.lock_timeout)
        self._words[ALLOCATED] = active.allocated
        if active.wants_growth():
            self.context.wake()
        return active

    def counted(self) -> WriterCounters:
        """What this writer has done since it claimed the shard. In shared mode others' appends are in the bytes."""
        offset, _ = self.active.cursor
        stored = max(0, offset + self.active.delta - self._first_position)
        return replace(self.counters, stored_bytes=stored, sync_failures=self.sync_state.failures)

    def _rotate(self, size: int) -> ActiveSegment:
        """Go on in a new segment.

        1. The old segment is stopped: its limit is 0. An exception from here on makes the next append reload.
        2. The page names the new segment, so that no other process of a shared shard goes on in the old one. A crash
           leaves the name of a segment that does not exist, and the next process finds the end anew.
        3. The new segment gets its header and name (:func:`begin_segment`). A crash leaves an empty last segment.
        4. It becomes the active one. The old one waits to be finished; a crash leaves it untrimmed.
        """
        if not self.file_lock.is_named():
            # Names made from here on would be made in whatever directory is in this one's place.
            self.look_for_loss()
        old = self.active
        old.stop_growth(self._settings.lock_timeout)
        offset, number = old.cursor
        self._rotating = True
        old.limit = 0
        door, layout = self.context.door, self.context.layout
        door.failpoint("rotate.before_page")
        self._words[ALLOCATED] = 0
        self._words[ACTIVE_SEGMENT] = number
        door.failpoint("rotate.before_prepare")
        prepared = self._take_prepared(segment_capacity(self._settings.segment_size, size), old.step)
        # In a child that was forked in the middle of this, the segment is the parent's to begin.
        self._check_kept()
        header = SegmentHeader(
            log_id=self._settings.log_id,
            salt=prepared.salt,
            first_entry=number,
            base_position=offset + old.delta,
            # An empty segment is replaced by one of the same name, which has to tell of the same loss.
            lost_from=old.header.lost_from if old.first_entry == number else number,
            lost_total=old.header.lost_total,
            capacity=prepared.capacity,
            created_ns=self._now(),
            shard_name=str(self.name),
            created_log_ns=self.context.log_time(),
        )
        new = begin_segment(prepared, layout.segment(number), header)
        if not self.file_lock.is_named():
            new.close()
            # In a child that was forked in the middle of this, the segment is the parent's, name and all.
            self._check_kept()
            if self._guard is not None and self._guard.is_displaced():
                # The name was given in a directory that took this one's place: whoever has that wants none of it. In
                # any other case another writer may be using the segment already.
                with contextlib.suppress(OSError):
                    door.unlink(layout.segment(number))
            self.look_for_loss()
            raise ShardLostError(f"the directory of shard {self.name} was moved meanwhile; nothing was stored")
        new.step = old.step
        if self._sync_each_append:
            # What is synced later must not be lost with its name or its header.
            door.sync_data(new.fd)
            door.sync_directory(layout.directory)
        door.failpoint("rotate.before_switch")
        self.active = new
        self._rotating = False
        self.counters.rotations += 1
        old.mark_end()
        self.closing.append(old)
        if len(self.closing) > CLOSING_SEGMENTS_MAX:
            self.finish_closed()
        return new

    def _check_kept(self) -> None:
        """Raise what ended this writer, if anything did."""
        if self.failure is not None:
            raise self.failure

    def _sync_active(self, offset: int, stop: int) -> None:
        try:
            self.context.door.sync_data(self.active.fd)
        except OSError as error:
            self.sync_state.count(error)
            # A recovery takes a whole frame behind the published ones for that of a writer that died.
            self.active.wipe(offset, stop)
            raise

    def replace_active(self) -> None:
        """Store the active segment again, in a new file, after a sync of it failed. In this writer's turn.

        Raises:
            OSError: the disk refused again; nothing changed.
        """
        if not self.file_lock.is_named():
            # The segment with this name may be another writer's by now.
            self.look_for_loss()
        old = self.active
        old.stop_growth(self._settings.lock_timeout)
        replace_segment(self.context, old.first_entry, old.cursor[0])
        new = reopen_segment(
            self.context.door,
            self.context.layout.segment(old.first_entry),
            old.header,
            old.cursor,
            mapped=self._settings.mapped,
            allocated=old.cursor[0],
        )
        new.points, new.step = old.points, old.step
        self._words[ALLOCATED] = new.allocated
        self.active = new
        if self.shared:
            # The other processes have the old file open, and must not go on in it.
            self._words[GENERATION] = self.generation = self.generation + 1
        old.close()
        self.sync_state.stored_again(old.first_entry)

    def refuse(self, error: OSError) -> None:
        """Have every append raise until what the disk refused is stored again."""
        self.sync_state.refusal = as_storage_error(error, self.context.layout.directory)
        with contextlib.suppress(CometError), self.turn():
            self.active.limit = 0

    def rotate(self, *, begun_before: int | None = None) -> None:
        """Close the active segment if it holds entries, and was begun before that time of the log clock.

        Raises:
            CometError: the writer is lost or closed, or there is no room for a new segment.
        """
        with self.exclusive() as active:
            if active.holds_entries(begun_before):
                self._rotate(0)

    def finish_closed(self) -> None:
        """Give closed segments their index and trim them. Safe to call from several threads."""
        while self.closing:
            try:
                segment = self.closing.popleft()
            except IndexError:
                return
            try:
                self.context.release(segment.finish)
            except BaseException:
                self.counters.index_errors += 1
                raise
            finally:
                segment.close()
