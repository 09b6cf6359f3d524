"""The server's certificate, for both protocols, renewed while the receiver runs."""

from __future__ import annotations

import logging
import ssl
from typing import Any

import grpc

from comet_otel._logging import TroubleLog
from comet_otel.receiver.config import ReceiverConfig
from comet_otel.receiver.watching import WatchedFiles

__all__ = ["Certificates"]

_logger = logging.getLogger(__name__)


class Certificates:
    """Certificate, key and the authorities that clients' certificates are checked against.

    New connections are made with what the files hold; those that are open stay as they are. Files that do not fit
    together, because one of them is still on its way, change nothing.

    Raises:
        OSError, ValueError: a file cannot be read, or the files do not fit together.
    """

    def __init__(self, config: ReceiverConfig) -> None:
        if config.tls_certificate is None or config.tls_key is None:
            raise ValueError("tls_certificate and tls_key are not given")
        self._certificate = config.tls_certificate
        self._key = config.tls_key
        self._authorities = config.client_authorities
        paths = [self._certificate, self._key, *([self._authorities] if self._authorities else [])]
        self._files = WatchedFiles(paths)
        self._trouble = TroubleLog(_logger, f"the certificate in {self._certificate}")
        self._context = self._new_context()
        self._grpc_config = self._new_grpc_config()

    def refresh(self) -> None:
        """Read the files again if one of them has changed."""
        if not self._files.changed():
            return
        try:
            context, grpc_config = self._new_context(), self._new_grpc_config()
        except (OSError, ValueError) as error:
            self._files.ask_again()
            self._trouble.failed(f"what was read before stays in force: {error}")
            return
        self._trouble.recovered()
        self._context, self._grpc_config = context, grpc_config
        _logger.info("the certificate in %s was read again", self._certificate)

    def ssl_context(self) -> ssl.SSLContext:
        """Return a context for listening that always gives the newest certificate."""
        context = self._new_context()
        context.sni_callback = self._use_newest
        return context

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials for listening that always give the newest certificate."""
        return grpc.dynamic_ssl_server_credentials(
            self._grpc_config, lambda: self._grpc_config, require_client_authentication=self._authorities is not None
        )

    def _use_newest(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        # Called for every handshake, also of clients that name no server.
        connection.context = self._context

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        if self._authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._authorities)
        return context

    def _new_grpc_config(self) -> Any:
        return grpc.ssl_server_certificate_configuration(
            [(self._key.read_bytes(), self._certificate.read_bytes())],
            root_certificates=self._authorities.read_bytes() if self._authorities else None,
        )


def _no_passphrase() -> str:
    # Without this, OpenSSL asks for it at the terminal, and waits there with everything else.
    raise ValueError("the private key is encrypted; give one that needs no passphrase")
