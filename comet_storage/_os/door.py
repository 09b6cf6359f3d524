"""Every call to the operating system that the log depends on, as one replaceable object.

Tests subclass :class:`Door` to fail, tear, delay, record or kill at each of these calls; mapped stores are made through
the objects that :meth:`Door.map_file` and :meth:`Door.map_words` return, so they can be watched as well.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from comet_storage._os.descriptors import KeptDescriptor, KeptDirectory, LostDescriptorError, Opening, check_kept
from comet_storage._os.filesystem import filesystem_type
from comet_storage._os.gil_keeping import prefault, rename_keeping_gil, write_keeping_gil
from comet_storage._os.maps import KeptMap
from comet_storage.errors import CometError, LogFullError, ShardLostError, StorageIOError

BLOCK_BYTES = 512
"""Unit of ``st_blocks``, on every filesystem."""

MappedFile = mmap.mmap

LOCK_NOW = fcntl.LOCK_EX | fcntl.LOCK_NB
LOCK_UN = fcntl.LOCK_UN
SEEK_CUR = os.SEEK_CUR

_LEASES = sys.platform == "linux"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN, errno.EIO}
_BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"


class FileStatus(NamedTuple):
    """What the log needs to know of a file."""

    device: int
    inode: int
    links: int
    size: int
    allocated: int
    """Bytes of the blocks that it occupies."""
    modified_ns: int
    owner: int
    mode: int

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory (and not a link to one)."""
        return stat.S_ISDIR(self.mode)


class Door:
    """The real operating system. All paths are strings; all errors are OSErrors (see :func:`storage_errors`)."""

    # Files.

    def open(self, path: str, *, write: bool = False, create: bool = False, exclusive: bool = False) -> int:
        """Open a file without following a symbolic link; new ones get mode 0600. Close-on-exec, as all of Python's."""
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_NOFOLLOW
        if create:
            flags |= os.O_CREAT | (os.O_EXCL if exclusive else 0)
        return os.open(path, flags, 0o600)

    def open_kept(self, path: str, *, write: bool = False, create: bool = False, exclusive: bool = False) -> int:
        """As :meth:`open`, for a descriptor that is kept for long: this door then uses it only while it is still ours.

        Every method below raises LostDescriptorError when other code of the process closed it.
        """
        with Opening(path):
            return KeptDescriptor(self.open(path, write=write, create=create, exclusive=exclusive))

    def open_directory_kept(self, path: str) -> int:
        """Open a directory, to lock it for long."""
        with Opening(path):
            return KeptDirectory(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))

    def close(self, fd: int) -> None:
        """Close a descriptor. Releases its lock only if no copy of it is left in another process."""
        if isinstance(fd, KeptDescriptor):
            fd.close()
        else:
            os.close(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer at the end of the file."""
        check_kept(fd)
        return os.pread(fd, size, offset)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""
        check_kept(fd)
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            data, offset = data[written:], offset + written
            written = os.pwrite(fd, data, offset)

    def allocate(self, fd: int, offset: int, length: int) -> None:
        """Give blocks to a range, so that later stores to it cannot run out of space. Grows the file if needed."""
        check_kept(fd)
        os.posix_fallocate(fd, offset, length)

    def truncate(self, fd: int, size: int) -> None:
        """Set the size of a file."""
        check_kept(fd)
        os.ftruncate(fd, size)

    def sync_data(self, fd: int) -> None:
        """Return when the file's bytes (also those stored through maps) and its size are on the disk."""
        check_kept(fd)
        os.fdatasync(fd)

    def sync_directory(self, path: str) -> None:
        """Return when the names in a directory are on the disk."""
        with Opening(path):
            fd = KeptDirectory(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
            try:
                os.fsync(fd)
            finally:
                fd.close()

    def rename(self, source: str, target: str) -> None:
        """Give a file a new name, replacing what had it. Keeps the GIL: a rotation in an append waits for no thread."""
        rename_keeping_gil(source, target)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; fails when the name is taken."""
        os.link(source, target)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        os.unlink(path)

    def make_directories(self, path: str) -> None:
        """Make a directory and its parents, each with mode 0700; those that exist stay as they are."""
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o700)

    def list_directory(self, path: str) -> list[str]:
        """Names in a directory, in no order."""
        with Opening(path):
            return os.listdir(path)

    def status(self, path: str) -> FileStatus:
        """Status of a name itself, not of what a symbolic link points to."""
        return _status(os.lstat(path))

    def descriptor_status(self, fd: int) -> FileStatus:
        """Status of an open file."""
        check_kept(fd)
        return _status(os.fstat(fd))

    def list_blocks(self, path: str) -> tuple[int, list[str]]:
        """Bytes of the blocks of all names in one directory, and which of them are directories. Lean: logs are long."""
        total, directories = 0, []
        with Opening(path):
            fd = KeptDirectory(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
            try:
                for name in os.listdir(fd):
                    try:
                        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    total += found.st_blocks
                    if stat.S_ISDIR(found.st_mode):
                        directories.append(name)
            finally:
                fd.close()
        return total * BLOCK_BYTES, directories

    def is_open_elsewhere(self, path: str) -> bool:
        """Whether anybody has a file open or mapped, this process included. False where the system cannot tell.

        By trying to get a lease on it, which the kernel grants to a file's only opener. Only for names that nobody
        opens any more: whoever did while the lease is held would wait for its end, some microseconds.
        """
        if not _LEASES:
            return False
        fd = self.open(path)
        try:
            # The default signal for a broken lease would end the process; this one is ignored unless asked for.
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        else:
            return False
        finally:
            os.close(fd)

    def free_bytes(self, path: str) -> int:
        """Bytes of the volume that an unprivileged process may still take."""
        volume = os.statvfs(path)
        return volume.f_bavail * volume.f_frsize

    def filesystem_type(self, path: str) -> str:
        """Name of the filesystem as the kernel calls it ("ext4"), or "" where that cannot be told."""
        return filesystem_type(path)

    def absolute_path(self, path: str) -> str:
        """The path from the root; symbolic links in it stay what they are."""
        return os.path.abspath(path)

    def accessible(self, path: str, *, write: bool) -> bool:
        """Whether this process may list a directory and read, or also write, in it."""
        return os.access(path, os.R_OK | os.X_OK | (os.W_OK if write else 0))

    def effective_user(self) -> int:
        """Number of the user that this process acts as."""
        return os.geteuid()

    # Maps.

    def map_file(self, fd: int, size: int) -> mmap.mmap:
        """Map a file shared and writable."""
        return KeptMap(fd, size)

    def map_read_only(self, fd: int, size: int) -> mmap.mmap:
        """Map a file shared, for reading."""
        return KeptMap(fd, size, prot=mmap.PROT_READ)

    def map_words(self, mapped: mmap.mmap) -> memoryview:
        """A map as 64-bit words: one assignment is one machine store (``struct.pack_into`` is several)."""
        return memoryview(mapped).cast("Q")

    def prefault(self, fd: int, offset: int, length: int) -> None:
        """Store zeros to preallocated blocks, so that stores to them through a map are cheap."""
        check_kept(fd)
        prefault(fd, offset, length)

    def store(self, fd: int, data: bytes, offset: int) -> None:
        """Write to preallocated blocks of a mapped file without releasing the GIL."""
        check_kept(fd)
        write_keeping_gil(fd, data, offset)

    # Locks: flock, released by the kernel when the last copy of the descriptor is closed.

    seek = staticmethod(os.lseek)
    """Position of a descriptor, by which kept ones are known (see :mod:`.descriptors`)."""

    flock = staticmethod(fcntl.flock)
    """Take (LOCK_NOW, BlockingIOError if it is held) or free (LOCK_UN) a lock. Never freed by a forked child."""

    def try_lock(self, fd: int) -> bool:
        """Take the exclusive lock if it is free now."""
        check_kept(fd)
        try:
            self.flock(fd, LOCK_NOW)
        except BlockingIOError:
            return False
        return True

    def unlock(self, fd: int) -> None:
        """Release the lock. Never by a forked child: it would free its parent's lock."""
        check_kept(fd)
        self.flock(fd, LOCK_UN)

    # Clocks and identity.

    def boot_id(self) -> bytes:
        """16 bytes that change with every boot; zeros where the system has none, which proves nothing."""
        try:
            # As bytes: a codec's first use imports it, and a fork in the middle of that leaves the child's locked.
            with open(_BOOT_ID_PATH, "rb") as file:
                return bytes.fromhex(file.read().decode().strip().replace("-", ""))
        except OSError:
            return bytes(16)

    wall_clock_ns = staticmethod(time.time_ns)
    """Nanoseconds since 1970, by the wall clock."""

    def boot_time_ns(self) -> int:
        """Nanoseconds since the boot, also while the machine sleeps; no clock that anybody sets."""
        return time.clock_gettime_ns(_BOOT_CLOCK)

    def monotonic(self) -> float:
        """Seconds of a clock that only goes forward."""
        return time.monotonic()

    def sleep(self, duration: float) -> None:
        """Let ``duration`` seconds pass."""
        time.sleep(duration)

    def random_bytes(self, count: int) -> bytes:
        """Unpredictable bytes."""
        return os.urandom(count)

    def failpoint(self, name: str) -> None:
        """A named instant at which tests kill, fail or wait; does nothing here. Names: docs/architecture.md."""


DOOR = Door()


def _status(found: os.stat_result) -> FileStatus:
    return FileStatus(
        found.st_dev,
        found.st_ino,
        found.st_nlink,
        found.st_size,
        found.st_blocks * BLOCK_BYTES,
        found.st_mtime_ns,
        found.st_uid,
        found.st_mode,
    )


def sync_names(door: Door, directory: str, *, levels: int) -> None:
    """Return when the names in a directory are on the disk, and those of so many directories that lead to it.

    The last of them is the log's own; its name is in a directory that is not, and that perhaps cannot be opened.
    """
    for _ in range(levels):
        door.sync_directory(directory)
        directory = directory.rpartition("/")[0]
    with contextlib.suppress(OSError):
        door.sync_directory(directory or "/")


def may_pass(error: OSError) -> bool:
    """Whether an error says nothing about what is on the disk: the same call may do later, with nothing changed."""
    return error.errno in _PASSING


@contextlib.contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Turn the operating system's errors into this package's, naming the path."""
    try:
        yield
    except StorageIOError:
        raise
    except OSError as error:
        raise as_storage_error(error, path) from error


def as_storage_error(error: OSError, path: str) -> CometError:
    """An operating system's error as this package's; one of this package's stays what it is."""
    if isinstance(error, StorageIOError):
        return error
    if isinstance(error, LostDescriptorError):
        return ShardLostError(f"{error.strerror}: {path}; the next call opens them anew")
    where = error.filename or path
    if error.errno in _FULL:
        return LogFullError(
            error.errno, f"no space left on the volume; nothing was stored, and appends go on when there is: {where}"
        )
    return StorageIOError(error.errno, f"{error.strerror or error}: {where}")
