"""An owner's second lock, on the shard's directory: a lock file can be deleted under a live owner, and so can the page.

Whoever then locks the new lock file would be a second writer. Raising the generation in the state page stops the first
one at its next append, but not one that is under way (its process may be stopped there), nor any if the page was
deleted as well. So a new owner waits for the directory's lock, too: the old one frees it once it has noticed that it
lost the shard and no append of it is under way.
"""

from __future__ import annotations

import contextlib

from comet_storage._format.state_page import GENERATION, MAGIC_WORD, PAGE_MAGIC
from comet_storage._os.door import Door
from comet_storage._shard.context import ShardContext
from comet_storage._shard.page import WriterPage
from comet_storage.errors import ShardOwnedError

NOTICE_SECONDS = 2.0
"""How long to wait for a live owner to notice that it lost its lock file: its flusher looks once per sync interval."""

_PAUSE = 0.002


class Guard:
    """The lock on a shard's directory, held for as long as the shard is owned."""

    def __init__(self, door: Door, directory: str) -> None:
        self._door = door
        self._directory = directory
        self._fd = door.open_directory_kept(directory)

    def try_acquire(self) -> bool:
        """Take the lock if it is free now; a filesystem that cannot lock directories protects from nothing here."""
        try:
            return self._door.try_lock(self._fd)
        except OSError:
            return True

    def is_displaced(self) -> bool:
        """Whether another directory has the name by now, as far as that can be told."""
        try:
            named = self._door.status(self._directory)
            locked = self._door.descriptor_status(self._fd)
        except OSError:
            return False
        return (named.device, named.inode) != (locked.device, locked.inode)

    def close(self) -> None:
        """Free the lock. In a forked child: the parent keeps it."""
        if self._fd >= 0:
            # Not forgotten before: an exception of a signal handler in between would leave it locked.
            self._door.close(self._fd)
            self._fd = -1


def take_guard(context: ShardContext, wait: float) -> Guard:
    """Lock the shard's directory. The lock file is held, so whoever has the directory lost that file and must notice.

    Raises:
        ShardOwnedError: it did not within a few seconds (``wait`` 0: at once), because it is stopped, for example.
    """
    guard = Guard(context.door, context.layout.directory)
    context.held.append(guard)
    try:
        if guard.try_acquire():
            return guard
        _raise_generation(context)
        deadline = context.door.monotonic() + (NOTICE_SECONDS if wait else 0.0)
        while not guard.try_acquire() and context.door.monotonic() < deadline:
            context.door.sleep(_PAUSE)
        if guard.try_acquire():
            return guard
    except BaseException:
        guard.close()
        raise
    guard.close()
    raise ShardOwnedError(
        f"the lock file of shard {context.name} was deleted under a live owner that has not noticed yet; "
        "nothing was stored, and it can be claimed when that owner has"
    )


def _raise_generation(context: ShardContext) -> None:
    """Make the owner's next append look for the reason, where the page is still the one that it has."""
    page = WriterPage(context.door, context.layout.state_page, mapped=context.settings.mapped, reserve=context.reserve)
    with contextlib.closing(page):
        if page.words[MAGIC_WORD] == PAGE_MAGIC:
            page.words[GENERATION] += 1
