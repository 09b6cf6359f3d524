"""Looks into the files that settings name, so that a wrong one is found before the first connection."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from shipper.configuration.layers import Problems, Setting

TOKEN_BYTES_MAX: Final = 64 * 1024


def check_authorities(setting: Setting | None, problems: Problems) -> None:
    """Note if a file of authorities to trust cannot be used."""
    if setting is None:
        return
    try:
        ssl.create_default_context(cafile=setting.value)
    except ssl.SSLError as error:
        rule = f"must be a file of PEM certificates ({error.reason or error})"
        problems.add(setting.origin, rule, shown=setting.value)
    except OSError as error:
        problems.add(setting.origin, f"must be a readable file ({error.strerror})", shown=setting.value)


def check_client_pair(certificate: Setting | None, key: Setting | None, problems: Problems) -> None:
    """Note if a client certificate and its key cannot be used, or one of them is missing."""
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        given, missing = (certificate, "client_key") if certificate else (key, "client_certificate")
        if given is not None:
            problems.add(given.origin, f"needs its other half: {missing} is not given")
        return
    for setting in (certificate, key):
        if not _readable(setting, problems):
            return
    try:
        ssl.create_default_context().load_cert_chain(certificate.value, key.value, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        rule = f"must be PEM files of a certificate and of its key, without a password ({reason})"
        problems.add(f"{certificate.origin} and {key.origin}", rule)


def check_token_file(setting: Setting | None, problems: Problems) -> None:
    """Note if a file with a bearer token has none."""
    if setting is None or not _readable(setting, problems):
        return
    token = Path(setting.value).read_bytes()[: TOKEN_BYTES_MAX + 1].strip()
    if not token or len(token) > TOKEN_BYTES_MAX or not token.isascii() or not token.decode().isprintable():
        problems.add(setting.origin, "must be a file with one line, the token", shown=setting.value)


def _readable(setting: Setting, problems: Problems) -> bool:
    try:
        with Path(setting.value).open("rb"):
            return True
    except OSError as error:
        problems.add(setting.origin, f"must be a readable file ({error.strerror})", shown=setting.value)
        return False


def _no_password() -> str:
    raise ValueError("it is encrypted")
