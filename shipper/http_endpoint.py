"""``/healthz``, ``/readyz`` and ``/metrics``, on a port that is closed unless it is asked for."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from shipper.errors import EnvironmentFailedError
from shipper.metrics import CONTENT_TYPE, Telemetry
from shipper.observation import Observation

_TIMEOUT_SECONDS: Final = 10.0
_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"


class HttpEndpoint:
    """Serves until it is closed."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        healthy: Callable[[], str],
        observe: Callable[[], Observation],
        telemetry: Telemetry | None,
    ) -> None:
        """Listen.

        Args:
            address: host and port.
            healthy: returns what is wrong with the process itself; an empty text if nothing is.
            observe: returns what readiness is judged by.
            telemetry: what metrics are.

        Raises:
            EnvironmentFailedError: the address cannot be listened on.
        """
        handler = type("Handler", (_Handler,), {"healthy": staticmethod(healthy), "observe": staticmethod(observe)})
        handler.telemetry = telemetry  # type: ignore[attr-defined]  # declared by the class it derives from
        try:
            self._server = _Server(address, handler)
        except OSError as error:
            raise EnvironmentFailedError(
                f"cannot listen on {address[0]}:{address[1]} for health and metrics: {error.strerror or error}"
            ) from error
        self.address = address
        threading.Thread(target=self._server.serve_forever, name="shipper-http", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a client that goes away is not news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _TIMEOUT_SECONDS
    healthy: Callable[[], str]
    observe: Callable[[], Observation]
    telemetry: Telemetry | None

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        path = self.path.partition("?")[0]
        if path == "/healthz":
            trouble = self.healthy()
            self._answer(_ok_unless(trouble), _TEXT, f"{trouble or 'ok'}\n".encode())
        elif path == "/readyz":
            reasons = self.observe().reasons_not_ready()
            body = json.dumps({"ready": not reasons, "reasons": reasons}).encode()
            self._answer(_ok_unless(reasons), _JSON, body + b"\n")
        elif path == "/metrics" and self.telemetry is not None:
            self._answer(HTTPStatus.OK, CONTENT_TYPE, self.telemetry.text())
        else:
            self._answer(HTTPStatus.NOT_FOUND, _TEXT, b"there are /healthz, /readyz and /metrics\n")

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface of http.server
        """Stay silent: scrapes are not news."""


def _ok_unless(trouble: object) -> HTTPStatus:
    return HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
