"""Edge nodes that forward to a hub, which forwards to a collector; every hop has a log of its own.

    python examples/edge_and_hub.py http://localhost:4317 ./nodes

    application -> edge receiver -> edge log -> edge shipper -> hub receiver -> hub log -> hub shipper -> collector

Here all are processes of one machine; on real nodes each line of `start` is a service of its own. In the middle of it
the hub's receiver and both shippers are killed by SIGKILL and started again, and all that was acknowledged arrives.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from comet_storage import Client

SPANS = 60
KILL_AT = 30


def start(*command: str) -> subprocess.Popen[bytes]:
    """Start one of the services."""
    return subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start_receiver(data_dir: Path, port: int) -> subprocess.Popen[bytes]:
    """`comet-receiver --data-dir DIR --http-endpoint HOST:PORT`, and wait until it stores."""
    options = ("--grpc-endpoint", "off", "--http-endpoint", f"127.0.0.1:{port}")
    receiver = start("comet_otel.receiver", "--data-dir", str(data_dir), *options)
    wait_until(lambda: is_ready(port))
    return receiver


def start_shipper(data_dir: Path, endpoint: str, protocol: str) -> subprocess.Popen[bytes]:
    """`comet-shipper run --data-dir DIR --endpoint URL`."""
    return start("shipper", "run", "--data-dir", str(data_dir), "--endpoint", endpoint, "--protocol", protocol)


def is_ready(port: int) -> bool:
    """Whether a receiver says that it stores what it gets."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            sys.exit("this takes too long")
        time.sleep(0.05)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send(port: int, number: int) -> None:
    """Send one span to the edge's receiver; an answer means that it is stored there."""
    now = str(time.time_ns())
    span = {
        "traceId": secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "name": f"span {number}",
        "startTimeUnixNano": now,
        "endTimeUnixNano": now,
    }
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    url = f"http://127.0.0.1:{port}/v1/traces"
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})):
        pass


def is_delivered(data_dir: Path) -> bool:
    """Whether a log's shipper has delivered all that is in it."""
    with Client(data_dir, read_only=True) as log:
        groups = log.groups("traces:v1")
        return bool(groups) and all(log.accounting("traces:v1", group).pending == 0 for group in groups)


def main() -> None:
    """Start the row, send, kill, start again, and wait until all has arrived."""
    collector, folder = sys.argv[1], Path(sys.argv[2])
    edge, hub = folder / "edge", folder / "hub"
    edge_port, hub_port = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        services = {
            # Any order works; in this one no shipper has to wait for what it sends to.
            "hub receiver": lambda: start_receiver(hub, hub_port),
            "hub shipper": lambda: start_shipper(hub, collector, "grpc"),
            "edge receiver": lambda: start_receiver(edge, edge_port),
            "edge shipper": lambda: start_shipper(edge, f"http://127.0.0.1:{hub_port}", "http/protobuf"),
        }
        running: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(lambda: [service.kill() for service in running.values()])
        for name, service in services.items():
            running[name] = service()
        for number in range(SPANS):
            send(edge_port, number)
            if number == KILL_AT:
                for name in ("hub receiver", "hub shipper", "edge shipper"):
                    running[name].kill()
                    running[name].wait()
                print("killed: both shippers and the hub's receiver")
        for name in ("hub receiver", "hub shipper", "edge shipper"):
            running[name] = services[name]()
        wait_until(lambda: is_delivered(edge))
        wait_until(lambda: is_delivered(hub))
        print(f"{SPANS} spans acknowledged and delivered")
        for service in running.values():
            service.send_signal(signal.SIGTERM)
            service.wait()


if __name__ == "__main__":
    main()
