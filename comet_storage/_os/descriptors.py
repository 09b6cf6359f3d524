"""Descriptors that are kept for long, in a process whose other code may close them or reuse their numbers.

A daemonizer that closes every descriptor closes the log's as well; the next files that the application opens get their
numbers, and a store, a lock or a close by number would hit those. So each kept descriptor has its file position, which
nothing else here uses, at a place of its own: whoever has the number now has another position. That also tells a second
opening of the same file, which does not have the lock, from the first. Asking keeps the GIL: large appends ask, too.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random

from comet_storage._os.gil_keeping import position_keeping_gil

_marks = itertools.count(random.SystemRandom().randrange(1 << 28, 1 << 29))
"""Below the largest file that any filesystem can hold, and never where a program leaves its own files by chance."""


_kept: dict[int, object] = {}
"""Every kept descriptor that this process has open, and its mark."""

_opening: dict[object, str] = {}
"""Paths of which some thread may have a descriptor that is not kept, or not yet: system calls let other threads in."""

_DESCRIPTORS = "/proc/self/fd"


class Opening:
    """While a thread is in it, a child forked by another one closes whatever it inherited of that path.

    Without it, the copy of a lock file that was opened just then would keep the lock for as long as the child lives.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        _opening[self] = self._path

    def __exit__(self, *_: object) -> None:
        _opening.pop(self, None)


class LostDescriptorError(OSError):
    """A kept descriptor was closed, and perhaps its number reused, by other code of this process."""


class KeptDescriptor(int):
    """A descriptor that knows whether it is still the one that was opened; closed when nothing refers to it."""

    mark: object
    """What only this descriptor has: its file position, or for a directory its inode."""
    _closed = False

    def __new__(cls, fd: int) -> KeptDescriptor:
        """Take over an open descriptor."""
        self = super().__new__(cls, fd)
        try:
            os.lseek(fd, next(_marks), os.SEEK_SET)
            _kept[fd] = self.mark = self._found()
        except BaseException:
            os.close(fd)
            raise
        return self

    def _found(self) -> object:
        return position_keeping_gil(self)

    def is_ours(self) -> bool:
        """Whether nobody closed it."""
        try:
            return self._found() == self.mark
        except OSError:
            return False

    def close(self) -> None:
        """Close it, if it is still ours. Idempotent: the number may be another descriptor's then, of the same file."""
        if not self._closed and self.is_ours():
            _kept.pop(self, None)
            os.close(self)
            self._closed = True

    def __del__(self) -> None:
        # What an exception dropped before it got an owner would keep its lock for as long as the process lives.
        with contextlib.suppress(Exception):
            self.close()


class KeptDirectory(KeptDescriptor):
    """The same for a directory, whose position is the filesystem's affair: known by its inode."""

    def __new__(cls, fd: int) -> KeptDirectory:
        """Take over an open descriptor."""
        self = int.__new__(cls, fd)
        _kept[fd] = self.mark = self._found()
        return self

    def _found(self) -> object:
        return _inode(self)


def close_inherited() -> None:
    """In a forked child: close all that the parent had open, also in the middle of something in another thread."""
    while _kept:
        fd, mark = _kept.popitem()
        with contextlib.suppress(OSError):
            if mark == (_inode(fd) if isinstance(mark, tuple) else position_keeping_gil(fd)):
                os.close(fd)
    if _opening:
        _close_descriptors_of(set(_opening.values()))
        _opening.clear()


def _close_descriptors_of(paths: set[str]) -> None:
    """Close what is open of these files and directories, where the system can tell what is open."""
    inodes = set()
    for path in paths:
        with contextlib.suppress(OSError):
            found = os.stat(path)
            inodes.add((found.st_dev, found.st_ino))
    with contextlib.suppress(OSError):
        for name in os.listdir(_DESCRIPTORS):
            with contextlib.suppress(OSError):
                if _inode(int(name)) in inodes:
                    os.close(int(name))


def _inode(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def is_ours(fd: int) -> bool:
    """Whether a descriptor is still the one that was opened, as far as that can be told."""
    return not isinstance(fd, KeptDescriptor) or fd.is_ours()


def check_kept(fd: int) -> None:
    """Before a kept descriptor is used: raise LostDescriptorError when somebody closed it."""
    if not is_ours(fd):
        raise LostDescriptorError(errno.EBADF, "other code of this process closed the log's descriptors")
