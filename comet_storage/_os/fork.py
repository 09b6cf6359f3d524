"""Noticing a fork, also one made by C code that runs no Python hooks.

A page of private memory that the kernel wipes in the child (``MADV_WIPEONFORK``) holds one byte: 1 in the process that
set it, 0 in any child. Reading it costs 40 ns where ``os.getpid`` is a system call. Where the kernel lacks it, the
hook of :func:`os.register_at_fork` clears the byte.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import weakref
from typing import Protocol

from comet_storage._os.descriptors import close_inherited

_MADV_WIPEONFORK = 18

page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
"""``page[0]`` is 1 in the process that the log's objects belong to, and 0 in a child that was not adopted yet."""
with contextlib.suppress(OSError, ValueError):
    page.madvise(_MADV_WIPEONFORK)
page[0] = 1


class ForkListener(Protocol):
    """Something that holds descriptors, locks or threads of the process that made it."""

    def after_fork_in_child(self) -> None:
        """Let go of what belongs to the parent: close descriptors, never unlock; make new locks; start nothing."""


_listeners: weakref.WeakSet[ForkListener] = weakref.WeakSet()
_adopting = threading.RLock()


def listen(listener: ForkListener) -> None:
    """Call ``listener`` in every child from now on, for as long as it lives."""
    _listeners.add(listener)


def adopt() -> None:
    """In a child: tell every listener, once. Does nothing in the process that the objects belong to."""
    with _adopting:
        if page[0]:
            return
        close_inherited()
        for listener in list(_listeners):
            listener.after_fork_in_child()
        page[0] = 1


def _adopt_after_python_fork() -> None:
    global _adopting  # noqa: PLW0603 - another thread of the parent may have held it at the fork
    _adopting = threading.RLock()
    page[0] = 0
    adopt()


os.register_at_fork(after_in_child=_adopt_after_python_fork)
