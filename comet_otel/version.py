"""Which release this is."""

from __future__ import annotations

import importlib.metadata

__all__ = ["version", "version_line"]


def version() -> str:
    """The version of the distribution; ``0`` in a source tree that is not installed."""
    try:
        return importlib.metadata.version("comet-otel")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def version_line(command: str) -> str:
    """What ``--version`` of a command prints."""
    return f"{command} {version()}"
