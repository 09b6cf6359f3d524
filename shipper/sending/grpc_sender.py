"""OTLP over gRPC: stored bytes go out as they are, through a generic call without message classes."""

from __future__ import annotations

import os
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shipper.outcome import Outcome, Pause, Retry, from_grpc
from shipper.sending.protocol import RESPONSE_BYTES_MAX, load_package, user_agent
from shipper.sending.responses import retry_delay, shortened, success_outcome

if TYPE_CHECKING:
    from comet_otel.streams import Route, Signal
    from shipper.config import ShipperConfig
    from shipper.outcome import Failure

_RECONNECT_MAX_MILLISECONDS: Final = 2_000
"""gRPC's own pause between connection attempts. The shipper has a back-off of its own; this one, two minutes by
default, would come on top of it."""

_STATUS_TRAILER: Final = "grpc-status-details-bin"

_CONFIGURATION_SIGNS: Final = (
    ("CERTIFICATE_VERIFY_FAILED", "certificate refused"),
    ("SSL_ERROR", "TLS failed"),
    ("Ssl handshake failed", "TLS failed"),
    ("DNS resolution failed", "host name unknown"),
    ("Name or service not known", "host name unknown"),
    ("Domain name not found", "host name unknown"),
)
"""Texts by which an UNAVAILABLE shows that the destination, as configured, cannot work."""


class GrpcSender:
    """Sends over one channel, and so one connection, per signal: trouble with one is not the others' trouble."""

    def __init__(self, config: ShipperConfig) -> None:
        """Prepare; connections are made by the first requests.

        Raises:
            EnvironmentFailedError: the package ``grpcio`` is not installed.
        """
        # gRPC's own lines, one per failed handshake, would drown the shipper's; it reads this when it is loaded.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        self._grpc = load_package("grpc")
        self._config = config
        self._authorities = _authorities(config) if config.endpoint.secure else None
        self._metadata = tuple((name.lower(), value) for name, value in config.headers)
        self._lock = threading.Lock()
        self._calls: set[Any] = set()
        self._channels: dict[Signal, Any] = {}
        self._closed = False

    def send(self, route: Route, body: bytes) -> Outcome:
        """Send one request; see `Sender.send`."""
        with self._lock:
            if self._closed:
                return Retry("CANCELLED", "the shipper is stopping")
            channel = self._channels.get(route.signal)
            if channel is None:
                channel = self._channels[route.signal] = self._new_channel()
            method = channel.unary_unary(route.grpc_method)
            call = method.future(
                body,
                timeout=self._config.timeout,
                metadata=self._metadata,
                compression=self._compression(),
            )
            self._calls.add(call)
        try:
            return success_outcome(call.result())
        except self._grpc.RpcError as error:
            outcome = self._failure(error)
        except self._grpc.FutureCancelledError:
            outcome = Retry("CANCELLED", "the shipper is stopping")
        finally:
            with self._lock:
                self._calls.discard(call)
        if outcome.code == "DEADLINE_EXCEEDED":
            self._drop_channel(route.signal, channel)
        return outcome

    def close(self) -> None:
        """Abandon requests in flight and close the channels."""
        with self._lock:
            self._closed = True
            calls, channels = list(self._calls), list(self._channels.values())
        for call in calls:
            call.cancel()
        for channel in channels:
            channel.close()

    def _failure(self, error: Any) -> Failure:
        code, details = error.code().name, shortened(error.details() or "")
        for sign, name in _CONFIGURATION_SIGNS:
            if code == "UNAVAILABLE" and sign in details:
                return Pause(name, details)
        trailers = dict(error.trailing_metadata() or ())
        status = trailers.get(_STATUS_TRAILER, b"")
        return from_grpc(code, details, retry_delay(status) if isinstance(status, bytes) else None)

    def _drop_channel(self, signal: Signal, used: Any) -> None:
        """Have the next request connect anew after one went unanswered.

        A connection through a device that went away without a word looks alive for a quarter of an hour; a new one
        shows within the next request whether it is the connection or the collector that does not answer.
        """
        with self._lock:
            if self._channels.get(signal) is used:
                del self._channels[signal]
        used.close()

    def _new_channel(self) -> Any:
        grpc = self._grpc
        endpoint = self._config.endpoint
        options = [
            ("grpc.primary_user_agent", user_agent()),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MAX_MILLISECONDS),
            ("grpc.use_local_subchannel_pool", 1),  # else a new channel would go on with the old one's connection
            ("grpc.enable_retries", 0),  # what was sent twice must be the shipper's to know
        ]
        if not endpoint.secure:
            return grpc.insecure_channel(endpoint.target, options=options)
        credentials = grpc.ssl_channel_credentials(self._authorities)
        return grpc.secure_channel(endpoint.target, credentials, options=options)

    def _compression(self) -> Any:
        grpc = self._grpc
        return grpc.Compression.Gzip if self._config.compression == "gzip" else grpc.Compression.NoCompression


def _authorities(config: ShipperConfig) -> bytes | None:
    """Return the certificates to trust, in PEM form; None for those that gRPC brings along.

    Without a file of one's own these are the system's, as everywhere else, if there is a file of them.
    """
    system = ssl.get_default_verify_paths().cafile
    path = config.certificate or (Path(system) if system else None)
    return path.read_bytes() if path else None
