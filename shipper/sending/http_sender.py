"""OTLP over HTTP with protobuf bodies."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from shipper.outcome import Outcome, Pause, Reject, Retry, from_http
from shipper.sending.protocol import RESPONSE_BYTES_MAX, load_package, user_agent
from shipper.sending.responses import retry_after_header, shortened, status_message, success_outcome

if TYPE_CHECKING:
    from comet_otel.streams import Route
    from shipper.config import ShipperConfig

_CONTENT_TYPE: Final = "application/x-protobuf"
_OK: Final = 200
_CONNECTIONS_KEPT: Final = 4
"""Connections kept for reuse: one per signal, and one to spare."""


class HttpSender:
    """Sends ``POST`` requests over kept connections."""

    def __init__(self, config: ShipperConfig) -> None:
        """Prepare the connection pool; connections are made by the first requests.

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
        tls = {}
        if config.endpoint.secure:
            tls["ssl_context"] = ssl.create_default_context(cafile=config.certificate)
        self._pool = self._urllib3.PoolManager(
            maxsize=_CONNECTIONS_KEPT,
            retries=False,
            timeout=self._urllib3.Timeout(connect=config.timeout, read=config.timeout),
            **tls,
        )

    def send(self, route: Route, body: bytes) -> Outcome:
        """Send one request; see `Sender.send`."""
        data = body if self._gzip is None else self._gzip.compress(body)
        url = self._config.endpoint.http_url(route.http_path)
        try:
            response = self._pool.request(
                "POST", url, body=data, headers=self._headers, redirect=False, preload_content=False
            )
            try:
                answer = response.read(RESPONSE_BYTES_MAX + 1, decode_content=True)
                if len(answer) <= RESPONSE_BYTES_MAX:
                    response.release_conn()  # read to its end, so the connection is free for the next request
            finally:
                response.close()
        except self._urllib3.exceptions.HTTPError as error:
            return self._network_failure(error)
        if len(answer) > RESPONSE_BYTES_MAX:
            return Reject("answer too long", f"more than {RESPONSE_BYTES_MAX} bytes, with status {response.status}")
        if response.status == _OK:
            return success_outcome(answer)
        return from_http(
            response.status,
            _error_message(response.headers.get("Content-Type", ""), answer),
            retry_after_header(response.headers.get("Retry-After")),
        )

    def close(self) -> None:
        """Release the idle connections. A request in flight ends by its time-out or with the process."""
        self._pool.clear()

    def _network_failure(self, error: Exception) -> Outcome:
        exceptions = self._urllib3.exceptions
        message = shortened(str(error))
        if isinstance(error, exceptions.SSLError):
            return Pause("TLS failed", message)
        if isinstance(error, exceptions.NameResolutionError):
            return Pause("host name unknown", message)
        if isinstance(error, exceptions.NewConnectionError):  # before time-outs, which urllib3 counts it among
            return Retry("cannot connect", message)
        if isinstance(error, exceptions.TimeoutError):
            return Retry("timed out", message)
        return Retry("connection failed", message)


def _error_message(content_type: str, answer: bytes) -> str:
    if content_type.partition(";")[0].strip().lower() == _CONTENT_TYPE:
        return status_message(answer)
    return shortened(answer)
