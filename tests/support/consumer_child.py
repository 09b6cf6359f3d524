"""A child process that consumes a stream as a group until it is killed, and reports what its handler got."""

from __future__ import annotations

import os
import struct
import threading
from multiprocessing.connection import Connection

from comet_storage import Client, Consumer, StreamMessage

HANDED = struct.Struct("<IQII")
"""Shard, first entry number, how many, process: 20 bytes, written whole."""


def consume_for_ever(
    out: Connection, into: Connection, directory: str, stream: str, group: str, poll_interval: float, batch_size: int
) -> None:
    """Process with acknowledgements after the handler returned; each batch is reported from inside the handler."""
    stop = threading.Event()

    def handler(messages: list[StreamMessage]) -> None:
        first = messages[0].id
        assert [m.id.entry_number - first.entry_number for m in messages] == list(range(len(messages)))
        os.write(out.fileno(), HANDED.pack(first.shard_id, first.entry_number, len(messages), os.getpid()))

    def wait_for_the_end() -> None:
        into.recv()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with Client(directory) as client, Consumer(client, group, stream=stream) as consumer:
        consumer.process(handler, batch_size=batch_size, poll_interval=poll_interval, stop=stop)
