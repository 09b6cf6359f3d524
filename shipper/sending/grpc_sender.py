"""OTLP over gRPC: stored bytes go out as they are, through a generic call without message classes."""

from __future__ import annotations

import importlib
import os
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from shipper.outcome import Outcome, Pause, Retry, from_grpc
from shipper.sending.credentials import BearerToken, CredentialsError, pem_files, tls_stamp
from shipper.sending.protocol import REQUEST_ID, RESPONSE_BYTES_MAX, load_package, user_agent
from shipper.sending.responses import retry_delay, shortened, success_outcome

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from shipper.outcome import Failure
    from shipper.settings import SignalConfig

_RECONNECT_MAX_MILLISECONDS: Final = 2_000
"""gRPC's own pause between connection attempts. The shipper has a back-off of its own; this one, two minutes by
default, would come on top of it."""

_STATUS_TRAILER: Final = "grpc-status-details-bin"

_ALREADY_COMPRESSED: Final = -0x80000000
"""The write flag GRPC_WRITE_INTERNAL_COMPRESS, as a signed number: the message is as ``grpc-encoding`` says already."""

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
    """Sends over one channel, and so one connection."""

    def __init__(self, config: SignalConfig) -> None:
        """Prepare; the connection is made by the first request.

        Raises:
            EnvironmentFailedError: the package ``grpcio`` is not installed.
        """
        # gRPC's own lines, one per failed handshake, would drown the shipper's; it reads this when it is loaded.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        self._grpc = load_package("grpc")
        self._gzip = load_package("isal.igzip") if config.compression == "gzip" else None
        self._config = config
        self._metadata = tuple((name.lower(), value) for name, value in config.headers)
        self._token = BearerToken(config.bearer_token_file)
        self._lock = threading.Lock()
        self._in_use: Counter[Any] = Counter()
        self._channel: Any = None
        self._tls_stamp: object = None
        self._closed = False

    def send(self, route: Route, body: bytes, request_id: str) -> Outcome:
        """Send one request; see `Sender.send`."""
        try:
            token = self._token.header()
            channel = self._current_channel()
        except CredentialsError as error:
            return Pause("credentials unusable", shortened(str(error)))
        if channel is None:
            return Retry("CANCELLED", "the shipper is stopping")
        metadata = [*self._metadata, (REQUEST_ID, request_id)]
        if token is not None:
            metadata.append(("authorization", token))
        try:
            return success_outcome(self._call(channel, route, body, metadata))
        except self._grpc.RpcError as error:
            outcome = self._failure(error)
        except ValueError:  # the channel was closed meanwhile
            return Retry("CANCELLED", "the connection was closed meanwhile")
        finally:
            with self._lock:
                self._in_use[channel] -= 1
                self._in_use += Counter()
        if outcome.code == "DEADLINE_EXCEEDED":
            self._drop_channel(channel)
        return outcome

    def close(self) -> None:
        """Abandon requests in flight and close the channel."""
        with self._lock:
            self._closed = True
            channels = {self._channel, *self._in_use} - {None}
        for channel in channels:
            channel.close()

    def _call(self, channel: Any, route: Route, body: bytes, metadata: list[tuple[str, str]]) -> Any:
        method = channel.unary_unary(route.grpc_method)
        compression = self._grpc.Compression.NoCompression
        if self._gzip is not None:
            compression = self._grpc.Compression.Gzip
            if takes_compressed(method):
                body = self._gzip.compress(body, self._config.compression_level)
        # In this thread from end to end: a call with a future costs a quarter more time, and a thread to hand it over.
        return method(body, timeout=self._config.timeout, metadata=metadata, compression=compression)

    def _current_channel(self) -> Any:
        """Return the channel, in use from now on, made anew if certificates have changed; None when closed.

        Raises:
            CredentialsError: the certificates cannot be used.
        """
        with self._lock:
            if self._closed:
                return None
            stamp = tls_stamp(self._config.tls)
            if self._channel is None or stamp != self._tls_stamp:
                # One that others still send over is left to them.
                self._channel, self._tls_stamp = self._new_channel(), stamp
            self._in_use[self._channel] += 1
            return self._channel

    def _failure(self, error: Any) -> Failure:
        code, details = error.code().name, shortened(error.details() or "")
        for sign, name in _CONFIGURATION_SIGNS:
            if code == "UNAVAILABLE" and sign in details:
                return Pause(name, details)
        if (code, details) == ("INTERNAL", "Invalid metadata"):  # of this side, and so the same for every request
            return Pause("request cannot be sent", "a header's name or value is none that gRPC can send")
        trailers = dict(error.trailing_metadata() or ())
        status = trailers.get(_STATUS_TRAILER, b"")
        return from_grpc(code, details, retry_delay(status) if isinstance(status, bytes) else None)

    def _drop_channel(self, used: Any) -> None:
        """Have the next request connect anew after one went unanswered.

        A connection through a device that went away without a word looks alive for a quarter of an hour; a new one
        shows within the next request whether it is the connection or the collector that does not answer.
        """
        with self._lock:
            if self._channel is used:
                self._channel = None  # not closed, which would end the others' requests; it goes with the last of them

    def _new_channel(self) -> Any:
        grpc = self._grpc
        endpoint = self._config.endpoint
        options = [
            ("grpc.primary_user_agent", user_agent()),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),
            ("grpc.initial_reconnect_backoff_ms", 200),
            # In spite of its name: how long a connection may take to be made.
            ("grpc.min_reconnect_backoff_ms", int(self._config.timeout * 1000)),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MAX_MILLISECONDS),
            ("grpc.use_local_subchannel_pool", 1),  # else a new channel would go on with the old one's connection
            ("grpc.enable_retries", 0),  # what was sent twice must be the shipper's to know
            ("grpc.enable_http_proxy", 1 if self._config.proxy else 0),
        ]
        if self._config.proxy:
            options.append(("grpc.http_proxy", self._config.proxy))
        if not endpoint.secure:
            return grpc.insecure_channel(endpoint.target, options=options)
        return grpc.secure_channel(
            endpoint.target, grpc.ssl_channel_credentials(*pem_files(self._config)), options=options
        )


def takes_compressed(method: Any) -> bool:
    """Have a call send messages that are compressed already, which gRPC can do and its Python face has no word for.

    Python's own gzip of the gRPC library takes several times as long. Where a release has another inside, it does the
    work all the same.
    """
    changed = _precompressed_class(type(method))
    if changed is None:
        return False
    method.__class__ = changed
    return True


_CLASSES: dict[type, type | None] = {}


def _precompressed_class(original: type) -> type | None:
    if original not in _CLASSES:
        _CLASSES[original] = _make_precompressed_class(original)
    return _CLASSES[original]


def _make_precompressed_class(original: Any) -> type | None:
    try:
        operation_class: Any = importlib.import_module("grpc._cython.cygrpc").SendMessageOperation
        prepare: Callable[..., Any] = original._prepare  # noqa: SLF001 - see above
        operation_class(b"", _ALREADY_COMPRESSED)
    except (ImportError, AttributeError, OverflowError, TypeError):
        return None

    class Precompressed(original):  # type: ignore[misc]  # what it derives from is known when it runs
        __slots__ = ()

        def _prepare(self, request: bytes, *rest: Any) -> Any:
            state, operations, *others = prepare(self, request, *rest)
            if operations is not None:
                operations = tuple(
                    operation_class(request, _ALREADY_COMPRESSED)
                    if isinstance(operation, operation_class)
                    else operation
                    for operation in operations
                )
            return (state, operations, *others)

    return Precompressed
