"""A shard that this process has claimed: its lock, page and active segment, and what to do when they are in doubt."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from types import CodeType

from comet_storage._format.state_page import GENERATION, MAGIC_WORD, PAGE_MAGIC, PUBLISHED
from comet_storage._os.door import storage_errors
from comet_storage._segment.active import ActiveSegment
from comet_storage._segment.file import Frame, SegmentFile
from comet_storage._segment.opening import PreparedSegment
from comet_storage._shard.claim import OWNER_WAIT, Claim, claim_shard, recover_shard
from comet_storage._shard.context import ShardContext
from comet_storage._shard.counters import WriterCounters
from comet_storage._shard.guard import Guard
from comet_storage._shard.page import Words, WriterPage
from comet_storage._shard.sync_state import SyncState
from comet_storage._shard.turns import Turns
from comet_storage.errors import CometError, LogMovedError, ShardLostError


class ClaimedShard(Turns):
    """What a writer holds on to, and how it finds out that it does not any more.

    Raises (on construction):
        ShardOwnedError: another live writer owns the shard.
        StorageIOError: the operating system refused.
    """

    shared = False
    """Whether several processes append to the shard, so that each append has to take its lock."""

    def __init__(self, context: ShardContext, append_code: CodeType, wait: float = OWNER_WAIT) -> None:
        super().__init__(context, append_code)
        self.failure: CometError | None = None
        self.sync_state = SyncState()
        self.counters = WriterCounters()
        self.flushed_at = context.door.monotonic()
        self.closing: deque[ActiveSegment] = deque()
        self._settings = context.settings
        self._wait = wait
        self._rotating = False
        self._prepared: PreparedSegment | None = None
        self._guard: Guard | None = None
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
        self._guard = claim.guard or self._guard
        self._use_words(claim.page.words)
        self._rotating = False

    def _use_words(self, words: Words) -> None:
        self._words = words
        # Then an exception can come between a publication and the new cursor, and the next append has to look.
        self._stores_are_calls = not isinstance(words, memoryview)

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

    def end(self) -> tuple[int, int, int]:
        """First entry of the active segment, and position and number of its end."""
        active = self.active
        offset, number = active.cursor
        return active.first_entry, offset + active.delta, number

    def is_unflushed(self) -> bool:
        """Whether a power cut would take something that is published."""
        try:
            durable = self.page.durable()
            published = self._words[PUBLISHED]
        except (OSError, ValueError):
            return True
        return durable is None or durable.position < published

    def recording(self) -> contextlib.AbstractContextManager[object]:
        """Keep others from writing durable slots."""
        return self.ceiling.lock

    def close_segment(self) -> None:
        """On closing: give back unused blocks and record that nothing can be lost any more. The lock is held."""
        active = self.active
        if self._prepared is not None:
            self.context.release(self._prepared.discard)
            self._prepared = None
        self.context.release(active.trim)
        self.ceiling.lower(self.page, active.cursor[1])
        self.page.sync()

    def _reload(self) -> None:
        """Find the end anew, after an exception in the middle of a rotation."""
        old_page, old_active = self.page, self.active
        old_active.stop_growth(self._settings.lock_timeout)
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
            # Nothing is under way, and nothing will be stored any more: whoever waits for the shard may have it.
            self._free_guard()
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
            self._use_words(self.page.words)
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
        self._use_words(_ReleasedWords())
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.close()
        self.active.close()
        while self.closing:
            self.closing.popleft().close()
        self.page.close()
        self._free_guard()
        self.file_lock.close()

    def _free_guard(self) -> None:
        if self._guard is not None:
            self._guard.close()

    def _enter(self) -> None:
        """Take the shard from other processes for one append; the owner of a shard has no need to."""

    def _leave(self) -> None:
        """Give it back."""


class _ReleasedWords:
    """The hot words of a writer that let go of its page: equal to nothing, so that an append looks for the reason."""

    def __getitem__(self, index: int) -> int:
        return -1

    def __setitem__(self, index: int, value: int) -> None:
        raise ValueError("the state page was released")

    def release(self) -> None:
        """Already released."""
