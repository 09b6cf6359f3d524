"""Lock files: one lock, its holder's name for error messages, and proof that the file locked is the file named."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from datetime import datetime, timezone

from comet_storage._os import fork
from comet_storage._os.descriptors import LostDescriptorError, check_kept
from comet_storage._os.door import Door
from comet_storage.errors import LogBusyError

HOLDER_BYTES = 1024
"""Holder text at the start of a lock file; what lies behind belongs to the lock's user."""

_COMMAND_CHARACTERS = 256
"""With at most two bytes each, and the other members, the text stays within HOLDER_BYTES."""

_FIRST_WAIT = 50e-6
_LONGEST_WAIT = 5e-3


class LockFile:
    """A lock file that is opened once and locked by flock. Never deleted, renamed, mapped or shared with a child."""

    def __init__(self, door: Door, path: str) -> None:
        self._door = door
        self.path = path
        self.fd = door.open_kept(path, write=True, create=True)
        # By itself: a fork in the middle of a claim finds no writer yet that would do it.
        fork.listen(self)

    def try_acquire(self) -> bool:
        """Take the lock if it is free, on the file that has the name now."""
        while True:
            with contextlib.suppress(LostDescriptorError):
                if not self._door.try_lock(self.fd):
                    return False
                if self.is_named():
                    return True
            # Deleted or replaced before the lock was had, or other code closed the descriptor: this lock protects
            # nothing. Take the one that has the name.
            self._door.close(self.fd)
            self.fd = self._door.open_kept(self.path, write=True, create=True)

    def acquire(self, timeout: float) -> None:
        """Take the lock, trying for ``timeout`` seconds with growing pauses.

        Raises:
            LogBusyError: another process held it all the time.
        """
        deadline = None
        wait = _FIRST_WAIT
        while not self.try_acquire():
            now = self._door.monotonic()
            if deadline is None:
                deadline = now + timeout
            if now >= deadline:
                raise LogBusyError(f"{self.path} was locked for {timeout:.3g} s by {self.holder()}; nothing was stored")
            self._door.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def release(self) -> None:
        """Free the lock and keep the file open. Does no harm where the lock was not had, or is lost."""
        if self.fd >= 0:
            with contextlib.suppress(LostDescriptorError):
                self._door.unlock(self.fd)

    def check(self) -> None:
        """Make sure that the descriptor is still this lock's, before it is locked and unlocked by number.

        Raises:
            LostDescriptorError: other code of the process closed it. It is forgotten then.
        """
        if self.fd < 0:
            raise LostDescriptorError(errno.EBADF, f"{self.path} is not open any more")
        try:
            check_kept(self.fd)
        except LostDescriptorError:
            self.fd = -1
            raise

    def close(self) -> None:
        """Close the file, which frees the lock unless a forked child still has a copy of the descriptor."""
        if self.fd >= 0:
            # Not forgotten before: an exception of a signal handler in between would leave it locked.
            self._door.close(self.fd)
            self.fd = -1

    def after_fork_in_child(self) -> None:
        """In a forked child: the lock is the parent's."""
        self.close()

    def is_named(self) -> bool:
        """Whether the open file is still the one that has the name."""
        try:
            named = self._door.status(self.path)
            opened = self._door.descriptor_status(self.fd)
        except OSError:
            # No such file, or a descriptor that somebody closed.
            return False
        return (named.device, named.inode) == (opened.device, opened.inode)

    def write_holder(self, **details: object) -> None:
        """Leave this process's name in the file, for others' error messages."""
        text = json.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "command": _printable(" ".join(sys.argv)[:_COMMAND_CHARACTERS]),
                "since": datetime.fromtimestamp(self._door.wall_clock_ns() / 1e9, timezone.utc).isoformat(),
                **details,
            }
        )
        self._door.write(self.fd, text.encode()[:HOLDER_BYTES].ljust(HOLDER_BYTES, b" "), 0)

    def holder_details(self) -> dict[str, object]:
        """What the last holder wrote, empty when that cannot be read."""
        try:
            details = json.loads(self._door.read(self.fd, HOLDER_BYTES, 0).strip(b" \0"))
        except (OSError, ValueError, RecursionError):
            return {}
        return details if isinstance(details, dict) else {}

    def holder(self) -> str:
        """The last holder, for an error message."""
        details = self.holder_details()
        if not details:
            return "an unknown process"
        return "process {pid} on {host} ({command}) since {since}".format(
            **{key: details.get(key, "?") for key in ("pid", "host", "command", "since")}
        )


def _printable(text: str) -> str:
    """Text with a question mark for what JSON would spend six bytes on."""
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in text)
