"""Threads that send, so that several requests can be under way and the pipeline's own thread never waits for one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol


class Crew(Protocol):
    """Does jobs somewhere else."""

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job done soon."""

    def close(self) -> None:
        """Let the threads end behind what they do now."""


class ThreadCrew:
    """Daemon threads, started as they are needed: one that hangs must not keep the process alive."""

    def __init__(self, name: str, most: int) -> None:
        """Have at most so many threads."""
        self._name = name
        self._most = most
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._pending = 0
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job done by the next free thread.

        Raises:
            RuntimeError: there is no thread yet, and the system gives none.
        """
        with self._lock:
            if self._pending + 1 > len(self._threads) < self._most:
                thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    if not self._threads:
                        raise
                else:
                    self._threads.append(thread)
            self._pending += 1
        self._jobs.put(job)

    def close(self) -> None:
        """Let the threads end behind what they do now."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            finally:
                with self._lock:
                    self._pending -= 1
