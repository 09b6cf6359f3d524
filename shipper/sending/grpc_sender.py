"""OTLP over gRPC: stored bytes go out as they are, through a generic call without message classes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from shipper.outcome import Outcome, Pause, Retry, from_grpc
from shipper.sending.protocol import RESPONSE_BYTES_MAX, load_package, user_agent
from shipper.sending.responses import retry_delay, shortened, success_outcome

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from shipper.config import ShipperConfig

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
    """Sends over one channel, which all signals share."""

    def __init__(self, config: ShipperConfig) -> None:
        """Prepare the channel; the connection is made by the first request.

        Raises:
            EnvironmentFailedError: the package ``grpcio`` is not installed.
        """
        self._grpc = load_package("grpc")
        self._config = config
        self._metadata = tuple((name.lower(), value) for name, value in config.headers)
        self._lock = threading.Lock()
        self._calls: set[Any] = set()
        self._closed = False
        self._channel = self._new_channel()

    def send(self, route: Route, body: bytes) -> Outcome:
        """Send one request; see `Sender.send`."""
        with self._lock:
            if self._closed:
                return Retry("CANCELLED", "the shipper is stopping")
            channel = self._channel
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
            self._replace_channel(channel)
        return outcome

    def close(self) -> None:
        """Abandon requests in flight and close the channel."""
        with self._lock:
            self._closed = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()
        self._channel.close()

    def _failure(self, error: Any) -> Retry | Any:
        code, details = error.code().name, shortened(error.details() or "")
        for sign, name in _CONFIGURATION_SIGNS:
            if code == "UNAVAILABLE" and sign in details:
                return Pause(name, details)
        trailers = dict(error.trailing_metadata() or ())
        status = trailers.get(_STATUS_TRAILER, b"")
        return from_grpc(code, details, retry_delay(status) if isinstance(status, bytes) else None)

    def _replace_channel(self, used: Any) -> None:
        """Connect anew after a request went unanswered.

        A connection through a device that went away without a word looks alive for a quarter of an hour; a new one
        shows within the next request whether it is the connection or the collector that does not answer.
        """
        with self._lock:
            if self._closed or self._channel is not used:
                return
            self._channel = self._new_channel()
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
            ("grpc.enable_retries", 0),  # what was sent twice must be the shipper's to know
        ]
        if not endpoint.secure:
            return grpc.insecure_channel(endpoint.target, options=options)
        certificate = self._config.certificate
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes() if certificate else None)
        return grpc.secure_channel(endpoint.target, credentials, options=options)

    def _compression(self) -> Any:
        grpc = self._grpc
        return grpc.Compression.Gzip if self._config.compression == "gzip" else grpc.Compression.NoCompression
