"""An OTLP receiver that stores what it gets in the log: any language's telemetry under the same protection.

    with Client("/var/lib/comet") as client:
        receiver = OTLPReceiver(client)
        receiver.start()

The command is ``comet-receiver``. What it needs beyond the exporters comes with the extra ``comet-otel[receiver]``.
"""

from __future__ import annotations

__all__: list[str] = []
