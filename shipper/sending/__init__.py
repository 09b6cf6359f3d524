"""Senders: one module per protocol, all behind `shipper.sending.protocol.Sender`."""

from __future__ import annotations

__all__: list[str] = []
