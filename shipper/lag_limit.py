"""Decides how far retention must wait for a destination: up to its lag limit.

Within the limit the destination's group protects what it has still to get. Beyond it, retention need not wait any more:
nothing is thrown away because of the limit alone, but what retention's own rules condemn goes, and counts as evicted
for this group. Each stream is judged by itself, and again every few seconds, so the protection comes back by itself.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from comet_storage import Client, CometError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shipper.settings import DestinationConfig

_RETURN_SHARE: Final = 0.9
"""The protection comes back below this share of the limit, so that it does not come and go with every segment."""

_logger = logging.getLogger(__name__)


class LagLimit:
    """Applies one destination's limit to the streams that it reads."""

    def __init__(
        self, client: Client, destination: DestinationConfig, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Judge by a clock that gives seconds since 1970, as the log's time stamps do."""
        self._client = client
        self._destination = destination
        self._clock = clock

    def apply(self, streams: Iterable[str]) -> None:
        """Look at each stream, and change its group's protection where that is due."""
        for stream in streams:
            try:
                self._apply(stream)
            except CometError as error:
                _logger.debug("the lag of %s in %s cannot be judged now: %s", self._destination.name, stream, error)

    def _apply(self, stream: str) -> None:
        group = self._destination.group
        if group not in self._client.groups(stream):
            return
        protected = self._client.is_group_protected(stream, group)
        excess = self._excess(stream, 1.0 if protected else _RETURN_SHARE)
        if protected is (excess is None):
            return
        self._client.protect_group(stream, group, protect=excess is None)
        facts = {"destination": self._destination.name, "stream": stream}
        if excess is None:
            _logger.info("%s: %s is within its lag limit again, and protected", *facts.values(), extra=facts)
        else:
            _logger.warning(
                "%s: %s lags by %s; retention does not wait for it any more", *facts.values(), excess, extra=facts
            )

    def _excess(self, stream: str, share: float) -> str | None:
        """Return by what this share of the limit is exceeded; None if it is not."""
        destination = self._destination
        if destination.max_lag_bytes is not None:
            pending = self._client.pending_bytes(stream, destination.group)
            if pending > destination.max_lag_bytes * share:
                return f"{pending} bytes, more than max_lag_bytes = {destination.max_lag_bytes}"
        if destination.max_lag_age is not None:
            oldest = self._client.oldest_pending(stream, destination.group)
            age = 0.0 if oldest is None else self._clock() - oldest / 1e9
            if age > destination.max_lag_age * share:
                return f"{age:.0f} s, more than max_lag_age = {destination.max_lag_age:g} s"
        return None
