"""Child processes of the demo: started in groups of their own, always ended, only ever by id."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Self

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"


class Processes:
    """All children of the demo. As a context manager it leaves none of them behind, however it is left."""

    def __init__(self, folder: Path) -> None:
        """Keep the children's output in files in `folder`."""
        self._folder = folder
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for child in self._children:
            child.kill()

    def start(self, name: str, module: Sequence[str], environment: Mapping[str, str] | None = None) -> Child:
        """Start ``python -m`` with `module` (name and arguments); its output goes to a file."""
        output = self._folder / f"{name}-{len(self._children)}.log"
        child = Child(name, module, output, environment or {})
        self._children.append(child)
        return child


class Child:
    """One child process and whatever it starts itself."""

    def __init__(self, name: str, module: Sequence[str], output: Path, environment: Mapping[str, str]) -> None:
        """Start it in a session of its own, so that its group is its children and nothing else."""
        self.name = name
        self.output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the child, which is also the id of its group."""
        return self._process.pid

    def alive(self) -> bool:
        """Say whether the child itself still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Send SIGKILL to the child and everything that it started."""
        # Also after the child itself ended: its group may still have members.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout: float = 20.0) -> int:
        """Send SIGTERM to the child and return its exit code."""
        return self.signal(signal.SIGTERM, timeout)

    def signal(self, number: int, timeout: float = 20.0) -> int:
        """Send a signal to the child, wait for its end and return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DemoError(f"{self.name} did not stop within {timeout:g} s; see {self.output}") from None

    def last_words(self) -> str:
        """Return the end of the child's output."""
        return self.output.read_text(errors="replace")[-2000:]


class DemoError(Exception):
    """The demo cannot go on."""


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], what: str, child: Child | None = None, timeout: float = 60.0) -> None:
    """Wait for a condition; a child that it depends on must stay alive meanwhile."""
    deadline = time.monotonic() + timeout
    while not condition():
        if child is not None and not child.alive():
            raise DemoError(f"{child.name} ended while waiting for {what}:\n{child.last_words()}")
        if time.monotonic() > deadline:
            words = f":\n{child.last_words()}" if child is not None else ""
            raise DemoError(f"no {what} within {timeout:g} s{words}")
        time.sleep(0.05)


def answers(port: int, path: str) -> bool:
    """Say whether an HTTP server on this machine answers a path with success."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def listens(port: int) -> bool:
    """Say whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((HOST, port)) == 0
