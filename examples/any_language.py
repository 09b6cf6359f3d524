"""A node that takes telemetry from programs in any language, and keeps it while there is no collector.

    python examples/any_language.py ./telemetry
    comet-shipper run --data-dir ./telemetry --endpoint http://localhost:4317

On a real node the receiver is a process of its own, `comet-receiver --data-dir ./telemetry`; here it is started inside
this program, which then plays the other programs: each of the requests below could come from any of them.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
import urllib.request

from comet_otel.receiver import OTLPReceiver
from comet_storage import Client


def span(name: str) -> dict[str, object]:
    """One span in OTLP/JSON, as a shell script or a browser would write it."""
    now = time.time_ns()
    return {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(now - 1_000_000),
        "endTimeUnixNano": str(now),
        "attributes": [{"key": "shop.register", "value": {"intValue": 3}}],
    }


def main() -> None:
    """Receive three requests."""
    data_dir = sys.argv[1] if len(sys.argv) > 1 else "./telemetry"
    # Port 0 takes any free one; the standard ports 4317 and 4318 are the defaults.
    with Client(data_dir) as client, OTLPReceiver(client, "127.0.0.1:0", "127.0.0.1:0") as receiver:
        print("serving OTLP/gRPC and OTLP/HTTP")
        resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "till"}}]}
        for name in ("scan", "pay", "print receipt"):
            body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span(name)]}]}]}
            url, headers = f"http://{receiver.http_endpoint}/v1/traces", {"Content-Type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as response:
                # Success means that it is stored.
                print(f"{name}: {response.status}")


if __name__ == "__main__":
    main()
