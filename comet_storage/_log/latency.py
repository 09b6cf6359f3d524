"""How long appends take, measured on one append per round of the flusher, so that the others pay nothing for it."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Protocol

from comet_storage._log.counters import Problems
from comet_storage._os.door import Door
from comet_storage.types import MessageIDs


class Appender(Protocol):
    """What takes a shard's appends."""

    def append(self, entries: Sequence[object]) -> MessageIDs:
        """Append entries as one publication, all of them or none."""
        ...


class AppendLatency:
    """Nanoseconds that measured appends took; zeros before the first one."""

    def __init__(self, door: Door) -> None:
        self.clock = door.monotonic
        self.last = 0
        self.least = 0
        self.most = 0

    def note(self, start: float) -> None:
        """One append took from ``start``, by the clock, until now."""
        duration = max(1, int((self.clock() - start) * 1e9))
        self.last = duration
        self.least = min(self.least, duration) if self.least else duration
        self.most = max(self.most, duration)


class LatencyProbe:
    """Stands in for a writer for one append, measures it, and steps back.

    Args:
        key: where in ``appenders`` it stands.
        writer: what it stands in for.
    """

    def __init__(
        self,
        appenders: MutableMapping[str, Appender],
        key: str,
        writer: Appender,
        latency: AppendLatency,
        problems: Problems,
    ) -> None:
        self._appenders = appenders
        self._key = key
        self.writer = writer
        self._latency = latency
        self._problems = problems

    def append(self, entries: Sequence[object]) -> MessageIDs:
        """Append and measure.

        Raises:
            CometError: as the writer does.
        """
        if self._appenders.get(self._key) is self:
            self._appenders[self._key] = self.writer
        start = self._latency.clock()
        ids = self.writer.append(entries)
        self._latency.note(start)
        self._problems.full = False
        return ids
