"""One attempt to deliver one request, in a thread of the crew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shipper.delivery.progress import Progress
from shipper.delivery.requests import Request
from shipper.delivery.verdicts import Verdicts
from shipper.outcome import Outcome, Pause, Retry, Split, overridden

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from shipper.sending.protocol import Sender
    from shipper.settings import DestinationConfig


class Attempts:
    """How requests of one stream are sent to one destination."""

    def __init__(self, sender: Sender, destination: DestinationConfig, route: Route, progress: Progress) -> None:
        """Send by this sender."""
        self._sender = sender
        self._overrides = destination.retry.overrides
        self._route = route
        self._progress = progress

    def make(self, request: Request, request_id: str) -> Outcome:
        """Send a request and return what came of it; raises nothing."""
        try:
            body = request.body()
            if not body:
                return Verdicts.NOTHING
            if request.items is None:
                request.items = request.count_items(self._route.signal, body)
            self._progress.count("inflight_items", request.items)
            try:
                return self._outcome(body, request_id)
            finally:
                self._progress.count("inflight_items", -request.items)
        except Exception as error:  # noqa: BLE001 - an error of ours is no reason to lose the request, or the thread
            return Retry("error in the shipper", f"{type(error).__name__}: {error}")

    def _outcome(self, body: bytes, request_id: str) -> Outcome:
        outcome = overridden(self._sender.send(self._route, body, request_id), self._overrides)
        if isinstance(outcome, Split):
            # Who finds an empty request too large finds everything too large, so nothing may be given up for its size.
            again = overridden(self._sender.send(self._route, b"", f"{request_id}/empty"), self._overrides)
            if isinstance(again, Split):
                return Pause(outcome.code, f"even an empty request is too large for it: {outcome.message}")
        return outcome
