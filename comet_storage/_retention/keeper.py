"""Retention as it runs in the background: a little at a time, from the flusher's thread, in every process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from comet_storage._format.limits import SEGMENT_HEADER_BYTES
from comet_storage._log.clock import SAVE_SECONDS, LogClock
from comet_storage._log.layout import LogLayout
from comet_storage._log.space import SpaceLedger
from comet_storage._os.door import Door, as_storage_error
from comet_storage._retention.evictor import CHUNK, Evictor
from comet_storage._retention.policy import Rules
from comet_storage._retention.recorded_policy import load_policy, record_policy
from comet_storage._retention.survey import Survey
from comet_storage._segment.active import ActiveSegment
from comet_storage.config import RetentionConfig, seconds
from comet_storage.errors import CometError
from comet_storage.names import ShardName

if TYPE_CHECKING:
    from comet_storage._shard.writer import ShardWriter

FIRST_PASS_SECONDS = 10.0
"""The first look at ages comes after the interval, or after this, whichever is less."""
ROUND_SECONDS = 0.05
"""What one round may take of the thread that makes data durable; the rest of a pass follows in the next rounds."""


class Keeper:
    """Keeps one log within its limits.

    Args:
        asked: the configuration that this process was given; None to follow what the log's writers recorded.
    """

    def __init__(
        self, door: Door, layout: LogLayout, ledger: SpaceLedger, asked: RetentionConfig | None, when_full: str
    ) -> None:
        self._door = door
        self._layout = layout
        self._ledger = ledger
        self._asked = asked
        self._recorded = asked is None
        self._when_full = when_full
        self.survey = Survey(door, layout)
        self.clock = LogClock(door, ledger, self.survey.newest_time)
        self.evictor = Evictor(door, layout, ledger, self.clock, self.survey)
        ledger.evict = self.evictor.make_room
        self.config = RetentionConfig()
        self.refresh_policy()
        self._saved_at = door.monotonic()
        self._pass_at = self._saved_at + min(FIRST_PASS_SECONDS, self._interval())
        self._left: list[ShardName] = []
        self._seen: dict[str, int] = {}

    def refresh_policy(self) -> None:
        """Take the rules from the configuration, or from what the log's writers recorded."""
        config = self._asked or load_policy(self._door, self._layout) or RetentionConfig()
        self.config = config
        self._ledger.min_free_bytes = config.min_free_bytes
        # Which of two writers is right about a full log is the log's to say, not theirs.
        self.evictor.rules = Rules.of(config, when_full=self._when_full)

    def record_policy(self) -> None:
        """Leave a writer's settings to those that look after the log without any of their own."""
        if not self._recorded and self._asked is not None:
            self._recorded = True
            record_policy(self._door, self._layout, self._ledger, self._asked)

    def tend(self, writers: Iterable[ShardWriter]) -> None:
        """One round: what is cheap always, and a part of what is due.

        Raises:
            CometError: the first that went wrong; the next round tries again.
        """
        now = self._door.monotonic()
        errors: list[CometError] = []
        writers = list(writers)
        steps: list[Callable[[], object]] = [self._keep_floor, lambda: self._look_after(writers)]
        if now - self._saved_at >= SAVE_SECONDS:
            self._saved_at = now
            steps.append(self.clock.save)
        if now >= self._pass_at and self._interval() > 0:
            self._pass_at = now + self._interval()
            steps.append(self._begin_pass)
        steps.append(lambda: self._go_on(self._left, now + ROUND_SECONDS))
        for step in steps:
            try:
                step()
            except CometError as error:
                errors.append(error)
            except OSError as error:
                errors.append(as_storage_error(error, self._layout.root))
        if errors:
            raise errors[0]

    def clean(self, writers: Iterable[ShardWriter]) -> None:
        """A whole pass at once.

        Raises:
            CometError: the log could not be listed, or another process held the ledger too long.
        """
        self._look_after(list(writers))
        self.refresh_policy()
        self._go_on(list(self._layout.all_shards()), None)
        self._keep_floor()

    def _interval(self) -> float:
        return seconds(self.config.cleanup_interval)

    def _keep_floor(self) -> None:
        if self._ledger.min_free_bytes:
            self._ledger.keep_floor()

    def _look_after(self, writers: list[ShardWriter]) -> None:
        """Close active segments of this process that are old enough; see to shards that got longer."""
        if self.evictor.rules.seal_after() is None and self.evictor.rules.max_shard_size is None:
            return
        before = self._begun_before()
        for writer in writers:
            active: ActiveSegment = writer.active
            if before is not None and active.holds_entries(before):
                writer.rotate(begun_before=before)
            if self.evictor.rules.max_shard_size is not None:
                newest = writer.active.first_entry
                if self._seen.get(str(writer.name)) != newest:
                    self._seen[str(writer.name)] = newest
                    self._left.append(writer.name)

    def _begun_before(self) -> int | None:
        """Active segments that were begun up to this time of the log clock are to be closed."""
        age = self.evictor.rules.seal_after()
        return None if age is None else self.clock.now_ns() - age

    def _begin_pass(self) -> None:
        self.refresh_policy()
        self._left = list(self._layout.all_shards())

    def _go_on(self, left: list[ShardName], until: float | None) -> None:
        """See to the shards that are left of a pass, one after the other; ``left`` gets shorter."""
        while left:
            name = left[-1]
            self.survey.forget(name)
            self._close_abandoned(name)
            while self.evictor.evict_overdue(name) == CHUNK:
                if until is not None and self._door.monotonic() >= until:
                    return
            left.pop()
            if until is not None and self._door.monotonic() >= until:
                return

    def _close_abandoned(self, name: ShardName) -> None:
        """Close the active segment of a shard without a writer, if it is old enough."""
        before = self._begun_before()
        if before is None:
            return
        found = self.survey.active_segment(name)
        # Of no more than its header is left what holds nothing.
        if found is not None and 0 < found[0] <= before and found[1] > SEGMENT_HEADER_BYTES:
            self.evictor.close_orphan(name)
