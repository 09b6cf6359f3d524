"""Processes that fork while they append: what each of them stored is reported to the test, which reads the log."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from comet_storage import Client, CometConfig, CometError, StorageConfig
from tests.support.children import PATIENCE_SECONDS
from tests.support.entries import judge, make_entry

OWNED = "owned:v1:shard:0000"
SHARED = "shared:v1:shard:0000"
LANES = "lanes:v1"

_ACK = struct.Struct("<IIQII")
"""Which stream, shard, number, writer, sequence."""
_STREAMS = ("owned:v1", "shared:v1", "lanes:v1")
CHILDREN_AT_ONCE = 8
ENTRIES_PER_CHILD = 3
_PACE_SECONDS = 0.0002
"""Between appends of a thread, so that checking what it stored takes no longer than storing it."""

Ack = tuple[int, int, int, int, int]


def busy_config(*, shared: bool = False) -> CometConfig:
    """Small segments and a flusher that is always at work."""
    base = CometConfig.multi_process() if shared else CometConfig.default()
    return CometConfig(storage=StorageConfig(max_file_size=64 * 1024, sync_interval=0.01), concurrency=base.concurrency)


def fork_in_python() -> int:
    """With the interpreter's hooks."""
    return os.fork()


def fork_in_c() -> int:
    """As C code does: no hook of Python runs.

    A thread that waits for the interpreter's lock asks for it after the switch interval, and whoever is asked lets it
    go and waits until somebody took it: a child, which has no other thread, for ever. So nobody asks around this fork.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1.0)
    try:
        time.sleep(20 * interval)  # for those that wait by the old interval, however slow the machine is
        pid: int = ctypes.PyDLL(None).fork()
    finally:
        sys.setswitchinterval(interval)
    return pid


FORKS: Mapping[str, Callable[[], int]] = {"python": fork_in_python, "c": fork_in_c}


def descriptors_into(directory: str) -> dict[int, str]:
    """Descriptors of this process that stand for files in a directory, and those files."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(entry.readlink())
            if target.startswith(directory):
                found[int(entry.name)] = target
    return found


class Appender:
    """Appends in its own thread until told to stop, and remembers what was acknowledged."""

    def __init__(self, stream: int, writer: int, append: Callable[[list[bytes]], object]) -> None:
        self.acks: list[Ack] = []
        self.errors: list[str] = []
        self._stream, self._writer, self._append = stream, writer, append
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        sequence = 0
        try:
            while not self._stop.wait(_PACE_SECONDS):
                count = 1 + sequence % 3
                entries = [make_entry(self._writer, sequence + index) for index in range(count)]
                for index, found in enumerate(self._append(entries)):  # type: ignore[arg-type, var-annotated]
                    self.acks.append((self._stream, found.shard_id, found.entry_number, self._writer, sequence + index))
                sequence += count
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")


def fork_under_load(out: Connection, into: Connection, directory: str, forks: int) -> None:
    """Fork again and again while three threads append to an owned shard, a shared shard and a lane, and so do children.

    Sends everything that was acknowledged, and what went wrong.
    """
    sys.setswitchinterval(1e-5)
    client, peers = Client(directory, busy_config()), Client(directory, busy_config(shared=True))
    lanes = client.lanes(LANES)
    appenders = [
        Appender(0, 1, lambda entries: client.append(OWNED, entries)),
        Appender(1, 2, lambda entries: peers.append(SHARED, entries)),
        Appender(2, 3, lanes.append),
    ]
    for appender in appenders:
        appender.start()
        while not (appender.acks or appender.errors):
            time.sleep(0.001)
    problems: list[str] = []
    reports: list[Ack] = []
    living: dict[int, int] = {}

    def reap(most: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(living) > most:
            ready = select.select(list(living), [], [], 1.0)[0]
            for descriptor in ready:
                data = os.read(descriptor, 1 << 16)
                os.close(descriptor)
                _, status = os.waitpid(living.pop(descriptor), 0)
                if status:
                    problems.append(f"a child ended with status {status}: {data[-300:]!r}")
                else:
                    reports.extend(_ACK.iter_unpack(data))
            if time.monotonic() > deadline:
                problems.append(f"{len(living)} children hang")
                return

    for number in range(forks):
        receiving, sending = os.pipe()
        pid = os.fork()
        if pid == 0:
            _live_as_child(sending, number, client, peers, lanes)
        os.close(sending)
        living[receiving] = pid
        reap(CHILDREN_AT_ONCE - 1)
    reap(0)
    for appender in appenders:
        appender.stop()
        problems += appender.errors
        reports += appender.acks
    client.close()
    peers.close()
    out.send((reports, problems))


def _live_as_child(out: int, number: int, client: Client, peers: Client, lanes: object) -> None:
    status = 1
    try:
        acks = []
        try:
            client.append(OWNED, [b"not the child's"])
            raise AssertionError("the child appended to its parent's shard")
        except CometError:
            pass
        for sequence in range(ENTRIES_PER_CHILD):
            writer = 100 + number
            for stream, append in ((1, lambda e: peers.append(SHARED, e)), (2, lanes.append)):  # type: ignore[attr-defined]
                found = _patiently(append, make_entry(writer, 2 * sequence + stream))
                acks.append(_ACK.pack(stream, found.shard_id, found.entry_number, writer, 2 * sequence + stream))
        os.write(out, b"".join(acks))
        status = 0
    except BaseException as error:
        os.write(out, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(status)


def _patiently(append: Callable[[list[bytes]], object], entry: bytes) -> object:
    """Many processes on one shared shard wait for each other; a busy lock stored nothing."""
    deadline = time.monotonic() + PATIENCE_SECONDS / 2
    while True:
        try:
            return append([entry])[0]  # type: ignore[index]
        except CometError as error:
            if not error.retryable or time.monotonic() > deadline:
                raise


def assert_nothing_lost(directory: Path, reports: list[Ack]) -> int:
    """Every acknowledged entry is there once, in its place, with its bytes; returns how many entries there are."""
    shards: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}
    for stream, shard, number, writer, sequence in reports:
        numbers = shards.setdefault((stream, shard), {})
        assert number not in numbers, "a number was given out twice"
        numbers[number] = (writer, sequence)
    total = 0
    with Client(directory, busy_config()) as client:
        for (stream, shard), acknowledged in shards.items():
            verdict = judge(client.scan(f"{_STREAMS[stream]}:shard:{shard:04d}"), acknowledged)
            assert verdict.clean, f"{_STREAMS[stream]} {shard}: {verdict}"
            assert verdict.entries == len(acknowledged)
            total += verdict.entries
    return total
