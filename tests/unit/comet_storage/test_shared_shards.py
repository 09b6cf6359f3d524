"""Do several writers of one shard see everything of each other, whatever happened in between?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, ConcurrencyConfig, Consumer, LogBusyError
from comet_storage._format.state_page import CEILING
from comet_storage._shard.writer import ShardWriter
from comet_storage.names import parse_shard_stream
from tests.support.children import PATIENCE_SECONDS, Child
from tests.support.engine import ManualDoor
from tests.support.entries import add_reports, judge, make_entry
from tests.support.live_child import obey
from tests.support.small_log import (
    GROUP,
    QUICK,
    SHARD,
    BootedDoor,
    QuickDoor,
    crash,
    memory_directory,
    numbers_and_data,
    open_small,
    overwrite,
    segment_paths,
    shard_directory,
    small_config,
)
from tests.support.small_log import STREAM as STREAM_OF_SHARD
from tests.support.writer_child import STREAM, append_until_killed, crash_config


@pytest.fixture
def tmp_path(tmp_path) -> Iterator[Path]:
    """In memory: nothing here depends on the disk."""
    yield from memory_directory(tmp_path)


def append(client: Client, sequence: int, size: int = 40) -> int:
    """Append one known entry; returns its number."""
    return client.append(SHARD, [make_entry(1, sequence, size)])[0].entry_number


def test_two_writers_take_turns_over_many_rotations(tmp_path) -> None:
    """One numbering, whoever appends and whoever rotates."""
    with (
        open_small(tmp_path, shared=True, segment_bytes=4096) as one,
        open_small(tmp_path, shared=True, segment_bytes=4096) as two,
    ):
        for sequence in range(400):
            assert append(one if sequence % 3 else two, sequence) == sequence
        found = numbers_and_data(list(one.scan(SHARD)))
        assert found == {sequence: make_entry(1, sequence, 40) for sequence in range(400)}
        assert len(segment_paths(tmp_path)) > 4


def test_a_small_append_after_a_rotation_that_died_is_not_lost(tmp_path) -> None:
    """The dead process's frame did not fit in the old segment; another one's would, and must not go there any more."""
    config = crash_config(shared=True, segment_bytes=4096)
    with Client(tmp_path, config) as peer:
        acknowledged = {peer.append(STREAM, [make_entry(1 << 20, 0)])[0].entry_number: (1 << 20, 0)}
        for death, point in enumerate(("rotate.before_header", "rotate.before_rename", "rotate.after_rename")):
            with Child(append_until_killed, str(tmp_path), death, config, point, 1, 300) as child:
                add_reports(acknowledged, child.read_rest())
                assert child.join() == -9
            (found,) = peer.append(STREAM, [make_entry(1 << 20, death + 1, 12)])
            acknowledged[found.entry_number] = (1 << 20, death + 1)
            verdict = judge(peer.scan(STREAM), acknowledged)
            assert verdict.clean, f"{point}: {verdict}"


def test_an_empty_segment_that_is_replaced_is_noticed_by_writers_and_readers(tmp_path) -> None:
    """A torn first frame makes the next writer begin a segment of the same name; who had the old one open follows."""
    with open_small(tmp_path, shared=True) as peer:
        append(peer, 0)
        (writer,) = peer._writers.values()
        writer.rotate()
        assert append(peer, 1) == 1
        writer.rotate()
        reader = peer._new_reader(writer.name)
        assert [found.header.first_entry for found in reader.frames(0)] == [0, 1]
        empty = segment_paths(tmp_path)[-1]
        overwrite(empty, 1024, b"\xff" * 100)
        with open_small(tmp_path, shared=True) as other:
            assert append(other, 2) == 2
        assert append(peer, 3) == 3
        assert [found.header.first_entry for found in reader.frames(1)] == [1, 2, 3]
        reader.close()
        assert numbers_and_data(list(peer.scan(SHARD))) == {n: make_entry(1, n, 40) for n in range(4)}


def test_an_owner_in_between_that_gives_back_blocks_does_no_harm(tmp_path) -> None:
    """It cuts the file on closing; a process that has the file mapped must not store behind its end, which is fatal."""
    with Child(obey, str(tmp_path), SHARD, GROUP, crash_config(shared=True), 5) as peer:
        for _ in range(5):
            kind, _ = peer.ask(("append", 1))
            assert kind == "done"
            with Client(tmp_path, crash_config(shared=False)) as owner:
                owner.append(SHARD, [b"owner"])
            with Client(tmp_path) as reader:
                (shard_directory(tmp_path) / "state").unlink()
                # While the peer's flusher has the lock, a reader cannot rebuild the page.
                deadline = time.monotonic() + PATIENCE_SECONDS
                while not list(reader.scan(SHARD)):
                    assert time.monotonic() < deadline
        # Nor can the peer's reader, while its flusher does: until then it shows closed segments only.
        deadline = time.monotonic() + PATIENCE_SECONDS
        numbers: list[int] = []
        while numbers != list(range(10)):
            assert time.monotonic() < deadline, numbers
            kind, found = peer.ask(("scan",))
            assert kind == "done"
            numbers = [number for number, _ in found]


def test_a_peer_that_closes_does_not_let_others_use_numbers_that_are_not_safe(tmp_path) -> None:
    """Closing lowers the ceiling; those that go on must raise it before they give out more numbers."""
    one = open_small(tmp_path, shared=True)
    two = open_small(tmp_path, shared=True)
    for sequence in range(4):
        append(one if sequence % 2 else two, sequence)
    two.sync()
    two.close()
    for sequence in range(4, 50):
        assert append(one, sequence) == sequence
    (writer,) = one._writers.values()
    durable = writer.page.durable()
    assert durable is not None
    assert durable.ceiling >= 50
    assert writer.page.words[CEILING] >= 50
    crash(one)
    with open_small(tmp_path, door=BootedDoor(), shared=True) as after:
        assert append(after, 50) >= 50


class LateNames(QuickDoor):
    """Lists a directory while another process makes segments in it: shows the newest of them, and not the others."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], None] = lambda: None

    def list_directory(self, path: str) -> list[str]:
        """The names from before, and the last one from after."""
        before = super().list_directory(path)
        self.meanwhile()
        return [*before, max(set(super().list_directory(path)) - set(before) or {"nothing"})]


def test_segments_begun_while_the_directory_is_listed_are_not_taken_for_gaps(tmp_path) -> None:
    """What a listing happens to leave out is read the next time, and nothing is counted as damaged."""
    total = 0
    door = LateNames()
    with open_small(tmp_path, segment_bytes=4096) as writer, open_small(tmp_path, door=door) as reading:

        def append_some() -> None:
            nonlocal total
            for _ in range(250):
                total = append(writer, total) + 1

        append_some()
        with Consumer(reading, GROUP, stream=STREAM_OF_SHARD) as consumer:
            door.meanwhile = append_some
            found: list[int] = []
            for _ in range(3):
                messages = consumer.read(count=10_000)
                consumer.ack(*(message.id for message in messages))
                found += [message.id.entry_number for message in messages]
            door.meanwhile = lambda: None
            found += [message.id.entry_number for message in consumer.read(count=10_000)]
        assert found == list(range(total))
        assert reading.accounting(STREAM_OF_SHARD, GROUP).corrupt == 0


def test_a_stopped_process_delays_an_append_by_the_lock_timeout_once(tmp_path) -> None:
    """A thread that waited for its turn behind another one's wait for the lock waits for the lock that much less."""
    door = ManualDoor()
    with (
        open_small(tmp_path, shared=True) as stopped,
        Client(tmp_path, small_config(shared=True), _door=door) as client,
    ):
        append(stopped, 0)
        append(client, 1)
        writer = client.open_writer(parse_shard_stream(SHARD), shared=True)
        timeout = client.config.concurrency.lock_timeout
        with stopped.open_writer(parse_shard_stream(SHARD), shared=True).exclusive():
            for waited in (0.9, 0.0):
                began = door.now
                writer._busy = waited > 0
                door.sleep = lambda seconds, until=began + waited * timeout: end_turn(door, writer, seconds, until)
                with pytest.raises(LogBusyError):
                    append(client, 2)
                assert began + timeout <= door.now < began + 1.1 * timeout
        assert append(client, 2) == 2


def end_turn(door: ManualDoor, writer: ShardWriter, seconds: float, until: float) -> None:
    """Let time pass, at the end of which another thread's turn is over."""
    door.now += seconds
    if door.now >= until:
        writer._busy = False


def test_a_shard_that_an_owner_has_is_busy_for_shared_writers(tmp_path) -> None:
    """They wait no longer than their lock timeout, and store nothing."""
    config = small_config(shared=True)
    impatient: CometConfig = replace(config, concurrency=ConcurrencyConfig(multi_process=True, lock_timeout=0.01))
    with open_small(tmp_path) as owner:
        append(owner, 0)
        with Client(tmp_path, impatient, _door=QUICK) as shared, pytest.raises(LogBusyError):
            append(shared, 1)
        assert append(owner, 1) == 1
