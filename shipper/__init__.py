"""The shipper: reads the telemetry log of one node and forwards it to an OTLP collector.

It is a program, not a library: ``comet-shipper run --data-dir DIR --endpoint URL``. What it forwards are the stored
bytes themselves; it never decodes telemetry, and it acknowledges an entry only after the collector took it.
"""

from __future__ import annotations

__all__: list[str] = []
