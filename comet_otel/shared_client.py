"""One storage client per directory and process, shared by all exporters that write there.

The first exporter of a directory opens the client, the last one to be shut down closes it. A directory that cannot be
opened does not stop anything: opening is tried again with a growing pause, and until it works every append is refused
at once.

A fork is taken in stride: the storage client lets go of what belongs to the parent and claims a lane of its own with
the child's first append; what this module adds is that no lock held by a thread of the parent blocks the child.
Python-level forks are noticed by a hook, those made by C code (uWSGI) by comparing process ids.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from comet_otel._bounded import BoundedCalls
from comet_otel._logging import TroubleLog
from comet_storage import Client, ClosedError, CometError, LogMovedError, ShardLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from comet_otel.config import ExporterConfig
    from comet_storage import CometConfig, LaneWriter

OPEN_WAIT_SECONDS: Final = 1.0
"""How long an export waits for another thread that is opening the same directory."""

REOPEN_PAUSE_FIRST: Final = 0.5
REOPEN_PAUSE_MAX: Final = 30.0
"""Seconds between two tries to open a directory that cannot be opened; doubled from the first to the greatest."""

_STALE: Final = (ClosedError, LogMovedError)
"""Errors that say that this client cannot write any more and a new one may."""

_logger = logging.getLogger(__name__)


class LogUnavailableError(Exception):
    """The log of this directory is not open now; opening it is tried again later."""


class SharedClient:
    """The client of one directory in this process.

    Not made directly; `acquire` hands it out and `release` takes it back.
    """

    def __init__(self, data_dir: Path, config: CometConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Remember what to open, without opening it."""
        self.data_dir = data_dir
        self.config = config
        self.references = 0
        self._closed = False
        self._clock = clock
        self._trouble = TroubleLog(_logger, f"the telemetry log in {data_dir}")
        self._client: Client | None = None
        self._writers: dict[str, LaneWriter] = {}
        self._reopen_at = float("-inf")
        self._reopen_pause = REOPEN_PAUSE_FIRST
        self.after_fork()

    def after_fork(self) -> None:
        """Set what each process must have for itself. In a forked child: locks that nobody holds."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._opening_thread = 0
        self._bounded = BoundedCalls()

    def append(self, stream: str, entries: Sequence[bytes]) -> None:
        """Append entries to this process's lane of a stream.

        Raises:
            LogUnavailableError: the directory is not open and cannot be opened now.
            CometError: the log refused the entries.
        """
        try:
            self._writer(stream).append(entries)
        except ShardLostError:
            self._writer(stream).append(entries)  # the lane claims another shard
        except _STALE as error:
            self._discard(error)
            self._writer(stream).append(entries)

    def sync(self, timeout: float) -> bool:
        """Make durable what was appended; return whether that was done within `timeout` seconds."""
        client = self._client
        if client is None or self._pid != os.getpid():
            return True  # this process has appended nothing
        return self._bounded.call(client.sync, timeout)

    def open(self) -> None:
        """Open the directory unless it is open or was tried too short a time ago.

        Raises:
            LogUnavailableError: it is not open after that.
        """
        if self._client is not None:
            return
        # A signal handler that exports while its own thread is opening must not wait for itself.
        wait = 0.0 if self._opening_thread == threading.get_ident() else OPEN_WAIT_SECONDS
        if not self._lock.acquire(timeout=wait):
            raise LogUnavailableError("another thread is still opening it")
        try:
            self._opening_thread = threading.get_ident()
            if self._client is None:
                self._try_to_open()
        finally:
            self._opening_thread = 0
            self._lock.release()

    def close(self, timeout: float) -> None:
        """Close the client, giving up the wait (not the closing) after `timeout` seconds."""
        self._closed = True  # an export that is still running in another thread must not open it again
        client, self._client = self._client, None
        self._writers = {}
        # A child of a C-level fork that never appended has a client that still thinks itself the parent's.
        if client is not None and self._pid == os.getpid():
            self._bounded.call(client.close, timeout)

    def _writer(self, stream: str) -> LaneWriter:
        if self._pid != os.getpid():
            self.after_fork()
        self.open()
        writer = self._writers.get(stream)
        if writer is None:
            client = self._client
            if client is None:
                raise LogUnavailableError("it was closed meanwhile")
            writer = self._writers[stream] = client.lanes(stream)
        return writer

    def _try_to_open(self) -> None:
        if self._closed:
            raise LogUnavailableError("it was closed by the shutdown of its last exporter")
        now = self._clock()
        if now < self._reopen_at:
            raise LogUnavailableError(f"it could not be opened; next try in {self._reopen_at - now:.1f} s")
        try:
            client = Client(self.data_dir, self.config)
        except (CometError, OSError) as error:
            self._reopen_at = now + self._reopen_pause
            self._reopen_pause = min(2 * self._reopen_pause, REOPEN_PAUSE_MAX)
            self._trouble.failed(f"cannot be opened, and telemetry is not stored until it can: {error}")
            raise LogUnavailableError(str(error)) from error
        self._writers = {}
        self._client = client
        self._reopen_pause = REOPEN_PAUSE_FIRST
        self._trouble.recovered()

    def _discard(self, error: Exception) -> None:
        """Drop a client that reported that it cannot write any more, so that the next use opens a new one."""
        client, self._client = self._client, None
        self._writers = {}
        _logger.warning("the telemetry log in %s is opened again: %s", self.data_dir, error)
        if client is not None:
            try:
                client.close()
            except (CometError, OSError) as close_error:
                _logger.debug("closing the log in %s failed: %s", self.data_dir, close_error)


class _Registry:
    """All shared clients of this process, by real directory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[Path, SharedClient] = {}

    def acquire(self, config: ExporterConfig) -> SharedClient:
        with self._lock:
            shared = self._clients.get(config.data_dir)
            if shared is None:
                shared = self._clients[config.data_dir] = SharedClient(config.data_dir, config.storage)
            elif shared.config != config.storage:
                _logger.warning(
                    "%s is already in use with other settings in this process; those stay in force", config.data_dir
                )
            shared.references += 1
            return shared

    def release(self, shared: SharedClient, timeout: float) -> None:
        with self._lock:
            shared.references -= 1
            last = shared.references == 0
            if last:
                self._clients.pop(shared.data_dir, None)
        if last:
            shared.close(timeout)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        for shared in self._clients.values():
            shared.after_fork()


_registry: Final = _Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_registry.after_fork)


def acquire(config: ExporterConfig) -> SharedClient:
    """Return the shared client of a directory, and count one more user of it. Opens nothing."""
    return _registry.acquire(config)


def release(shared: SharedClient, timeout: float) -> None:
    """Give a shared client back; the last user's release closes it, waiting for at most `timeout` seconds."""
    _registry.release(shared, timeout)
