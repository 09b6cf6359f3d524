"""From the log to a destination: read, batch, send, acknowledge, and what to do when that does not work."""

from __future__ import annotations

__all__: list[str] = []
