"""Opening the data directory: only one that nobody else controls, on a disk of this machine."""

from __future__ import annotations

import stat

from comet_storage._os.door import Door, storage_errors
from comet_storage._os.filesystem import NETWORK, PREALLOCATING
from comet_storage.errors import StorageIOError, UnsafeDirectoryError, UnsupportedFilesystemError


def open_directory(door: Door, path: str, *, read_only: bool, allow_network: bool) -> str:
    """Check or make the data directory and return its absolute path.

    Raises:
        UnsafeDirectoryError: it is a file or a symbolic link, has another owner, or is writable by everyone.
        UnsupportedFilesystemError: it is on a network filesystem.
        StorageIOError: it cannot be made, read or written.
    """
    path = door.absolute_path(path)
    with storage_errors(path):
        if not read_only:
            _make(door, path)
        status = door.status(path)
        if not status.is_directory:
            kind = "a symbolic link" if stat.S_ISLNK(status.mode) else "not a directory"
            raise UnsafeDirectoryError(f"data directory {path} is {kind}")
        if not read_only:
            me = door.effective_user()
            if status.owner != me:
                raise UnsafeDirectoryError(
                    f"data directory {path} belongs to user {status.owner}, and this process acts as {me}: "
                    "run as its owner or use another directory"
                )
            if status.mode & stat.S_IWOTH:
                raise UnsafeDirectoryError(f"data directory {path} is writable by everyone; chmod it to 0700")
        if not door.accessible(path, write=not read_only):
            raise StorageIOError(f"no permission to {'read' if read_only else 'write'} data directory {path}")
        kind = door.filesystem_type(path)
    if kind in NETWORK and not allow_network:
        raise UnsupportedFilesystemError(
            f"data directory {path} is on a network filesystem ({kind}), whose locks and maps cannot be relied on; "
            "use a local disk, or set storage.allow_network_filesystem"
        )
    return path


def stores_through_maps(door: Door, path: str, write_method: str) -> bool:
    """Whether segments are written through maps: as configured, or where the filesystem keeps its preallocations."""
    if write_method == "auto":
        return door.filesystem_type(path) in PREALLOCATING
    return write_method == "mmap"


def _make(door: Door, path: str) -> None:
    try:
        door.make_directories(path)
    except FileExistsError:
        # Something else has the name; the checks that follow say what.
        return
