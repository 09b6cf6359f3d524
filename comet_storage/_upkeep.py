"""What the background thread of a client does for the log, round by round."""

from __future__ import annotations

import contextlib
import weakref

from comet_storage._groups.shard_cursor import ShardCursor
from comet_storage._log.counters import Problems
from comet_storage._log.flusher import Flusher
from comet_storage._log.latency import Appender, AppendLatency, LatencyProbe
from comet_storage._os.door import Door
from comet_storage._retention.keeper import Keeper
from comet_storage._shard.flush import flush_writer
from comet_storage._shard.writer import ShardWriter
from comet_storage.config import CometConfig, seconds
from comet_storage.errors import CometError


class Upkeep:
    """The background work on what a client has open; the engine makes the parts."""

    _door: Door
    _config: CometConfig
    _keeper: Keeper
    _lock: contextlib.AbstractContextManager[bool]
    _writers: dict[str, ShardWriter]
    _appenders: dict[str, Appender]
    _cursors: weakref.WeakSet[ShardCursor]
    _problems: Problems
    _latency: AppendLatency
    _flusher: Flusher | None
    _checkpoint_at: float
    _closed: bool

    def _start_flusher(self) -> None:
        if self._flusher is None and not self._closed:
            self._flusher = Flusher(
                self._door,
                self._flush,
                self._grow_ahead,
                seconds(self._config.storage.sync_interval),
                self._problems.note,
            )
            self._flusher.start()

    def _flush(self) -> None:
        """One round of the flusher: every shard gets its turn, every so often every group; the first error is told."""
        self._grow_ahead()
        self._measure_latency()
        now = self._door.monotonic()
        checkpoint = now >= self._checkpoint_at
        if checkpoint:
            self._checkpoint_at = now + seconds(self._config.storage.checkpoint_time)
        errors = self._make_durable(groups=checkpoint)
        try:
            self._keeper.tend(self._writers.values())
        except CometError as error:
            errors.append(error)
        if errors:
            raise errors[0]

    def _make_durable(self, *, groups: bool) -> list[Exception]:
        """Sync every shard, and every group; what one of them met keeps no other one waiting."""
        errors: list[Exception] = []
        for writer in list(self._writers.values()):
            try:
                flush_writer(writer)
            except (CometError, OSError) as error:
                errors.append(error)
        for cursor in self._open_cursors() if groups else ():
            try:
                cursor.lease.sync()
            except OSError as error:
                errors.append(error)
        return errors

    def _grow_ahead(self) -> None:
        for writer in list(self._writers.values()):
            # What keeps it from growing must not keep it from being synced; that tells what is wrong.
            with contextlib.suppress(CometError, OSError):
                writer.grow_ahead()
                writer.finish_closed()

    def _measure_latency(self) -> None:
        """Have the next append of each shard measured."""
        for key, writer in list(self._writers.items()):
            if self._appenders.get(key) is writer:
                self._appenders[key] = LatencyProbe(self._appenders, key, writer, self._latency, self._problems)

    def _wake_flusher(self) -> None:
        flusher = self._flusher
        if flusher is not None:
            flusher.wake()

    def _open_cursors(self) -> list[ShardCursor]:
        # Under the lock: others may not join the set while it is walked.
        with self._lock:
            return list(self._cursors)
