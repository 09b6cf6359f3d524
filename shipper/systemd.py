"""What systemd wants to hear from a service of ``Type=notify``: sent as datagrams to the socket that it names.

Without the variable ``NOTIFY_SOCKET``, which is everywhere else, nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

NOTIFY_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE: Final = "WATCHDOG_PID"
_SHARE: Final = 3
"""The watchdog is told that all is well three times within its limit, so that one late time is no death."""


class ServiceManager:
    """The service manager that started this process, if there is one."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Read the variables that it set."""
        variables = os.environ if environment is None else environment
        address = variables.get(NOTIFY_VARIABLE, "")
        # "@" stands for the zero byte of a name in the abstract namespace.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_seconds = _watchdog_seconds(variables)
        self._alive_at = float("-inf")

    def ready(self) -> None:
        """Say that the service has started, or has taken its new settings."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that the settings are being read again."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Give the line that ``systemctl status`` shows."""
        self._send(f"STATUS={text.splitlines()[0] if text else ''}")

    def alive(self) -> None:
        """Say that all is well, if that is due. To be called every second or so while it is true."""
        if self.watchdog_seconds is None:
            return
        now = time.monotonic()
        if now - self._alive_at >= self.watchdog_seconds / _SHARE - 1:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(1)
            try:
                channel.sendto(message.encode(), self._address)
            except OSError:
                # A manager that does not listen must not stop delivery; its watchdog will tell it.
                return


def _watchdog_seconds(variables: Mapping[str, str]) -> float | None:
    pid = variables.get(WATCHDOG_PID_VARIABLE, "")
    limit = variables.get(WATCHDOG_VARIABLE, "")
    if not limit.isdigit() or int(limit) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(limit) / 1e6
