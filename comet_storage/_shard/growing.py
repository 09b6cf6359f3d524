"""Having room before an append needs it: blocks behind the cursor, and the next segment's file."""

from __future__ import annotations

from types import CodeType

from comet_storage._format.state_page import ALLOCATED, GENERATION
from comet_storage._os.door import storage_errors
from comet_storage._segment.active import STEP_BYTES_MAX, STEP_BYTES_MIN, ActiveSegment
from comet_storage._segment.growth import Growth
from comet_storage._segment.opening import PreparedSegment, prepare_segment
from comet_storage._shard.claim import OWNER_WAIT, segment_capacity
from comet_storage._shard.claimed import ClaimedShard
from comet_storage._shard.context import ShardContext

ROUNDS_PER_STEP = 4
"""A step of preallocation is enough for so many rounds of the flusher with as many bytes as the last one had."""

FILL_BYTES_MAX = 8 * 1024 * 1024
"""Blocks are filled with zeros ahead of appends while a round of the flusher sees no more bytes than this."""


class GrowingShard(ClaimedShard):
    """A claimed shard whose flusher keeps ahead of its appends.

    Raises (on construction):
        ShardOwnedError: another live writer owns the shard.
        StorageIOError: the operating system refused.
    """

    def __init__(self, context: ShardContext, append_code: CodeType, wait: float = OWNER_WAIT) -> None:
        super().__init__(context, append_code, wait)
        self._fills = self._settings.mapped
        self._seen_position = self.end()[1]

    def pace(self, position: int) -> None:
        """Let steps of preallocation last for some rounds of the flusher like the last one; called once per round.

        Blocks are filled with zeros ahead only at moderate rates: it doubles what is written to the disk.
        """
        used, self._seen_position = position - self._seen_position, position
        self._fills = self._settings.mapped and used <= FILL_BYTES_MAX
        active = self.active
        active.step = min(max(ROUNDS_PER_STEP * used, active.step // 2, STEP_BYTES_MIN), STEP_BYTES_MAX)

    def grow_ahead(self) -> None:
        """Preallocate before an append has to; called by the flusher, while appends go on.

        Raises:
            LogFullError: there is no room; the append that needs it will say so.
        """
        if self.shared or self.failure is not None:
            return
        active = self.active
        if active.allocated - active.cursor[0] < active.step and active.allocated < active.capacity:
            timeout = self._settings.lock_timeout
            with self.exclusive() as active:
                active.stop_growth(timeout)
                target = min(active.allocated + active.step, active.capacity)
                growth = active.begin_growth()
            self._run_growth(growth, active, target)
            with self.exclusive() as current:
                current.stop_growth(timeout)
                self._words[ALLOCATED] = current.allocated
        if active.allocated >= active.capacity:
            self._prepare_ahead()

    def _run_growth(self, growth: Growth, active: ActiveSegment, target: int) -> None:
        door = self.context.door
        # By a descriptor of its own: the append path may close the segment's meanwhile.
        try:
            fd = door.open_kept(self.context.layout.segment(active.first_entry), write=True)
        except FileNotFoundError:
            return
        try:
            with storage_errors(self.context.layout.directory):
                growth.run(
                    door,
                    fd,
                    target,
                    self.context.reserve,
                    fill=self._fills,
                    may_go_on=lambda: self._words[GENERATION] == self.generation,
                )
        finally:
            door.close(fd)

    def _take_prepared(self, capacity: int, step: int) -> PreparedSegment:
        """The file that the flusher prepared, if it is large enough, or a new one."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared.capacity == capacity and prepared.is_linked():
            return prepared
        if prepared is not None:
            self.context.release(prepared.discard)
        return prepare_segment(
            self.context.door,
            self.context.layout.prepared,
            capacity,
            mapped=self._settings.mapped,
            reserve=self.context.reserve,
            step=step,
        )

    def _prepare_ahead(self) -> None:
        """Prepare the next segment when the active one is half used up."""
        # In this writer's turn: a rotation that took the one before has given it the segment's name then, and the name
        # of prepared ones is free.
        with self.exclusive() as active:
            if self._prepared is not None or active.capacity - active.cursor[0] > active.capacity // 2:
                return
        prepared = prepare_segment(
            self.context.door,
            self.context.layout.prepared_ahead,
            segment_capacity(self._settings.segment_size, 0),
            mapped=self._settings.mapped,
            reserve=self.context.reserve,
            step=active.step,
        )
        left: PreparedSegment | None = prepared
        try:
            if self._fills:
                with storage_errors(self.context.layout.directory):
                    prepared.fill()
            with self.exclusive():
                self._prepared, left = prepared, self._prepared
        finally:
            # Also when the turn was not had in time: an open file without a name keeps its blocks, uncounted.
            if left is not None:
                self.context.release(left.discard)
