"""Certificates and tokens from files, which are read again when they change."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final, TypeAlias

from shipper.settings import SignalConfig, TLSConfig

FileStamp: TypeAlias = tuple[int, int, int] | None
"""What changes when a file is written or replaced: inode, time of writing, size. None if it cannot be looked at."""

_TOKEN_BYTES_MAX: Final = 64 * 1024
_SECRET_WRONG: Final = "is not one word of printable ASCII"  # noqa: S105 - what is wrong with a secret, and none itself


class CredentialsError(Exception):
    """A file with a token or certificate cannot be used; the message names it, and never what is in it."""


def file_stamp(path: Path | None) -> FileStamp:
    """Return what tells whether a file is still the same."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def tls_stamp(tls: TLSConfig) -> tuple[FileStamp, ...]:
    """Return what tells whether any of the certificate files has changed."""
    return tuple(file_stamp(path) for path in (tls.certificate, tls.client_certificate, tls.client_key))


def credentials_stamp(config: SignalConfig) -> tuple[FileStamp, ...]:
    """Return what tells whether the token file or any of the certificate files has changed."""
    return file_stamp(config.bearer_token_file), *tls_stamp(config.tls)


class BearerToken:
    """The ``Authorization`` header whose token is in a file."""

    def __init__(self, path: Path | None) -> None:
        """Prepare; the file is read when a header is first asked for."""
        self._path = path
        self._stamp: FileStamp = None
        self._header: str | None = None

    def header(self) -> str | None:
        """Return the value of the header; None without a file.

        Raises:
            CredentialsError: the file cannot be read, or holds no token.
        """
        path = self._path
        if path is None:
            return None
        stamp = file_stamp(path)
        if stamp is None or stamp != self._stamp or self._header is None:
            # The file is looked at first: what is written between the two looks is read at the next request.
            self._header, self._stamp = f"Bearer {_read_token(path)}", stamp
        return self._header


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_TOKEN_BYTES_MAX)
    except OSError as error:
        raise CredentialsError(f"cannot read the token in {path}: {error.strerror}") from error
    token = data.strip()
    if not token:
        raise CredentialsError(f"the token file {path} is empty")
    text = token.decode("ascii", "replace")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise CredentialsError(f"the content of the token file {path} {_SECRET_WRONG}")
    return text


def ssl_context(config: SignalConfig) -> ssl.SSLContext:
    """Return what Python's TLS needs to know.

    Raises:
        CredentialsError: a certificate or key cannot be read, or is none.
    """
    tls = config.tls
    try:
        context = ssl.create_default_context(cafile=tls.certificate)
        if tls.client_certificate is not None:
            # An encrypted key would have it ask for a pass phrase on the terminal, and wait there for ever.
            context.load_cert_chain(tls.client_certificate, tls.client_key, password=_no_pass_phrase)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CredentialsError(f"cannot use the certificates ({_named(tls)}): {error}") from error
    return context


def pem_files(config: SignalConfig) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Return authorities, private key and certificate chain as gRPC wants them; None where there is none.

    Without authorities of one's own these are the system's, as everywhere else, if there is a file of them.

    Raises:
        CredentialsError: one cannot be read.
    """
    tls = config.tls
    system = ssl.get_default_verify_paths().cafile
    authorities = tls.certificate or (Path(system) if system else None)
    try:
        roots = None if authorities is None else authorities.read_bytes()
        chain = None if tls.client_certificate is None else tls.client_certificate.read_bytes()
        key_file = tls.client_key or tls.client_certificate
        key = None if chain is None or key_file is None else key_file.read_bytes()
    except OSError as error:
        raise CredentialsError(f"cannot read {error.filename}: {error.strerror}") from error
    if tls.certificate is not None and b"-----BEGIN" not in (roots or b""):
        raise CredentialsError(f"{tls.certificate} holds no certificate in PEM form")
    return roots, key, chain


def _no_pass_phrase() -> str:
    raise ValueError("the private key is encrypted; the shipper has no pass phrase for it")


def _named(tls: TLSConfig) -> str:
    return ", ".join(os.fspath(path) for path in (tls.certificate, tls.client_certificate, tls.client_key) if path)
