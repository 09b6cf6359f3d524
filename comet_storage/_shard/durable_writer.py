"""Appending to an owned shard with ``durability="always"``: an append returns, and readers see it, after a sync."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from comet_storage._format.limits import SEGMENT_HEADER_BYTES
from comet_storage._os.door import as_storage_error
from comet_storage._segment.active import ActiveSegment
from comet_storage._shard.claim import OWNER_WAIT
from comet_storage._shard.context import ShardContext
from comet_storage._shard.group_commit import GroupCommit, StagedWords
from comet_storage._shard.page import Words
from comet_storage._shard.writer import ShardWriter
from comet_storage.errors import CometError, LogMovedError, ShardLostError, StorageIOError
from comet_storage.types import MessageIDs


class DurableShardWriter(ShardWriter):
    """The one writer of a shard whose threads share their syncs.

    Raises (on construction):
        ShardOwnedError: another live writer owns the shard.
        StorageIOError: the operating system refused.
    """

    _words: StagedWords

    def __init__(self, context: ShardContext, *, wait: float = OWNER_WAIT) -> None:
        self._commits = GroupCommit(self._commit)
        super().__init__(context, wait=wait)

    def append(self, entries: Sequence[object]) -> MessageIDs:
        """Store entries as one publication, wait until they survive a power cut, and return their ids.

        Raises:
            CometError: one of its kinds; nothing was stored.
        """
        ids = super().append(entries)
        if ids.size:
            self._commits.wait()
        return ids

    def end(self) -> tuple[int, int, int]:
        """First entry of the active segment, and position and number of what is published."""
        with self.turn():
            return self.active.first_entry, self._words.published, self._words.published_number

    def restore_page(self) -> None:
        """Write the page anew; what it publishes has to be durable."""
        self.context.door.sync_data(self.active.fd)
        super().restore_page()
        self._use_words(self.page.words)
        self._commits.finish(self._words.published)

    def release(self, failure: CometError) -> None:
        """Let go of everything; appends that wait for the disk are told that they failed."""
        self._commits.fail(failure)
        super().release(failure)

    def _use_words(self, words: Words) -> None:
        super()._use_words(StagedWords(words, self._commits))

    def _commit(self) -> None:
        """Sync and publish everything stored by now, or take it back."""
        active = self.active
        offset, number = active.cursor
        try:
            self.context.door.sync_data(active.fd)
        except OSError as error:
            with self.turn():
                # A rotation meanwhile has synced what was in the segment before, and closed its descriptor.
                if self.active is active:
                    self._sync_failed(error)
            return
        with self.turn():
            self._publish(offset + active.delta, number)

    def _publish(self, position: int, number: int) -> None:
        self._words.publish(position, number)
        self._commits.finish(position)

    def _sync_failed(self, error: OSError) -> None:
        """Store again what the kernel may have dropped, or take it back. In this writer's turn."""
        active = self.active
        self.sync_state.count(error)
        offset, number = active.cursor
        try:
            self.replace_active()
        except (ShardLostError, LogMovedError) as lost:
            self._take_back(lost)
            return
        except OSError as second:
            self.sync_state.count(second)
            self._take_back(as_storage_error(error, self.context.layout.directory))
            active.cursor = (self._words.published - active.delta, self._words.published_number)
            # The next append finds the end anew, and begins a new segment if anything is left behind it.
            active.limit = 0
            self._rotating = True
            return
        self._publish(offset + active.delta, number)

    def _take_back(self, error: CometError) -> None:
        """Undo what is not published, and tell those who wait for it. In this writer's turn."""
        active = self.active
        start, stop = self._words.published - active.delta, active.cursor[0]
        if SEGMENT_HEADER_BYTES <= start < stop <= active.allocated:
            active.wipe(start, stop)
        self._words.take_back()
        self._commits.fail(error)

    def _rotate(self, size: int) -> ActiveSegment:
        """Go on in a new segment; nothing that waits for a sync stays behind in the old one."""
        offset, number = self.active.cursor
        try:
            self.context.door.sync_data(self.active.fd)
        except OSError as error:
            self._sync_failed(error)
            if self._rotating:
                raise
        else:
            self._publish(offset + self.active.delta, number)
        return super()._rotate(size)

    def _reload(self) -> None:
        """Find the end anew, without what was not durable."""
        self._take_back(
            StorageIOError(
                errno.EIO, f"shard {self.name} had to be recovered before this append was durable; nothing was stored"
            )
        )
        super()._reload()
