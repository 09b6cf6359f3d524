"""The log clock: by it data grows old. It runs while the machine does, and nobody sets it.

Within a boot it follows the time since the boot. Across boots it goes on from what was kept, plus the time that the
wall clock says has passed, if that is plausible: a board that boots in 1970 and then meets its time server, or whose
clock somebody sets, ages nothing by that.
"""

from __future__ import annotations

from collections.abc import Callable

from comet_storage._format.log_clock import CLOCK_END, CLOCK_OFFSETS, ClockReading, decode_clock, encode_clock_slot
from comet_storage._log.space import SpaceLedger
from comet_storage._os.door import Door, storage_errors

PLAUSIBLE_OFF_NS = 30 * 86400 * 10**9
"""A machine is taken to have been off for at most so long; a longer step is the wall clock's mistake."""
SAVE_SECONDS = 60.0
"""How often the clock is kept while a log is in use: so much time is lost at most where the wall clock is no help."""


class LogClock:
    """One log's clock. Every process that has the log open gets the same time from it.

    Args:
        newest_known: the largest time that any segment knows of, for a log whose kept time is lost; 0 if there is none.
    """

    def __init__(self, door: Door, ledger: SpaceLedger, newest_known: Callable[[], int]) -> None:
        self._door = door
        self._ledger = ledger
        self._newest_known = newest_known
        self._anchor: ClockReading | None = None

    def now_ns(self) -> int:
        """Nanoseconds by the log clock.

        Raises:
            StorageIOError, LogBusyError: the first time, when it cannot be read.
        """
        anchor = self._anchor
        if anchor is None:
            anchor = self._anchor = self._begin()
        return anchor.log_ns + max(0, self._door.boot_time_ns() - anchor.boot_ns)

    def save(self) -> None:
        """Keep the time, so that the clock goes on from here after a restart.

        Raises:
            StorageIOError, LogBusyError: it was not kept; the clock itself is none the worse.
        """
        now = self.now_ns()
        with self._ledger.locked() as fd, storage_errors(self._ledger.path):
            found = decode_clock(self._door.read(fd, CLOCK_END, 0))
            self._keep(fd, found[0] + 1 if found else 0, self._reading(now))

    def _begin(self) -> ClockReading:
        """Find the time, under the ledger's lock: the first process of a boot decides for all."""
        with self._ledger.locked() as fd, storage_errors(self._ledger.path):
            found = decode_clock(self._door.read(fd, CLOCK_END, 0))
            boot_id, boot_ns = self._door.boot_id(), self._door.boot_time_ns()
            if found is not None and any(boot_id) and found[1].boot_id == boot_id and found[1].boot_ns <= boot_ns:
                return found[1]
            wall = self._door.wall_clock_ns()
            log_ns = _continued(found[1], wall) if found else self._newest_known() or max(1, wall)
            reading = self._reading(log_ns)
            self._keep(fd, found[0] + 1 if found else 0, reading)
            return reading

    def _reading(self, log_ns: int) -> ClockReading:
        wall = max(0, self._door.wall_clock_ns())
        return ClockReading(self._door.boot_id(), self._door.boot_time_ns(), log_ns, wall)

    def _keep(self, fd: int, sequence: int, reading: ClockReading) -> None:
        self._door.write(fd, encode_clock_slot(sequence, reading), CLOCK_OFFSETS[sequence % 2])


def _continued(kept: ClockReading, wall_ns: int) -> int:
    """The time in a new boot."""
    passed = wall_ns - kept.wall_ns
    return kept.log_ns + (passed if 0 <= passed <= PLAUSIBLE_OFF_NS else 0)
