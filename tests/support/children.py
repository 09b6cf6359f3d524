"""Child processes for tests: forked by a server that has everything imported, so that starting one takes milliseconds.

What they do is a module-level function of a test module or of this package. They are ended by their own ``Process``.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_PRELOADED = ["comet_storage", "tests.support.writer_child"]
PATIENCE_SECONDS = 60.0
"""How long anything may take before a test gives up."""


def children() -> ForkServerContext:
    """The context that starts children; its server finds the tests whatever the working directory is."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(_ROOT)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


RAW_BYTES = 3000 * 20
"""Records of 20 bytes are written whole, so reads of a multiple of it never cut one in two."""


class Child:
    """A child process with a pipe from it and a pipe to it.

    The function gets the write end of the one and the read end of the other, then the other arguments.
    """

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        context = children()
        self._from, child_out = context.Pipe(duplex=False)
        child_in, self._to = context.Pipe(duplex=False)
        self.process: ForkServerProcess = context.Process(
            target=_run, args=(function, child_out, child_in, *arguments), daemon=True
        )
        self.process.start()
        child_out.close()
        child_in.close()
        self._ended = False

    def tell(self, message: object) -> None:
        """Send something to the child."""
        self._to.send(message)

    def hear(self) -> Any:
        """The next thing that the child sends."""
        if not self._from.poll(PATIENCE_SECONDS):
            raise AssertionError("the child said nothing")
        return self._from.recv()

    def ask(self, message: object) -> Any:
        """Send something and return the answer."""
        self.tell(message)
        return self.hear()

    def read_raw(self, until: float) -> bytes:
        """What the child writes to its pipe with ``os.write``, until the monotonic clock says ``until`` or it ends."""
        parts = []
        descriptor = self._from.fileno()
        while not self._ended:
            left = until - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                break
            part = os.read(descriptor, RAW_BYTES)
            self._ended = not part
            parts.append(part)
        return b"".join(parts)

    def read_some(self) -> bytes:
        """What the child writes first, however long that takes."""
        data = b""
        while not (data or self._ended):
            if not select.select([self._from.fileno()], [], [], PATIENCE_SECONDS)[0]:
                raise AssertionError("the child said nothing")
            data = self.read_raw(time.monotonic() + 0.001)
        return data

    def read_rest(self) -> bytes:
        """What the child wrote before its end, which must be near."""
        data = self.read_raw(time.monotonic() + PATIENCE_SECONDS)
        if not self._ended:
            raise AssertionError("the child did not end")
        return data

    def kill(self) -> None:
        """Kill -9, and wait."""
        self.process.kill()
        self.process.join(PATIENCE_SECONDS)

    def join(self) -> int | None:
        """Wait for the child's end and return its exit code: negative for a signal."""
        self.process.join(PATIENCE_SECONDS)
        return self.process.exitcode

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._from.close()
        self._to.close()


def _run(function: Callable[..., None], out: Connection, into: Connection, *arguments: Any) -> None:
    function(out, into, *arguments)
