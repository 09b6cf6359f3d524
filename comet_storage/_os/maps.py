"""Maps of files whose hidden descriptor is watched as the others are.

Python's ``mmap`` keeps a duplicate of the descriptor that it maps (before 3.13 always), and closes that by its number
in the end, whoever has the number then.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys

from comet_storage._os.descriptors import KeptDescriptor

_TRIES = 16

_abandoned: list[KeptMap] = []
"""Maps whose descriptor is somebody else's now: they stay, because letting go of one would close that."""


class KeptMap(mmap.mmap):
    """A shared map of a file; as fast as its base, and closed without harm."""

    _duplicate = -1
    _position = -1

    def __new__(cls, fd: int, size: int, *, prot: int = mmap.PROT_READ | mmap.PROT_WRITE) -> KeptMap:
        """Map the first ``size`` bytes of an open file."""
        if sys.version_info >= (3, 13):
            return super().__new__(cls, fd, size, prot=prot, trackfd=False)
        for _ in range(_TRIES):
            # The lowest free number will be the duplicate's, unless another thread is quicker; the position, which
            # duplicates share and which is this descriptor's alone, tells.
            free = os.dup(fd)
            os.close(free)
            self = super().__new__(cls, fd, size, prot=prot)
            if not isinstance(fd, KeptDescriptor):
                return self
            with contextlib.suppress(OSError):
                position = os.lseek(fd, 0, os.SEEK_CUR)
                if os.lseek(free, 0, os.SEEK_CUR) == position:
                    self._duplicate, self._position = free, position
                    return self
            mmap.mmap.close(self)
        return super().__new__(cls, fd, size, prot=prot)

    def _is_lost(self) -> bool:
        if self._duplicate < 0:
            return False
        try:
            return os.lseek(self._duplicate, 0, os.SEEK_CUR) != self._position
        except OSError:
            return True

    def close(self) -> None:
        """Unmap, and close the duplicate if it is still ours. Idempotent."""
        if self._is_lost():
            _abandoned.append(self)
        else:
            super().close()
        self._duplicate = -1

    def __del__(self) -> None:
        if self._is_lost():
            _abandoned.append(self)
