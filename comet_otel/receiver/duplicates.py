"""Requests of ``comet-shipper`` that came twice, recognised by their id and told from others by their bytes."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from comet_otel.streams import Signal

__all__ = ["REQUEST_ID_HEADER", "Duplicates"]

REQUEST_ID_HEADER: Final = "comet-request-id"
"""Header, and gRPC metadata key, in which the shipper sends what it derives from log, stream, shard and numbers."""

REMEMBERED_MAX: Final = 16_384
"""Requests that are remembered; the oldest go first. Some 3 MB."""

ID_LENGTH_MAX: Final = 200
"""Characters of an id; a longer one is not the shipper's, and is not looked at."""


class Duplicates:
    """What was stored within the window. Only an id with the very same bytes is a duplicate.

    It lives in memory: after a restart, what is sent again is stored again. Used by several threads; between two of
    them that store the same request at the same time it decides nothing, and both are stored.
    """

    def __init__(self, window: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._stored: OrderedDict[tuple[Signal, str, bytes], float] = OrderedDict()

    def key(self, signal: Signal, request_id: str, body: bytes) -> tuple[Signal, str, bytes] | None:
        """Return what to remember a request by; None if it is not to be remembered."""
        if not self._window or not 0 < len(request_id) <= ID_LENGTH_MAX:
            return None
        return signal, request_id, hashlib.blake2b(body, digest_size=16).digest()

    def is_known(self, key: tuple[Signal, str, bytes]) -> bool:
        """Say whether this request was stored within the window."""
        stored_at = self._stored.get(key)
        return stored_at is not None and self._clock() - stored_at < self._window

    def remember(self, key: tuple[Signal, str, bytes]) -> None:
        """Note that a request is stored."""
        self._stored[key] = self._clock()
        self._stored.move_to_end(key)
        while len(self._stored) > REMEMBERED_MAX:
            self._stored.popitem(last=False)
