"""OTLP over HTTP with protobuf bodies."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Final

from shipper.outcome import Outcome, Pause, Retry, from_http
from shipper.sending.credentials import BearerToken, CredentialsError, ssl_context, tls_stamp
from shipper.sending.exchanges import Exchange, Exchanges
from shipper.sending.protocol import REQUEST_ID, RESPONSE_BYTES_MAX, load_package, user_agent
from shipper.sending.responses import (
    json_success_outcome,
    retry_after_header,
    shortened,
    status_message,
    success_outcome,
)

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from shipper.settings import SignalConfig

_CONTENT_TYPE: Final = "application/x-protobuf"
_OK: Final = 200
_CONNECTIONS_KEPT: Final = 16
"""Connections kept for reuse: as many as a window may have requests in flight."""


class HttpSender:
    """Sends ``POST`` requests over kept connections."""

    def __init__(self, config: SignalConfig) -> None:
        """Prepare; connections are made by the first requests.

        Raises:
            EnvironmentFailedError: the package ``urllib3`` is not installed.
        """
        self._urllib3 = load_package("urllib3")
        self._gzip = load_package("isal.igzip") if config.compression == "gzip" else None
        self._config = config
        self._headers = {
            **dict(config.headers),
            "Content-Type": _CONTENT_TYPE,
            "User-Agent": user_agent(),
            # urllib3 would otherwise offer every coding that it can decode; answers are too short to be worth one.
            "Accept-Encoding": "identity",
        }
        if self._gzip is not None:
            self._headers["Content-Encoding"] = "gzip"
        self._token = BearerToken(config.bearer_token_file)
        self._lock = threading.Lock()
        self._exchanges = Exchanges(self._urllib3, config.timeout)
        self._pool: Any = None
        self._tls_stamp: object = None

    def send(self, route: Route, body: bytes, request_id: str) -> Outcome:
        """Send one request; see `Sender.send`."""
        try:
            token = self._token.header()
            pool = self._current_pool()
        except CredentialsError as error:
            return Pause("credentials unusable", shortened(str(error)))
        headers = {**self._headers, REQUEST_ID: request_id}
        if token is not None:
            headers["Authorization"] = token
        data = body if self._gzip is None else self._gzip.compress(body, self._config.compression_level)
        with self._exchanges.begin() as exchange:
            try:
                return self._exchange(pool, self._url(route), data, headers)
            except (self._urllib3.exceptions.HTTPError, OSError) as error:
                return self._network_failure(error, exchange)

    def close(self) -> None:
        """Abandon requests in flight and release the connections."""
        self._exchanges.close()
        with self._lock:
            pool = self._pool
        if pool is not None:
            pool.clear()

    def _exchange(self, pool: Any, url: str, data: bytes, headers: dict[str, str]) -> Outcome:
        response = pool.request("POST", url, body=data, headers=headers, redirect=False, preload_content=False)
        try:
            answer = response.read(RESPONSE_BYTES_MAX + 1, decode_content=True)
            if len(answer) <= RESPONSE_BYTES_MAX:
                response.release_conn()  # read to its end, so the connection is free for the next request
        finally:
            response.close()
        if len(answer) > RESPONSE_BYTES_MAX:
            return Pause("answer too long", f"more than {RESPONSE_BYTES_MAX} bytes, with status {response.status}")
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status == _OK:
            return _success(kind, answer)
        message = status_message(answer) if kind == _CONTENT_TYPE else shortened(answer)
        return from_http(response.status, message, retry_after_header(response.headers.get("Retry-After")))

    def _url(self, route: Route) -> str:
        endpoint = self._config.endpoint
        if not self._config.http_path_is_complete:
            return endpoint.http_url(route.http_path)
        return str(endpoint) if endpoint.path else f"{endpoint}/"

    def _current_pool(self) -> Any:
        """Return the connections, anew if certificates have changed.

        Raises:
            CredentialsError: the certificates cannot be used.
        """
        with self._lock:
            stamp = tls_stamp(self._config.tls)
            if self._pool is None or stamp != self._tls_stamp:
                self._pool, self._tls_stamp = self._new_pool(), stamp
            return self._pool

    def _new_pool(self) -> Any:
        config, urllib3 = self._config, self._urllib3
        options: dict[str, Any] = {
            "maxsize": _CONNECTIONS_KEPT,
            "retries": False,
            "timeout": urllib3.Timeout(connect=config.timeout, read=config.timeout),
        }
        if config.endpoint.secure:
            options["ssl_context"] = ssl_context(config)
        if config.proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            proxy = urllib3.util.parse_url(config.proxy)
            headers = urllib3.make_headers(proxy_basic_auth=proxy.auth) if proxy.auth else None
            manager = urllib3.ProxyManager(proxy._replace(auth=None).url, proxy_headers=headers, **options)
        manager.pool_classes_by_scheme = self._exchanges.pool_classes
        return manager

    def _network_failure(self, error: Exception, exchange: Exchange) -> Outcome:
        exceptions = self._urllib3.exceptions
        message = shortened(str(error))
        if exchange.ended:
            return Retry("timed out", f"no whole answer within {self._config.timeout:g} s")
        reason = error
        while isinstance(reason, exceptions.ProxyError) and isinstance(reason.original_error, Exception):
            reason = reason.original_error
        if isinstance(reason, exceptions.SSLError):
            return Pause("TLS failed", message)
        if isinstance(reason, exceptions.NameResolutionError):
            return Pause("host name unknown", message)
        if isinstance(reason, exceptions.NewConnectionError):  # before time-outs, which urllib3 counts it among
            return Retry("cannot connect", message)
        if isinstance(reason, exceptions.TimeoutError):
            return Retry("timed out", message)
        if isinstance(reason, exceptions.LocationValueError | exceptions.InvalidHeader):
            return Pause("request cannot be sent", message)
        if isinstance(reason, OSError) and "Tunnel connection failed" in str(reason):
            return Pause("proxy refused", message)
        return Retry("connection failed", message, cut_off=exchange.sending)


def _success(kind: str, answer: bytes) -> Outcome:
    """Return what an answer with status 200 means: a portal that wants a login first says 200 as well."""
    if not answer:
        return success_outcome(answer)
    if kind in {"text/html", "application/xhtml+xml"}:
        return Pause("not an OTLP answer", f"status 200 with {kind}: {shortened(answer)}")
    if kind == "application/json":
        try:
            return json_success_outcome(json.loads(answer))
        except (ValueError, RecursionError):
            return success_outcome(b"")
    return success_outcome(answer)
