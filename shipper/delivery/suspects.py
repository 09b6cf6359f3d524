"""Entries that were rejected alone, until it is known whether they or the destination is to blame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from comet_storage import Consumer
from shipper.delivery.clock import Clock
from shipper.delivery.lines import Line, ShardLines
from shipper.delivery.progress import Progress
from shipper.delivery.verdicts import REJECTS_MAX, Verdicts
from shipper.outcome import Retry

_LETTERS_SECONDS: Final = 1.0
"""When the log had no room for a dead letter, it is asked again after this."""


class Suspects:
    """The suspects of all lines of one pipeline. Used by its thread alone."""

    def __init__(self, shards: Mapping[int, ShardLines], verdicts: Verdicts, progress: Progress, clock: Clock) -> None:
        """Look after those of the shards that this mapping has at any time."""
        self._shards = shards
        self._verdicts = verdicts
        self._progress = progress
        self._clock = clock
        self._letters_at = float("-inf")

    def clear(self, consumer: Consumer) -> bool:
        """The destination takes requests, so those that it rejected are to blame themselves.

        Returns whether none is left. Those for whose dead letters the log has no room wait, and nothing else does.
        """
        now = self._clock.monotonic()
        for line in self._lines():
            while line.suspects:
                if now < self._letters_at:
                    return False
                if not self._verdicts.condemn(consumer, line.suspects[0]):
                    self._letters_at = now + _LETTERS_SECONDS
                    return False
                line.suspects.pop(0)
        return True

    def fill_the_memory(self, consumer: Consumer) -> bool:
        """Whether so many wait for room in the log that nothing more may be sent, since more might be rejected."""
        if not self._verdicts.letter_trouble or self.clear(consumer):
            return False
        return sum(len(line.suspects) for line in self._lines()) >= REJECTS_MAX

    def wait(self) -> float:
        """Say that they wait for room in the log; return the seconds until it is asked for again."""
        pause = max(self._letters_at - self._clock.monotonic(), 0.1)
        self._progress.trouble("retrying", Retry("no room for dead letters", self._verdicts.letter_trouble), pause)
        return pause

    def acquit(self) -> None:
        """The destination is to blame: they are sent again."""
        for line in self._lines():
            line.put_back(line.suspects)
            line.suspects = []

    def _lines(self) -> Iterator[Line]:
        return (line for shard in self._shards.values() for line in shard.lines())
