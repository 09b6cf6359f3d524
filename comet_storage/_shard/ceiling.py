"""The number ceiling and the durable position of a shard: what a power cut must not be able to take back."""

from __future__ import annotations

import threading
from collections.abc import Callable

from comet_storage._format.state_page import CEILING, Durable
from comet_storage._shard.page import WriterPage

STEP_MIN = 1024
STEP_MAX = 1 << 20

ROUNDS_PER_STEP = 4
"""A step is enough for so many rounds of the flusher with as many new numbers as the last one had."""


class Ceiling:
    """Keeps a durable bound above every number that is given out.

    After a power cut the numbers between the last durable one and the ceiling cannot be told from numbers that were
    given out, so they count as lost; therefore the steps start small and grow only with use.

    Args:
        durable: what is known to be on the disk.
        keep: stores a second copy, where a state page that is lost does not take it along.
    """

    def __init__(self, durable: Durable, *, keep: Callable[[Durable], None]) -> None:
        self.durable = durable
        self.lock = threading.RLock()
        """Held while a durable slot is written: the flusher does that while appends go on."""
        self._keep = keep
        self._step = STEP_MIN
        self._seen = durable.number

    def ensure(self, page: WriterPage, number: int, count: int) -> int:
        """Return the durable ceiling when it is at least ``number``; ``count`` is what one append takes of it.

        May wait for the disk.
        """
        ceiling = page.words[CEILING]
        if number > ceiling:
            with self.lock:
                self._raise(page, number + self._step)
                self._step = min(max(4 * self._step, 16 * count), STEP_MAX)
                ceiling = self.durable.ceiling
        return ceiling

    def ahead(self, page: WriterPage, number: int) -> int:
        """The ceiling to raise to before an append has to wait for it; the one that is, if that is far enough.

        Called once per round of the flusher: a step lasts for some rounds like the last one.
        """
        used, self._seen = number - self._seen, number
        self._step = min(max(ROUNDS_PER_STEP * used, self._step // 2, STEP_MIN), STEP_MAX)
        ceiling = page.words[CEILING]
        return ceiling if number + self._step // 2 <= ceiling else number + self._step

    def lower(self, page: WriterPage, number: int) -> None:
        """Put the ceiling to the next number: no more numbers will be given out before it is raised again."""
        page.words[CEILING] = number
        self.durable = self.durable._replace(ceiling=number)
        page.write_durable(self.durable)
        self._keep(self.durable)

    def record(self, page: WriterPage, durable: Durable) -> None:
        """Store what is durable. It counts when the page is synced; until then nothing may rely on its ceiling."""
        raised = durable.ceiling != self.durable.ceiling
        self.durable = durable
        page.write_durable(durable)
        if raised:
            self._keep(durable)

    def _raise(self, page: WriterPage, ceiling: int) -> None:
        found = page.durable() or self.durable
        self.record(page, found._replace(ceiling=max(ceiling, found.ceiling)))
        page.sync()
        page.words[CEILING] = self.durable.ceiling
