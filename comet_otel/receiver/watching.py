"""Whether files were replaced or rewritten since they were looked at last."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["WatchedFiles"]


class WatchedFiles:
    """Some files that are configuration. Whoever finds that they cannot be used as they are asks again for them."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen: list[tuple[int, int, int, int] | None] | None = self._look()

    def changed(self) -> bool:
        """Say whether one of them is another than at the last call, or than at the beginning."""
        found = self._look()
        if found == self._seen:
            return False
        self._seen = found
        return True

    def ask_again(self) -> None:
        """Let the files count as changed at the next call: what keeps them from being used may not show in them."""
        self._seen = None

    def _look(self) -> list[tuple[int, int, int, int] | None]:
        return [_identity(path) for path in self._paths]


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
