"""How this process keeps memory for buffers of a few MiB, which is what a shipper is made of."""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

_BUFFER_BYTES: Final = 32 * 1024 * 1024
_KEPT_BYTES: Final = 64 * 1024 * 1024

_once = threading.Lock()


def keep_buffers() -> None:
    """Have the C library use the memory of one buffer again for the next, in whichever thread.

    By itself it returns large buffers to the kernel, which fills each new one with zeros, page by page, and gives each
    thread a heap of its own. For requests of 4 MiB that took a third more processor time and a quarter more memory
    (``python -m benchmarks.shipping``). Does nothing where the C library is another one. The first call counts.
    """
    if not _once.acquire(blocking=False):
        return
    # What was loaded up to here stays, so Python need not look through it each time for what has become garbage.
    gc.collect()
    gc.freeze()
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_THRESHOLD, _BUFFER_BYTES)
    mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_ARENA_MAX, 1)
