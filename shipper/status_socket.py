"""How a running shipper tells other terminals what only it knows: a Unix socket beside the log.

A socket takes no blocks of the disk's bound, is never out of date, and needs no port. Its permissions are those of the
log's directory. Each shipper has its own, ``shipper-<random>.sock``; whoever connects is sent one JSON document. One
whose shipper was killed refuses connections, and is removed by the next shipper that starts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

PATTERN: Final = "shipper-*.sock"
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_TIMEOUT_SECONDS: Final = 2.0
_BACKLOG: Final = 8

_logger = logging.getLogger(__name__)


class StatusSocket:
    """Answers as long as it is open."""

    def __init__(self, data_dir: Path, answer: Callable[[], dict[str, Any]]) -> None:
        """Listen in the log's directory; where that is impossible, a line says so and nobody is answered."""
        self._answer = answer
        self._listener: socket.socket | None = None
        self._path = data_dir / f"shipper-{secrets.token_hex(4)}.sock"
        try:
            _remove_dead(data_dir)
            self._listener = self._listen(data_dir)
        except OSError as error:
            _logger.warning("cannot tell `comet-shipper status` how delivery goes: %s", error)
            return
        threading.Thread(target=self._serve, args=(self._listener,), name="shipper-status", daemon=True).start()

    def close(self) -> None:
        """Stop answering, and leave nothing behind."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()

    def _listen(self, data_dir: Path) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short_address(self._path) as address:
                listener.bind(address)
            # Who may use the log may ask; connecting needs the permission to write.
            self._path.chmod(stat.S_IMODE(data_dir.stat().st_mode) & 0o660)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener

    def _serve(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._listener is listener:
                    _logger.warning("stopped telling `comet-shipper status` how delivery goes")
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_TIMEOUT_SECONDS)
                connection.sendall(json.dumps(self._answer()).encode())


def ask_shippers(data_dir: Path) -> list[dict[str, Any]]:
    """Return what each shipper of a log says of itself; those that do not answer are left out."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(data_dir.glob(PATTERN)):
            with contextlib.suppress(OSError, ValueError):
                answer = json.loads(_ask(path))
                if isinstance(answer, dict):
                    found.append(answer)
    return found


def _ask(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_SECONDS)
        with _short_address(path) as address:
            connection.connect(address)
        parts, size = [], 0
        while (part := connection.recv(65536)) and size <= ANSWER_BYTES_MAX:
            parts.append(part)
            size += len(part)
        return b"".join(parts)


def _remove_dead(data_dir: Path) -> None:
    """Remove the sockets of shippers that were killed."""
    for path in data_dir.glob(PATTERN):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            try:
                with _short_address(path) as address:
                    connection.connect(address)
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue


@contextlib.contextmanager
def _short_address(path: Path) -> Iterator[str]:
    """Give the socket's address through a descriptor of its directory: a whole path may be longer than addresses."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        through = Path(f"/proc/self/fd/{directory}")
        yield str(through / path.name if through.exists() else path)
    finally:
        os.close(directory)
