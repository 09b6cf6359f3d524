"""Looks at a data directory from outside, before any of it is opened."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, TypeAlias

from shipper.errors import EnvironmentFailedError

if TYPE_CHECKING:
    from pathlib import Path

LogIdentity: TypeAlias = tuple[int, int, int]
"""Device, inode and time of writing of the file that marks a log, which is written once. The time is needed because a
file system may give a new file the inode of one deleted just before."""

LOG_MARK: Final = "log.json"
"""The file that the first opener of a log writes; a directory without it holds no log yet."""


def find_log(directory: Path) -> LogIdentity | None:
    """Return which log is in this directory; None if there is none, also while the directory does not exist.

    The shipper must not be the one that makes it: whoever opens a log first decides its settings.

    Raises:
        EnvironmentFailedError: it is no directory, or this user may not use it; the message says which.
    """
    try:
        is_directory = stat.S_ISDIR(directory.stat().st_mode)
    except FileNotFoundError:
        return None
    except OSError as error:  # a part of the path is a file, or may not be entered
        raise EnvironmentFailedError(f"cannot use the data directory {directory}: {error.strerror}") from error
    if not is_directory:
        raise EnvironmentFailedError(f"cannot use the data directory {directory}: it is not a directory")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise EnvironmentFailedError(f"cannot use the data directory {directory}: no permission to read it")
    try:
        mark = (directory / LOG_MARK).stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentFailedError(f"cannot use the data directory {directory}: {error.strerror}") from error
    return mark.st_dev, mark.st_ino, mark.st_mtime_ns
