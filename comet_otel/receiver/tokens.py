"""Bearer tokens from a file that may change while the receiver runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path

from comet_otel._logging import TroubleLog
from comet_otel.receiver.errors import UnauthenticatedError
from comet_otel.receiver.watching import WatchedFiles

__all__ = ["Tokens"]

_logger = logging.getLogger(__name__)


class Tokens:
    """The tokens of a file, one a line; blank lines and those that begin with ``#`` are none.

    They are kept as digests and compared in constant time, each request with all of them. If the file cannot be read
    or holds no token, the tokens read last stay in force; at the start it must be readable.

    Raises:
        OSError, ValueError: it cannot be read, or holds none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = WatchedFiles([path])
        self._trouble = TroubleLog(_logger, f"the bearer tokens in {path}")
        self._digests = self._read()

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        if not self._files.changed():
            return
        try:
            self._digests = self._read()
        except (OSError, ValueError) as error:
            self._files.ask_again()
            self._trouble.failed(f"those read before stay in force: {error}")
        else:
            self._trouble.recovered()
            _logger.info("the bearer tokens in %s were read again: %d", self._path, len(self._digests))

    def check(self, authorization: str) -> None:
        """Return if a header ``Authorization`` carries one of the tokens.

        Raises:
            UnauthenticatedError: it does not.
        """
        scheme, _, token = authorization.strip().partition(" ")
        digest = hashlib.sha256(token.strip().encode(errors="surrogateescape")).digest()
        known = False
        for candidate in self._digests:
            known |= hmac.compare_digest(candidate, digest)
        if scheme.lower() != "bearer" or not known:
            raise UnauthenticatedError("a known bearer token is needed in the header 'authorization'")

    def _read(self) -> list[bytes]:
        lines = (line.strip() for line in self._path.read_text(encoding="utf-8").splitlines())
        digests = [hashlib.sha256(line.encode()).digest() for line in lines if line and not line.startswith("#")]
        if not digests:
            raise ValueError("the file holds no token")
        return digests
