"""Where the receiver listens: TCP addresses and Unix domain sockets, and which of them others can reach."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Address", "listen", "out_of_sight", "parse_address", "remove_socket_file"]

_PORT_MAX: Final = 65535
_PROBE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Address:
    """A place to listen.

    Attributes:
        host: name or number of a network interface; empty for a Unix domain socket.
        port: TCP port; 0 lets the system choose.
        path: file of a Unix domain socket; None for TCP.
    """

    host: str
    port: int = 0
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def is_local(self) -> bool:
        """Whether only programs on this machine can connect. A name is local if all that it stands for is."""
        if self.path is not None:
            return True
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)}
        except OSError:
            return False
        return bool(found) and all(ipaddress.ip_address(str(text).partition("%")[0]).is_loopback for text in found)


def parse_address(text: str) -> Address:
    """Read ``host:port``, ``[::1]:port``, ``http://host:port`` or ``unix:/path``.

    Raises:
        ValueError: it is none of them; the message says the rule.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if not path or path.startswith("//"):
            raise ValueError("must have a path behind 'unix:'")
        return Address("", path=Path(path))
    place = text.removeprefix("http://").removeprefix("https://").rstrip("/")
    host, colon, port = place.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > _PORT_MAX or "/" in place:
        raise ValueError("must be HOST:PORT or unix:/PATH")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError("must have brackets around an IPv6 address")
    return Address(host.strip("[]"), int(port))


def listen(address: Address, *, backlog: int, socket_mode: int) -> list[socket.socket]:
    """Bind and listen on all that the address stands for; nobody is accepted yet.

    Raises:
        OSError: it is taken, cannot be resolved, or this user may not.
    """
    try:
        return _listen(address, backlog, socket_mode)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from error


def _listen(address: Address, backlog: int, socket_mode: int) -> list[socket.socket]:
    if address.path is not None:
        return [_listen_at_path(address.path, backlog, socket_mode)]
    sockets: list[socket.socket] = []
    port = address.port
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(
            address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listener = socket.socket(family, kind, protocol)
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((place[0], port, *place[2:]))
            port = listener.getsockname()[1]  # where the system chose, all interfaces get the same
            listener.listen(backlog)
            listener.settimeout(0)
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _listen_at_path(path: Path, backlog: int, mode: int) -> socket.socket:
    remove_socket_file(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the file the mode of the socket: there is no moment in which others could connect.
        os.fchmod(listener.fileno(), mode)
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen(backlog)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def out_of_sight(path: Path, mode: int) -> Iterator[Path]:
    """Yield a path that nobody else can reach; the socket that is made there then gets its mode, and its place.

    For libraries that make a socket with whatever mode the process gives to new files, for all to connect to.

    Raises:
        OSError: something has come to be at ``path`` in the meantime, or the directory cannot be written to.
    """
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        hidden = Path(folder) / "s"
        yield hidden
        hidden.chmod(mode)
        path.hardlink_to(hidden)  # which does not replace anything, as a rename would


def remove_socket_file(path: Path) -> None:
    """Remove what a receiver that was killed left behind.

    Raises:
        OSError: the file is no socket, or something answers there.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "is there and is no socket", str(path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_SECONDS)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise OSError(errno.EADDRINUSE, "another program listens there", str(path))
