"""Appending to a shard that several processes write: the shard's lock is taken for each append call.

What others appended meanwhile is seen in the page: position, number, active segment and its allocated blocks. Any
doubt (a lost page, a word that is not zero where the next frame goes) means a full recovery under the lock.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from comet_storage._format.limits import SEGMENT_HEADER_BYTES
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
from comet_storage._os.door import LOCK_NOW, LOCK_UN, SEEK_CUR
from comet_storage._segment.active import ActiveSegment
from comet_storage._segment.file import Frame, SegmentFile
from comet_storage._segment.opening import reopen_segment
from comet_storage._shard.claim import Claim, open_lock, recover_shard
from comet_storage._shard.context import ShardContext
from comet_storage._shard.guard import take_guard
from comet_storage._shard.writer import ShardWriter
from comet_storage.errors import CorruptLogError, LogBusyError, ShardOwnedError

_WORD_BYTES = 8
_EMPTY_WORD = bytes(_WORD_BYTES)


class SharedShardWriter(ShardWriter):
    """One of several writers of a shard.

    Raises (on construction):
        LogBusyError: the shard is owned, or was locked for longer than the lock timeout.
        StorageIOError: the operating system refused.
    """

    shared = True

    def __init__(self, context: ShardContext) -> None:
        self._flock = context.door.flock
        self._seek = context.door.seek
        super().__init__(context)
        self._deadlines = {}

    def _claim(self) -> Claim:
        lock = open_lock(self.context)
        try:
            lock.acquire(self._settings.lock_timeout)
            self._look_for_owner()
            claim = recover_shard(self.context, lock)
        except BaseException:
            lock.close()
            raise
        lock.release()
        return claim

    def _look_for_owner(self) -> None:
        """An owner whose lock file was deleted must have noticed before others append."""
        try:
            take_guard(self.context, self._settings.lock_timeout).close()
        except ShardOwnedError as error:
            raise LogBusyError(str(error)) from None

    def _enter(self) -> None:
        """Take the file lock and catch up with what other processes appended."""
        if self.failure is not None:
            raise self.failure
        file_lock, active, words = self.file_lock, self.active, self._words
        descriptor = file_lock.fd
        try:
            # As ``file_lock.check()`` does, without its calls.
            if self._seek(descriptor, 0, SEEK_CUR) != descriptor.mark:  # type: ignore[attr-defined]  # -1 has none, nor a position
                file_lock.check()
            self._flock(descriptor, LOCK_NOW)
        except BlockingIOError:
            file_lock.acquire(self._time_left())
        except OSError:
            file_lock.check()
            raise
        offset = active.cursor[0]
        if (
            words[PUBLISHED] != offset + active.delta
            or words[GENERATION] != self.generation
            or words[ACTIVE_SEGMENT] != active.first_entry
        ):
            self._catch_up()
            # The next append makes room anew: others may have used the blocks and the numbers that it had.
            self.active.limit = 0
            self.active.allocated = max(self.active.allocated, min(self._words[ALLOCATED], self.active.capacity))
        elif active.data[offset : offset + _WORD_BYTES] != _EMPTY_WORD and active.allocated >= offset + _WORD_BYTES:
            # A process died between storing a frame and publishing it, or this page is not the shard's any more.
            self._recover()

    def _time_left(self) -> float:
        """What is left of the lock timeout: the thread of this process that had the turn before waited as well."""
        deadline = self._deadlines.pop(threading.get_ident(), None) if self._deadlines else None
        timeout = self._settings.lock_timeout
        return timeout if deadline is None else max(0.0, deadline - self.context.door.monotonic())

    def _leave(self) -> None:
        # Also when taking it failed: an exception may arise as the lock call returns, and freeing a lock that was not
        # had does no harm.
        descriptor = self.file_lock.fd
        if descriptor >= 0:
            self._flock(descriptor, LOCK_UN)
        if self._deadlines:
            self._deadlines.pop(threading.get_ident(), None)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[ActiveSegment]:
        """The active segment while no process appends to the shard."""
        with super().exclusive():
            holder = self._holder
            try:
                self._enter()
                yield self.active
            finally:
                # Whoever drops the traceback of an abandoned turn must not free the lock in somebody else's.
                if self._holder is holder:
                    self._leave()

    def look_at_page(self) -> None:
        """Notice a page or lock that was damaged, replaced or removed, and recover from it."""
        with self.exclusive():
            if not (self._page_is_sane() and self.page.is_named() and self.file_lock.is_named()):
                self._check()

    def end(self) -> tuple[int, int, int]:
        """First entry of the active segment, and position and number of its end, others' appends included."""
        with self.exclusive():
            return super().end()

    def recording(self) -> contextlib.AbstractContextManager[object]:
        """Keep others, also in other processes, from writing durable slots."""
        return self.exclusive()

    def close_segment(self) -> None:
        """On closing: record that nothing can be lost. Others may be appending, so no blocks are given back."""
        if self.ceiling.durable.position == self._words[PUBLISHED]:
            # First the generation: the others must not go on giving out numbers under the higher ceiling.
            self._words[GENERATION] = self.generation = self.generation + 1
            self.ceiling.lower(self.page, self.active.cursor[1])
            self.page.sync()

    def _catch_up(self) -> None:
        words = self._words
        sane = words[MAGIC_WORD] == PAGE_MAGIC and self.page.is_named() and self.file_lock.is_named()
        if not sane:
            self._recover()
            return
        try:
            # A recovery or an owner in between may have cut the file, or put another one under its name.
            if words[ACTIVE_SEGMENT] != self.active.first_entry or words[GENERATION] != self.generation:
                self._switch_segment(words[ACTIVE_SEGMENT])
            self._follow(words[PUBLISHED])
        except (CorruptLogError, FileNotFoundError):
            self._recover()
            return
        self.generation = words[GENERATION]
        offset = self.active.cursor[0]
        if any(self.context.door.read(self.active.fd, _WORD_BYTES, offset)):
            self._recover()

    def _switch_segment(self, first_entry: int) -> None:
        path = self.context.layout.segment(first_entry)
        segment = SegmentFile(self.context.door, path)
        segment.close()
        header = segment.header
        if header is None:
            raise CorruptLogError(f"{path} has no valid header")
        cursor = (SEGMENT_HEADER_BYTES, header.first_entry)
        fresh = reopen_segment(
            self.context.door,
            path,
            header,
            cursor,
            mapped=self._settings.mapped,
            allocated=self._words[ALLOCATED],
        )
        if self._settings.sync_each_append:
            # Whoever began it may have died before its name was on the disk.
            self.context.door.sync_directory(self.context.layout.directory)
        old, self.active = self.active, fresh
        old.close()

    def _follow(self, published: int) -> None:
        """Move the cursor to the published position."""
        active, words = self.active, self._words
        end = published - active.delta
        offset, number = active.cursor
        if not offset <= end <= active.capacity:
            raise CorruptLogError(f"published position {published} is outside of segment {active.first_entry}")
        if words[HINT_POSITION] == published:
            active.cursor = (end, words[HINT_NUMBER])
            return
        segment = SegmentFile(self.context.door, self.context.layout.segment(active.first_entry))
        try:
            for found in segment.walk(offset, end, number):
                if not isinstance(found, Frame):
                    raise CorruptLogError(f"segment {active.first_entry} is damaged at {found.offset}")
                offset = found.offset + found.header.size
                number = found.header.first_entry + found.header.count
        finally:
            segment.close()
        active.cursor = (end, number)

    def _recover(self) -> None:
        """Find the end of the shard as a claim does, on the lock file that has the name now."""
        if not self.file_lock.is_named():
            self.file_lock.close()
            self.file_lock = open_lock(self.context)
            self.file_lock.acquire(self._settings.lock_timeout)
        self._reload()

    def _check(self) -> None:
        """The file lock is held and the page was looked at: whatever differs now needs a recovery."""
        self._recover()
