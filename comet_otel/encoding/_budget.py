"""One limit to the memory of all the encoder's caches together.

Whatever an application puts into its telemetry, the caches take no more than `CACHE_BYTES_MAX`: each entry is charged
when it is stored, by an estimate that rather exceeds its size, and when the budget is spent all caches are emptied and
fill again. What is often used is back after one batch; what was used once is gone.

Safe with threads, because every step is one operation on a dict: a cache may be emptied while another thread is about
to store into it or works with a part of it, which then lives as long as that thread needs it. Two threads that charge
at the same moment can lose one of the two charges, an error of some entries per emptying. Safe after a fork: there is
no lock.
"""

from __future__ import annotations

from typing import Any, Final

CACHE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes that all caches of the encoder may take together."""

ENTRY_BYTES: Final = 200
"""Charged for an entry beside its content: its place in the dict, and the headers of key and value objects."""

_caches: Final[list[dict[Any, Any]]] = []
_left = CACHE_BYTES_MAX


def register(cache: dict[Any, Any]) -> None:
    """Let a cache be emptied whenever the budget is spent; for caches that live as long as the process."""
    _caches.append(cache)


def charge(size: int) -> None:
    """Count what is about to be stored in a cache, and empty all caches first if it is too much."""
    global _left  # noqa: PLW0603 - the one budget of the process
    _left -= size
    if _left < 0:
        clear()
        _left -= size


def clear() -> None:
    """Empty all caches."""
    global _left  # noqa: PLW0603 - the one budget of the process
    for cache in _caches:
        cache.clear()
    _left = CACHE_BYTES_MAX
