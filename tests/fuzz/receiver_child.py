"""A receiver whose log is so small that it is full again and again: what it has no room for must be refused.

python -m tests.fuzz.receiver_child DATA_DIR GRPC_ENDPOINT HTTP_ENDPOINT MAX_TOTAL_SIZE
"""

from __future__ import annotations

import signal
import sys
import threading

from comet_otel.receiver import OTLPReceiver
from comet_otel.receiver.config import ReceiverConfig
from comet_storage import Client, CometConfig, RetentionConfig, StorageConfig
from tests.fuzz.requests import BODY_BYTES_MAX


def main() -> None:
    """Serve until SIGTERM."""
    data_dir, grpc_endpoint, http_endpoint, total = sys.argv[1:]
    config = CometConfig(
        storage=StorageConfig(max_file_size=256 * 1024),
        retention=RetentionConfig(max_total_size=int(total), when_full="reject_new"),
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with Client(data_dir, config) as client:
        client.start_maintenance()
        settings = ReceiverConfig(max_body_bytes=BODY_BYTES_MAX)
        with OTLPReceiver(client, grpc_endpoint, http_endpoint, config=settings):
            stop.wait()


if __name__ == "__main__":
    main()
