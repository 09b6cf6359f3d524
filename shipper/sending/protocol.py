"""What the rest of the shipper knows of a sender, and what the senders share."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from comet_otel.version import version
from shipper.errors import EnvironmentFailedError
from shipper.memory import keep_buffers

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from shipper.outcome import Outcome
    from shipper.settings import SignalConfig

RESPONSE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Longest answer that is read; the specification's limit. A longer one is a failure."""

REQUEST_ID: Final = "comet-request-id"
"""Header, or metadata key, of the id that stays the same however often the same entries are sent."""


class Sender(Protocol):
    """Sends serialized requests to one destination. Safe to use from several threads."""

    def send(self, route: Route, body: bytes, request_id: str) -> Outcome:
        """Send one request and wait for its outcome, for as long as the configured time-out.

        Raises nothing for whatever the network and the other side can do; that is what the outcome is for.
        """

    def close(self) -> None:
        """Abandon requests in flight, whose `send` returns soon after, and release the connections."""


def create_sender(config: SignalConfig) -> Sender:
    """Return the sender of the configured protocol.

    Raises:
        EnvironmentFailedError: a package that it needs is not installed.
    """
    keep_buffers()  # before the first thread that sends
    # Imported here, because each needs a package that the other, and `comet-shipper status`, can do without.
    if config.protocol == "grpc":
        from shipper.sending.grpc_sender import GrpcSender  # noqa: PLC0415

        return GrpcSender(config)
    from shipper.sending.http_sender import HttpSender  # noqa: PLC0415

    return HttpSender(config)


def load_package(name: str) -> Any:
    """Import a package of the ``shipper`` extra.

    Raises:
        EnvironmentFailedError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentFailedError(
            f"the Python package {name!r} is missing ({error}); install it with: pip install 'comet-otel[shipper]'"
        ) from error


def user_agent() -> str:
    """Return the name and version under which the shipper introduces itself."""
    return f"comet-shipper/{version()}"
