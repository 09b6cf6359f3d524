"""Child processes that have a log open while a test damages it: owners, peers, readers, watchers."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any

from comet_storage import Client, CometConfig, Consumer
from comet_storage._os.door import Door
from comet_storage._shard.page import ReaderPage
from tests.support.entries import REPORT, make_entry


def obey(
    out: Connection, into: Connection, directory: str, stream: str, group: str, config: CometConfig, writer: int
) -> None:
    """Do what the test says, one command at a time, with a client and a consumer that stay open throughout."""
    client = Client(directory, config)
    consumer: Consumer | None = None
    sequence = 0
    while True:
        command, *arguments = into.recv()
        answer: Any = None
        try:
            if command == "append":
                entries = [make_entry(writer, sequence + index) for index in range(arguments[0])]
                ids = client.append(stream, entries)
                answer = (ids[0].entry_number, writer, sequence, arguments[0])
                sequence += arguments[0]
            elif command == "scan":
                answer = [(message.id.entry_number, message.data) for message in client.scan(stream)]
            elif command == "consume":
                consumer = consumer or Consumer(client, group, stream=stream.rpartition(":shard:")[0])
                messages = consumer.read(count=arguments[0])
                consumer.ack(*(message.id for message in messages))
                answer = [(message.id.entry_number, message.data) for message in messages]
            elif command == "sync":
                client.sync()
            elif command == "close":
                client.close()
                out.send(("done", None))
                return
            out.send(("done", answer))
        except Exception as error:
            out.send(("failed", type(error).__name__))


def append_for_ever(
    out: Connection, into: Connection, directory: str, stream: str, config: CometConfig, writer: int
) -> None:
    """Append single entries and report each; an error of the log is reported by an exit code of 3."""
    client = Client(directory, config)
    sequence = 0
    try:
        while True:
            ids = client.append(stream, [make_entry(writer, sequence)])
            os.write(out.fileno(), REPORT.pack(ids[0].entry_number, 1, writer, sequence))
            sequence += 1
    except Exception as error:
        print(f"writer {writer}: {type(error).__name__}: {error}", flush=True)
        os._exit(3)


def watch_position(out: Connection, into: Connection, state_page: str) -> None:
    """Look at a shard's published position until told to stop; send how often it grew and how often it shrank."""
    page = ReaderPage(Door(), state_page)
    last, grew, shrank = 0, 0, 0
    out.send("watching")
    while not into.poll():
        for _ in range(1000):
            page.refresh()
            position = page.published()
            if position is not None and position != last:
                grew += position > last
                shrank += position < last
                last = position
    out.send((grew, shrank, last))
