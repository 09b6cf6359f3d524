"""What this process has in memory, and giving back what it does not need."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

__all__ = ["ResidentMemory", "give_memory_back"]

_malloc_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_memory_back() -> None:
    """Return what was freed to the system: glibc keeps it, for each thread, unless it is told to."""
    if _malloc_trim is not None:
        _malloc_trim(0)


class ResidentMemory:
    """What this process has in memory beside files, as far as the system tells.

    Args:
        most: bytes more than at the beginning from which on memory is short.
    """

    def __init__(self, most: int, *, path: Path = Path("/proc/self/statm")) -> None:
        self._path = path
        self._limit = (self._bytes() or 0) + most

    def is_short(self) -> bool:
        """Say whether there is too little; always where the system does not tell."""
        found = self._bytes()
        return found is None or found > self._limit

    def _bytes(self) -> int | None:
        try:
            fields = self._path.read_bytes().split()
        except OSError:
            return None
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
