"""Appending to a shard that this process owns for as long as the writer lives.

One append call is one frame and one publication. Under the shard's thread lock the frame is copied into the active
segment, then published by one store of the log position into the state page. Asynchronous exceptions (a signal handler
that raises) arise at calls; none stands between that store and the one of the new cursor, so an append is stopped
before its publication or behind it, never in between. Where stores are calls (``pwrite``), an append that finds page
and cursor apart looks into it first (:meth:`ShardWriter._check`).
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from types import FrameType

from comet_storage._format.checksum import GIL_KEEPING_BYTES, crc32
from comet_storage._format.frame import pack_check, pack_head
from comet_storage._format.limits import FRAME_HEADER_BYTES, aligned
from comet_storage._format.segment_header import SegmentHeader
from comet_storage._format.state_page import (
    ACTIVE_SEGMENT,
    ALLOCATED,
    GENERATION,
    HINT_NUMBER,
    HINT_POSITION,
    MAGIC_WORD,
    PAGE_MAGIC,
    PUBLISHED,
)
from comet_storage._os.door import as_storage_error, storage_errors
from comet_storage._segment.active import SINGLES_PER_LIMIT, STEP_BYTES_MAX, ActiveSegment, LargeBody
from comet_storage._segment.file import Frame, SegmentFile
from comet_storage._segment.opening import PreparedSegment, begin_segment, prepare_segment
from comet_storage._shard.batch import body_checksum, check_batch, pack_batch
from comet_storage._shard.claim import (
    OWNER_WAIT,
    Claim,
    claim_shard,
    recover_shard,
    segment_capacity,
)
from comet_storage._shard.context import ShardContext
from comet_storage._shard.page import Words, WriterPage
from comet_storage.errors import CometError, LogBusyError, LogMovedError, ReentrantAppendError, ShardLostError
from comet_storage.types import MessageIDs, message_ids

CLOSING_SEGMENTS_MAX = 4
"""Closed segments that may wait for the flusher; beyond that the append path finishes them itself."""


SMALL_ENTRY_BYTES = 4096
"""Single entries up to this size take the shortest path: no system call, and the GIL is kept."""

_FIRST_WAIT = 20e-6
_LONGEST_WAIT = 1e-3


class ShardWriter:
    """The one writer of a shard.

    Raises (on construction):
        ShardOwnedError: another live writer owns the shard.
        StorageIOError: the operating system refused.
    """

    shared = False
    """Whether several processes append to the shard, so that each append has to take its lock."""

    def __init__(self, context: ShardContext, *, wait: float = OWNER_WAIT) -> None:
        self.context = context
        self._wait = wait
        self.name = context.name
        self.failure: CometError | None = None
        self.closing: deque[ActiveSegment] = deque()
        self._settings = context.settings
        self._now = context.door.wall_clock_ns
        self._sync_each_append = context.settings.sync_each_append
        self._shard_id = context.name.shard_id
        self._small = min(SMALL_ENTRY_BYTES, context.settings.max_entry_bytes)
        self._busy = False
        self._turn_of = 0
        self._rotating = False
        self._prepared: PreparedSegment | None = None
        with storage_errors(context.layout.directory):
            self._adopt(self._claim())

    def _claim(self) -> Claim:
        return claim_shard(self.context, self._wait)

    def _adopt(self, claim: Claim) -> None:
        self.file_lock = claim.lock
        self.page = claim.page
        self.generation = claim.generation
        self.ceiling = claim.ceiling
        self.active = claim.active
        self._words: Words = claim.page.words
        self._rotating = False

    # The append path.

    def append(self, entries: Sequence[object]) -> MessageIDs:
        """Store entries as one publication and return their ids.

        Raises:
            CometError: one of its kinds; nothing was stored.
        """
        try:
            count = len(entries)
            small = count == 1 and type(entries[0]) is bytes and len(entries[0]) <= self._small
        except (TypeError, LookupError):
            check_batch(entries)
            raise
        body: bytes | LargeBody
        if small:
            body = entries[0]  # type: ignore[assignment]  # it is bytes
            length = len(body)
        elif count:
            body = pack_batch(entries, self._settings)
            length = len(body) if isinstance(body, bytes) else body.length
        else:
            return message_ids(self._shard_id, 0, 0)
        # Test and set without a call in between, so that no other thread and no signal handler can come between;
        # a lock's acquire and release would cost 250 ns more.
        while True:
            if not self._busy:
                self._busy = True
                break
            self._wait_for_turn()
        try:
            if self.shared:
                self._enter()
            active = self.active
            words = self._words
            offset, number = active.cursor
            if words[PUBLISHED] != offset + active.delta or words[GENERATION] != self.generation:
                self._check()
                active, words = self.active, self._words
                offset, number = active.cursor
            stop = offset + FRAME_HEADER_BYTES + length
            if stop > active.limit or (count > 1 and number + count > active.number_limit):
                active = self._make_room(length, count)
                words = self._words
                offset, number = active.cursor
                stop = offset + FRAME_HEADER_BYTES + length
            salt = active.salt
            checksum = crc32(body, salt) if length <= GIL_KEEPING_BYTES else body_checksum(body, salt)
            head = pack_head(length, checksum, number ^ active.mask, self._now(), count)
            head += pack_check(crc32(head, salt ^ offset))
            if length <= SMALL_ENTRY_BYTES:
                active.data[offset:stop] = head + body  # type: ignore[operator]  # bytes: large bodies are larger
            else:
                active.store(offset, head, body)
            if self._sync_each_append:
                self.context.door.sync_data(active.fd)
            end = (stop + 7) & -8
            position = end + active.delta
            cursor = (end, number + count)
            # From here to the cursor nothing is called: both stores are made, or neither.
            words[PUBLISHED] = position
            active.cursor = cursor
            words[HINT_NUMBER] = number + count
            words[HINT_POSITION] = position
        except OSError as error:
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

    # The slow path: room, rotation, doubts.

    def _make_room(self, length: int, count: int) -> ActiveSegment:
        """Return the segment in which a body of ``length`` bytes fits at the cursor."""
        if self.failure is not None:
            raise self.failure
        size = aligned(FRAME_HEADER_BYTES + length)
        if self._rotating:
            self._reload()
        active = self.active
        if not active.fits(size):
            active = self._rotate(size)
        # First the ceiling, then the limit that lets the fast path go on: no number is given out above it.
        ceiling = self.ceiling.ensure(self.page, active.cursor[1] + count + SINGLES_PER_LIMIT, count)
        active.number_limit = ceiling - SINGLES_PER_LIMIT
        active.make_room(size, self.context.reserve)
        self._words[ALLOCATED] = active.allocated
        if active.wants_growth():
            self.context.wake()
        return active

    def grow_ahead(self) -> None:
        """Preallocate before an append has to; called by the flusher, while appends go on.

        Raises:
            LogFullError: there is no room; the append that needs it will say so.
        """
        door = self.context.door
        active = self.active
        start = active.allocated
        target = min(start + active.step, active.capacity)
        if self.shared or self.failure is not None:
            return
        if start >= active.capacity:
            self._prepare_ahead()
        if target <= start or start - active.cursor[0] >= active.step:
            return
        # By a descriptor of its own: the append path may close the segment's meanwhile.
        try:
            fd = door.open(self.context.layout.segment(active.first_entry), write=True)
        except FileNotFoundError:
            return
        try:
            with storage_errors(self.context.layout.directory):
                self.context.reserve(target - start, lambda: door.allocate(fd, start, target - start))
        finally:
            door.close(fd)
        with self.exclusive() as current:
            if current is active and active.allocated < target:
                active.allocated = target
                active.step = min(2 * active.step, STEP_BYTES_MAX)
                self._words[ALLOCATED] = target

    def end(self) -> tuple[int, int, int]:
        """First entry of the active segment, and position and number of its end."""
        active = self.active
        offset, number = active.cursor
        return active.first_entry, offset + active.delta, number

    def recording(self) -> contextlib.AbstractContextManager[object]:
        """Keep others from writing durable slots."""
        return self.ceiling.lock

    def _rotate(self, size: int) -> ActiveSegment:
        """Go on in a new segment.

        1. The old segment is stopped: its limit is 0. An exception from here on makes the next append reload.
        2. The page names the new segment, so that no other process of a shared shard goes on in the old one. A crash
           leaves the name of a segment that does not exist, and the next process finds the end anew.
        3. The new segment gets its header and name (:func:`begin_segment`). A crash leaves an empty last segment.
        4. It becomes the active one. The old one waits to be finished; a crash leaves it untrimmed.
        """
        old = self.active
        offset, number = old.cursor
        self._rotating = True
        old.limit = 0
        layout = self.context.layout
        self._words[ALLOCATED] = 0
        self._words[ACTIVE_SEGMENT] = number
        prepared = self._take_prepared(segment_capacity(self._settings.segment_size, size), old.step)
        header = SegmentHeader(
            log_id=self._settings.log_id,
            salt=prepared.salt,
            first_entry=number,
            base_position=offset + old.delta,
            lost_from=number,
            lost_total=old.header.lost_total,
            capacity=prepared.capacity,
            created_ns=self._now(),
            shard_name=str(self.name),
        )
        new = begin_segment(prepared, layout.segment(number), header)
        new.step = old.step
        if self._sync_each_append:
            # What is synced later must not be lost with its name or its header.
            self.context.door.sync_data(new.fd)
            self.context.door.sync_directory(layout.directory)
        self.active = new
        self._rotating = False
        old.mark_end()
        self.closing.append(old)
        if len(self.closing) > CLOSING_SEGMENTS_MAX:
            self.finish_closed()
        return new

    def _take_prepared(self, capacity: int, step: int) -> PreparedSegment:
        """The file that the flusher prepared, if it is large enough, or a new one."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared.capacity == capacity:
            return prepared
        if prepared is not None:
            prepared.discard()
        return prepare_segment(
            self.context.door,
            self.context.layout.prepared,
            capacity,
            mapped=self._settings.mapped,
            reserve=self.context.reserve,
            step=step,
        )

    def _prepare_ahead(self) -> None:
        """Prepare the next segment when the active one is half used up."""
        active = self.active
        if self._prepared is not None or active.capacity - active.cursor[0] > active.capacity // 2:
            return
        prepared = prepare_segment(
            self.context.door,
            self.context.layout.prepared_ahead,
            segment_capacity(self._settings.segment_size, 0),
            mapped=self._settings.mapped,
            reserve=self.context.reserve,
            step=active.step,
        )
        with self.exclusive():
            self._prepared, prepared = prepared, self._prepared
        if prepared is not None:
            prepared.discard()

    def rotate(self) -> None:
        """Close the active segment if it holds entries, so that it can be evicted.

        Raises:
            CometError: the writer is lost or closed, or there is no room for a new segment.
        """
        with self.exclusive() as active:
            if active.cursor[1] > active.first_entry:
                self._rotate(0)

    def finish_closed(self) -> None:
        """Give closed segments their index and trim them. Safe to call from several threads."""
        while self.closing:
            try:
                segment = self.closing.popleft()
            except IndexError:
                return
            try:
                freed = segment.finish()
            finally:
                segment.close()
            self.context.release(freed)

    def _enter(self) -> None:
        """Take the shard from other processes for one append; the owner of a shard has no need to."""

    def _leave(self) -> None:
        """Give it back."""

    def _wait_for_turn(self) -> None:
        """Return when the append that is under way has ended; the caller tests and sets, with no call in between.

        Raises:
            ReentrantAppendError: it is this thread's own, further up its stack.
            LogBusyError: it did not end within the lock timeout.
        """
        # Whoever has a turn works in a ``with`` block, so its frame does not tell.
        reentrant = self._turn_of == threading.get_ident()
        frame = sys._getframe(1)  # noqa: SLF001 - the only way to see whether this thread is inside an append
        caller: FrameType | None = frame.f_back
        while caller is not None and not reentrant:
            reentrant = caller.f_code in _BUSY_CODE and caller.f_locals.get("self") is self
            caller = caller.f_back
        if reentrant:
            raise ReentrantAppendError(
                f"append to {self.name} from inside an append to it by the same thread; nothing was stored"
            )
        door = self.context.door
        deadline = door.monotonic() + self._settings.lock_timeout
        wait = _FIRST_WAIT
        while self._busy:
            if door.monotonic() >= deadline:
                raise LogBusyError(f"another thread's append to {self.name} has not ended; nothing was stored")
            door.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Keep this process's appends to the shard out."""
        while True:
            if not self._busy:
                self._busy = True
                break
            self._wait_for_turn()
        try:
            self._turn_of = threading.get_ident()
            yield
        finally:
            self._turn_of = 0
            self._busy = False

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[ActiveSegment]:
        """The active segment while nobody, in any process, appends to the shard.

        Raises:
            CometError: the writer is closed or lost.
        """
        with self.turn(), storage_errors(self.context.layout.directory):
            if self.failure is not None:
                raise self.failure
            yield self.active

    def close_segment(self) -> None:
        """On closing: give back unused blocks and record that nothing can be lost any more. The lock is held."""
        active = self.active
        if self._prepared is not None:
            self.context.release(self._prepared.allocated)
            self._prepared.discard()
            self._prepared = None
        self.context.release(active.trim())
        self.ceiling.lower(self.page, active.cursor[1])
        self.page.sync()

    def _reload(self) -> None:
        """Find the end anew, after an exception in the middle of a rotation."""
        old_page, old_active = self.page, self.active
        self._adopt(recover_shard(self.context, self.file_lock))
        old_active.close()
        old_page.close()

    def look_at_page(self) -> None:
        """Notice a page or lock that was damaged, replaced or removed. Keeps no append out unless something is wrong.

        Raises:
            ShardLostError, LogMovedError: the shard is not this writer's any more.
        """
        if not (self._page_is_sane() and self.page.is_named() and self.file_lock.is_named()):
            with self.exclusive():
                if not (self._page_is_sane() and self.page.is_named() and self.file_lock.is_named()):
                    self._check()

    def _page_is_sane(self) -> bool:
        active, words = self.active, self._words
        # The cursor first: it never runs ahead of what is published.
        position = active.cursor[0] + active.delta
        return words[PUBLISHED] >= position and words[GENERATION] == self.generation and words[MAGIC_WORD] == PAGE_MAGIC

    def _check(self) -> None:
        """Page and cursor differ: an append was interrupted, the page is damaged, or the shard is lost."""
        self.look_for_loss()
        identity = self.page.identity()
        claimed = self._words[GENERATION] if self._words[MAGIC_WORD] == PAGE_MAGIC else self.generation
        if claimed != self.generation or (identity is not None and identity.generation > self.generation):
            # Nobody else can have had the lock: an exception cut this writer's own recovery short.
            self._reload()
        elif not self._advance_cursor():
            self.restore_page()

    def look_for_loss(self) -> None:
        """Find out whether this writer still owns the shard.

        Raises:
            ShardLostError, LogMovedError: it does not; every later append raises the same.
        """
        if self.failure is not None:
            raise self.failure
        failure: CometError | None = None
        if not self.context.layout.exists():
            failure = LogMovedError(f"{self.context.layout.directory} is gone; nothing was stored")
        elif not self.file_lock.is_named():
            failure = ShardLostError(f"the lock file of shard {self.name} was deleted or replaced; nothing was stored")
        if failure is not None:
            self.active.limit = 0
            self.failure = failure
            raise failure

    def _advance_cursor(self) -> bool:
        """Adopt an append that was published and then interrupted. False if there is none."""
        active = self.active
        published = self._words[PUBLISHED]
        offset, number = active.cursor
        end = published - active.delta
        sane = self._words[MAGIC_WORD] == PAGE_MAGIC and self._words[GENERATION] == self.generation
        if not sane or not offset < end <= active.allocated:
            return False
        segment = SegmentFile(self.context.door, self.context.layout.segment(active.first_entry))
        try:
            for found in segment.walk(offset, end, number):
                if not isinstance(found, Frame):
                    return False
                offset = found.offset + found.header.size
                number = found.header.first_entry + found.header.count
        finally:
            segment.close()
        active.cursor = (offset, number)
        return offset == end

    def restore_page(self) -> None:
        """Write the page anew, in its place, from what this writer knows."""
        if not self.page.is_named():
            old = self.page
            self.page = WriterPage(
                self.context.door,
                self.context.layout.state_page,
                mapped=self._settings.mapped,
                reserve=self.context.reserve,
            )
            self._words = self.page.words
            old.close()
        active = self.active
        offset, number = active.cursor
        self.page.write_identity(self.page.make_identity(self.generation))
        self.page.write_durable(self.ceiling.durable)
        # The ceiling is relied on from here on, so it must be where a power cut cannot take it away.
        self.page.sync()
        self.context.door.sync_directory(self.context.layout.directory)
        self.page.publish(
            offset + active.delta,
            number,
            generation=self.generation,
            active=active.first_entry,
            allocated=active.allocated,
            ceiling=self.ceiling.durable.ceiling,
        )

    def release(self, failure: CometError) -> None:
        """Let go of descriptors, maps and lock as they are, as a crash would. Later appends raise ``failure``."""
        self.failure = failure
        self._words = _ReleasedWords()
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.close()
        self.active.close()
        while self.closing:
            self.closing.popleft().close()
        self.page.close()
        self.file_lock.close()


class _ReleasedWords:
    """The hot words of a writer that let go of its page: equal to nothing, so that an append looks for the reason."""

    def __getitem__(self, index: int) -> int:
        return -1

    def __setitem__(self, index: int, value: int) -> None:
        raise ValueError("the state page was released")

    def release(self) -> None:
        """Already released."""


_BUSY_CODE = frozenset({ShardWriter.append.__code__, ShardWriter.turn.__wrapped__.__code__})  # type: ignore[attr-defined]
"""Where a writer is busy: found on a thread's own stack, waiting for the end would be for ever."""
