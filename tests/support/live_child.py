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


def fork_and_append(out: Connection, into: Connection, directory: str, stream: str, linger: bool) -> None:
    """Own a shard and a lane, fork while the flusher runs, and tell what parent and child can do.

    With ``linger`` the parent waits to be killed while its child lives on; else the child ends and the parent goes on.
    """
    client = Client(directory)
    shard = stream
    lanes = client.lanes("lanes:v1")
    own = client.append(shard, [b"parent 0"])[0].entry_number
    lane = lanes.append([b"parent"])[0].shard_id
    consumer = Consumer(client, "forked", stream=shard.rpartition(":shard:")[0])
    read = len(consumer.read())
    pid = os.fork()
    if pid == 0:
        result: dict[str, Any] = {}
        for name, action in (
            ("own shard", lambda: client.append(shard, [b"child"])[0].entry_number),
            ("lane", lambda: lanes.append([b"child"])[0].shard_id),
            ("consumer", consumer.read),
            ("close", client.close),
        ):
            try:
                result[name] = action()
            except Exception as error:
                result[name] = type(error).__name__
        out.send(("child", result, os.getpid()))
        if linger:
            into.recv()
        os._exit(0)
    if not linger:
        os.waitpid(pid, 0)
    again = client.append(shard, [b"parent 1"])[0].entry_number
    same_lane = lanes.append([b"parent"])[0].shard_id
    out.send(("parent", (own, again), (lane, same_lane), read, len(consumer.read())))
    into.recv()
    client.close()
    out.send("closed")
