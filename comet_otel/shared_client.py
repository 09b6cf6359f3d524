"""One storage client per directory and process, shared by all exporters that write there.

The first exporter of a directory opens the client, the last one to be shut down closes it. A directory that cannot be
opened does not stop anything: opening is tried again with a growing pause, and until it works every append is refused
at once. Nor does a log that makes its callers wait in vain (a lock that a stopped process holds, a disk that stalls):
after a failure that took long, appends are refused at once for several times as long.

A fork is taken in stride: the storage client lets go of what belongs to the parent and claims a lane of its own with
the child's first append; what this module adds is that no lock held by a thread of the parent blocks the child.
Python-level forks are noticed by a hook, those made by C code (uWSGI) by comparing process ids, off the append path.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final

import comet_storage
from comet_otel._bounded import BoundedCalls
from comet_otel._logging import TroubleLog, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from comet_otel.config import ExporterConfig
    from comet_storage import Client, CometConfig, LaneWriter

OPEN_WAIT_SECONDS: Final = 1.0
"""How long an export waits for another thread that is opening the same directory, counted from when that began."""

REOPEN_PAUSE_FIRST: Final = 0.5
REOPEN_PAUSE_MAX: Final = 5.0
"""Seconds between two tries to open a directory that cannot be opened; doubled from the first to the greatest."""

SLOW_FAILURE_SECONDS: Final = 0.1
"""A failure that took longer than this was waiting for something."""

PAUSE_FACTOR: Final = 9
"""For so many times as long as a slow failure took, appends are refused at once: a log that is stuck takes at most a
tenth of its callers' time."""

PAUSE_MAX: Final = 10.0
"""Seconds for which they are refused at most."""

INTERRUPTED_WAIT_SECONDS: Final = 0.25
"""How long a signal handler waits for a sync or a close if it interrupted an append of its own thread. That append may
hold locks, which it gives back only after the handler has returned."""

_logger = logging.getLogger(__name__)


class LogUnavailableError(Exception):
    """The log of this directory is not open now, or keeps its callers waiting; it is tried again later."""


class _Opened:
    """A client, and its lanes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lanes: dict[str, LaneWriter] = {}

    def lane(self, stream: str) -> LaneWriter:
        lane = self.lanes.get(stream)
        if lane is None:
            lane = self.lanes[stream] = self.client.lanes(stream)
        return lane


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
        self._opened: _Opened | None = None
        self._inherited: _Opened | None = None
        self._adopters: dict[int, int] = {}
        self._reopen_at = float("-inf")
        self._reopen_pause = REOPEN_PAUSE_FIRST
        self._refused_until = float("-inf")
        self._appending: set[int] = set()
        self.after_fork()

    def after_fork(self) -> None:
        """Set what each process must have for itself. In a forked child: locks that nobody holds."""
        # After a fork by C code several threads may come here at once; exactly one of them is the first.
        if self._adopters.setdefault(os.getpid(), threading.get_ident()) != threading.get_ident():
            return
        self._lock = threading.Lock()
        self._opening_thread = 0
        self._opening_since = 0.0
        self._appending = self._appending & {threading.get_ident()}  # the other threads are not here
        self._bounded = BoundedCalls()
        # The child's first append takes it over; here no thread may be started.
        if self._opened is not None:
            self._opened, self._inherited = None, self._opened
        self._pid = os.getpid()

    @property
    def client(self) -> Client | None:
        """The storage client, if there is one open."""
        if self._pid != os.getpid():
            self.after_fork()
        opened = self._opened or self._inherited
        return None if opened is None else opened.client

    def append(self, stream: str, entries: Sequence[bytes]) -> None:
        """Append entries to this process's lane of a stream.

        Raises:
            LogUnavailableError: the directory is not open and cannot be opened now, or appends wait in vain.
            CometError: the log refused the entries.
        """
        began = self._clock()
        if began < self._refused_until:
            raise LogUnavailableError(f"it keeps appends waiting; next try in {self._refused_until - began:.1f} s")
        thread = threading.get_ident()
        interrupting = thread in self._appending
        try:
            self._appending.add(thread)
            self._append(stream, entries)
        except comet_storage.CometError:
            now = self._clock()
            if now - began > SLOW_FAILURE_SECONDS:
                self._refused_until = now + min(PAUSE_FACTOR * (now - began), PAUSE_MAX)
            raise
        finally:
            if not interrupting:
                self._appending.discard(thread)

    def sync(self, timeout: float) -> bool:
        """Make durable what was appended; return whether that was done within `timeout` seconds."""
        client = self.client
        return client is None or self._bounded.call(client.sync, self._limited(timeout))

    def open(self) -> None:
        """Open the directory unless it is open or was tried too short a time ago.

        Raises:
            LogUnavailableError: it is not open after that.
        """
        self._open()

    def close(self, timeout: float) -> None:
        """Close the client, giving up the wait (not the closing) after `timeout` seconds."""
        self._closed = True  # an export that is still running in another thread must not open it again
        client, self._opened, self._inherited = self.client, None, None
        if client is not None:
            self._bounded.finish(client.close, self._limited(timeout))

    def inquire(self, question: Callable[[Client], object], timeout: float) -> bool:
        """Ask the storage client what may take long, in the helper thread.

        Returns:
            Whether there is a client, and it answered within `timeout` seconds.
        """
        client = self.client
        return client is not None and self._bounded.call(lambda: question(client), timeout)

    def _limited(self, timeout: float) -> float:
        """Return how long to wait, in seconds, for what needs the log's locks."""
        interrupting = threading.get_ident() in self._appending
        return min(timeout, INTERRUPTED_WAIT_SECONDS) if interrupting else timeout

    def _append(self, stream: str, entries: Sequence[bytes]) -> None:
        opened = self._opened or self._open()
        try:
            opened.lane(stream).append(entries)
        except comet_storage.ShardLostError:
            opened.lane(stream).append(entries)  # the lane claims another shard
        except (comet_storage.ClosedError, comet_storage.LogMovedError) as error:
            self._discard(opened, error)
            self._open().lane(stream).append(entries)

    def _open(self) -> _Opened:
        if self._pid != os.getpid():
            self.after_fork()
        opened = self._opened
        if opened is not None:
            return opened
        if not self._lock.acquire(timeout=self._patience()):
            raise LogUnavailableError("another thread is still opening it")
        try:
            self._opening_since = self._clock()
            self._opening_thread = threading.get_ident()
            if self._opened is None:
                self._opened = self._take_inherited() or self._try_to_open()
                self._bounded.start()
            return self._opened
        finally:
            self._opening_thread = 0
            self._lock.release()

    def _patience(self) -> float:
        """How long to wait for another thread that is opening, in seconds."""
        if self._opening_thread == 0:
            return OPEN_WAIT_SECONDS
        # A signal handler that exports while its own thread is opening must not wait for itself.
        if self._opening_thread == threading.get_ident():
            return 0.0
        return max(0.0, OPEN_WAIT_SECONDS - (self._clock() - self._opening_since))

    def _take_inherited(self) -> _Opened | None:
        """Return what the parent process had open: each of its lanes claims a shard anew in this one."""
        inherited, self._inherited = self._inherited, None
        return None if self._closed else inherited

    def _try_to_open(self) -> _Opened:
        if self._closed:
            raise LogUnavailableError("it was closed by the shutdown of its last exporter")
        began = self._clock()
        if began < self._reopen_at:
            raise LogUnavailableError(f"it could not be opened; next try in {self._reopen_at - began:.1f} s")
        try:
            client = comet_storage.Client(self.data_dir, self.config)
        except (comet_storage.CometError, OSError) as error:
            now = self._clock()
            self._reopen_at = now + max(self._reopen_pause, min(PAUSE_FACTOR * (now - began), PAUSE_MAX))
            self._reopen_pause = min(2 * self._reopen_pause, REOPEN_PAUSE_MAX)
            self._trouble.failed(f"cannot be opened, and telemetry is not stored until it can: {error}")
            raise LogUnavailableError(str(error)) from error
        self._reopen_pause = REOPEN_PAUSE_FIRST
        self._trouble.recovered()
        return _Opened(client)

    def _discard(self, opened: _Opened, error: Exception) -> None:
        """Drop a client that reported that it cannot write any more, so that the next use opens a new one."""
        if self._pid != os.getpid():
            self.after_fork()
        if not self._lock.acquire(timeout=self._patience()):
            raise LogUnavailableError("another thread is opening it again")
        try:
            if opened is self._opened:
                self._opened = None
            elif opened is self._inherited:
                self._inherited = None
            else:
                return  # another thread did
        finally:
            self._lock.release()
        if not self._closed:
            warn(_logger, "the telemetry log in %s is opened again: %s", self.data_dir, error)
        self._bounded.call(opened.client.close, OPEN_WAIT_SECONDS)


class _Registry:
    """All shared clients of this process, by real directory."""

    def __init__(self) -> None:
        self._clients: dict[Path, SharedClient] = {}
        self._renew()

    def acquire(self, config: ExporterConfig) -> SharedClient:
        with self._locked():
            shared = self._clients.get(config.data_dir)
            if shared is None:
                shared = self._clients[config.data_dir] = SharedClient(config.data_dir, config.storage)
            elif shared.config != config.storage:
                warn(
                    _logger,
                    "%s is already in use with other settings in this process; those stay in force",
                    config.data_dir,
                )
            shared.references += 1
            return shared

    def release(self, shared: SharedClient, timeout: float) -> None:
        with self._locked():
            shared.references -= 1
            last = shared.references == 0
            if last:
                self._clients.pop(shared.data_dir, None)
        if last:
            shared.close(timeout)

    def all(self) -> list[SharedClient]:
        with self._locked():
            return list(self._clients.values())

    def after_fork(self) -> None:
        self._renew()
        for shared in self._clients.values():
            shared.after_fork()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may make or shut down an exporter

    def _locked(self) -> threading.RLock:
        if self._pid != os.getpid():
            self._renew()
        return self._lock


_registry: Final = _Registry()
# The hook holds the registry, and that only clients whose exporters were not shut down; exporters are not held.
os.register_at_fork(after_in_child=_registry.after_fork)


def acquire(config: ExporterConfig) -> SharedClient:
    """Return the shared client of a directory, and count one more user of it. Opens nothing."""
    return _registry.acquire(config)


def release(shared: SharedClient, timeout: float) -> None:
    """Give a shared client back; the last user's release closes it, waiting for at most `timeout` seconds."""
    _registry.release(shared, timeout)


def all_clients() -> list[SharedClient]:
    """Return the shared clients that this process has now."""
    return _registry.all()
