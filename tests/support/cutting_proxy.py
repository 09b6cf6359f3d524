"""A TCP proxy that can be cut: connections are reset and refused, or stay open while nothing passes any more."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading

_CHUNK = 65536
HOST = "127.0.0.1"


class CuttingProxy:
    """Listens on a port of its own and forwards to another one."""

    def __init__(self, target_port: int) -> None:
        self._target = (HOST, target_port)
        self._mode = "pass"
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection, and every new one at once."""
        self._mode = "cut"
        self._reset_all()

    def black_hole(self) -> None:
        """Let nothing pass any more, in connections that seem to be fine."""
        self._mode = "hole"

    def mend(self) -> None:
        """Let everything pass; what was swallowed meanwhile is gone, and its connections with it."""
        self._mode = "pass"
        self._reset_all()

    def close(self) -> None:
        """End."""
        self._mode = "cut"
        self._listener.close()
        self._reset_all()

    def _reset_all(self) -> None:
        with self._lock:
            connections, self._connections = list(self._connections), set()
        for connection in connections:
            _reset(connection)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._mode == "cut":
                    _reset(near)
                    continue
                threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        far = socket.socket()
        with self._lock:
            self._connections |= {near, far}
        with contextlib.suppress(OSError, ValueError):
            far.connect(self._target)
            with selectors.DefaultSelector() as selector:
                selector.register(near, selectors.EVENT_READ, far)
                selector.register(far, selectors.EVENT_READ, near)
                while True:
                    for key, _ in selector.select(0.2):
                        data = key.fileobj.recv(_CHUNK)
                        if not data:
                            raise OSError
                        if self._mode == "pass":
                            key.data.sendall(data)
        with self._lock:
            self._connections -= {near, far}
        _reset(near)
        _reset(far)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
