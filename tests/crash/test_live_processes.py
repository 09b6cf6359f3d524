"""Do processes that have a log open stay unharmed while its files are damaged under them?"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comet_storage import Client, Consumer, ShardOwnedError
from comet_storage.errors import CometError
from tests.support.children import PATIENCE_SECONDS, Child
from tests.support.entries import add_reports, judge, make_entry
from tests.support.live_child import append_for_ever, obey, watch_position
from tests.support.small_log import (
    GROUP,
    SHARD,
    STREAM,
    assert_conserved,
    expected_data,
    fill,
    flip,
    known_frames,
    open_small,
    overwrite,
    shard_directory,
)
from tests.support.writer_child import crash_config

pytestmark = [pytest.mark.crash, pytest.mark.slow]

FULL = bool(os.environ.get("COMET_CRASH_FULL"))
PARENT = 1 << 20


def delete(page: Path) -> None:
    """Remove the page's name; who has it mapped keeps the file."""
    page.unlink(missing_ok=True)


def zero(page: Path) -> None:
    """Every byte of the page is 0."""
    if page.exists():
        overwrite(page, 0, bytes(4096))


def randomise(page: Path) -> None:
    """Every byte of the page is another one."""
    if page.exists():
        overwrite(page, 0, random.Random(7).randbytes(4096))


DAMAGES = [delete, zero, randomise]
Damage = Callable[[Path], None]


def start(directory: Path, *, shared: bool, writer: int) -> Child:
    """A child that obeys."""
    return Child(obey, str(directory), SHARD, GROUP, crash_config(shared=shared), writer)


def answer(child: Child, *command: Any) -> Any:
    """The result of a command that succeeds."""
    kind, result = child.ask(command)
    assert kind == "done", f"{command}: {result}"
    return result


def note(acknowledged: dict[int, tuple[int, int]], appended: tuple[int, int, int, int]) -> None:
    """Remember what a child appended."""
    first, writer, sequence, count = appended
    for index in range(count):
        assert first + index not in acknowledged, "a number was given out twice"
        acknowledged[first + index] = (writer, sequence + index)


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that a flusher does within its interval."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def test_a_reader_is_not_harmed_by_damage_under_it(tmp_path) -> None:
    """Bytes are changed and the file is cut in place; who has it open reads all but the frame that is hit."""
    with open_small(tmp_path) as client:
        total = fill(client, [1, 3, 1, 2, 1, 4])
    frames = known_frames(tmp_path)
    middle, last = frames[3], frames[-1]
    content = last.path.read_bytes()
    with start(tmp_path, shared=False, writer=0) as reader:
        for at in range(middle.offset, middle.end):
            flip(middle.path, at, 0xFF if at % 2 else 1 << at % 8)
            found = dict(answer(reader, "scan"))
            assert found in (expected_data(total, without=middle.numbers), expected_data(total))
            assert found == expected_data(total, without=middle.numbers) or at >= middle.end - 8
            overwrite(middle.path, at, content[at : at + 1])
        for cut in range(last.offset, last.end - 8):
            os.truncate(last.path, cut)
            assert dict(answer(reader, "scan")) == expected_data(total, without=last.numbers)
            overwrite(last.path, 0, content)
        assert dict(answer(reader, "consume", 2)) == {number: expected_data(2)[number] for number in range(2)}
        flip(middle.path, middle.offset + 40, 1)
        os.truncate(last.path, last.offset + 20)
        # What stands behind the last read was read along with it, and is still good in memory; the end is cut off.
        hit = last.numbers
        rest = expected_data(total, without=hit | {0, 1})
        assert dict(answer(reader, "consume", 100)) == rest
        with Client(tmp_path) as client:
            accounting = client.accounting(STREAM, GROUP)
            assert_conserved(accounting)
            assert (accounting.corrupt, accounting.delivered) == (len(hit), total - len(hit))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_page_damaged_while_nobody_has_it_open_costs_nothing(tmp_path, damage: Damage) -> None:
    """The shard opens, no number is used again, and groups keep their offsets."""
    config = crash_config(shared=False)
    acknowledged: dict[int, tuple[int, int]] = {}
    for turn in range(4):
        with start(tmp_path, shared=False, writer=turn) as child:
            for _ in range(30):
                note(acknowledged, answer(child, "append", 3))
            assert len(answer(child, "consume", 10)) == 10
            if turn % 2:
                answer(child, "close")
                child.join()
        damage(shard_directory(tmp_path) / "state")
    with Client(tmp_path, config) as client:
        client.append(SHARD, [make_entry(PARENT, 0)])
        verdict = judge(client.scan(SHARD), acknowledged)
        assert verdict.clean, verdict
        with Consumer(client, GROUP, stream=STREAM) as consumer:
            assert consumer.read(count=1)[0].id.entry_number == 40
        assert_conserved(client.accounting(STREAM, GROUP))


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_idle_owner_restores_its_page(tmp_path, damage: Damage) -> None:
    """The owner's flusher notices, nobody else can take the shard, and the owner goes on with the next number."""
    page = shard_directory(tmp_path) / "state"
    config = crash_config(shared=False)
    acknowledged: dict[int, tuple[int, int]] = {}
    with start(tmp_path, shared=False, writer=1) as owner, start(tmp_path, shared=False, writer=2) as consumer:
        for _ in range(40):
            note(acknowledged, answer(owner, "append", 2))
        assert len(answer(consumer, "consume", 10)) == 10
        damage(page)
        with Client(tmp_path, config) as client:
            with pytest.raises(ShardOwnedError):
                client.append(SHARD, [b"no"])
            eventually(lambda: len(list(client.scan(SHARD))) == 80, "the page was not restored")
            note(acknowledged, answer(owner, "append", 2))
            verdict = judge(client.scan(SHARD), acknowledged)
            assert verdict.clean, verdict
        found = [number for number, _ in answer(consumer, "consume", 1000)]
        assert found == list(range(10, 82))
        answer(owner, "close")
        with Client(tmp_path, config) as client:
            client.append(SHARD, [make_entry(PARENT, 0)])
            verdict = judge(client.scan(SHARD), acknowledged)
            assert verdict.clean, verdict
            assert verdict.entries == 83


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("mode", ["owned", "shared"])
def test_appending_processes_go_on_while_their_page_is_damaged(tmp_path, damage: Damage, mode: str) -> None:
    """An owner, or two peers, append without pause while the page is damaged again and again; nothing is lost."""
    shared = mode == "shared"
    page = shard_directory(tmp_path) / "state"
    config = crash_config(shared=shared)
    acknowledged: dict[int, tuple[int, int]] = {}
    writers = [Child(append_for_ever, str(tmp_path), SHARD, config, number) for number in range(2 if shared else 1)]
    try:
        hear_more(writers, acknowledged, 50)
        for _ in range(20 if FULL else 6):
            damage(page)
            hear_more(writers, acknowledged, 50)
        for writer in writers:
            assert writer.process.exitcode is None, "the writer ended"
            writer.kill()
            add_reports(acknowledged, writer.read_rest())
    finally:
        for writer in writers:
            writer.__exit__()
    with Client(tmp_path, config) as client:
        (appended,) = client.append(SHARD, [make_entry(PARENT, 0)])
        assert appended.entry_number not in acknowledged
        verdict = judge(client.scan(SHARD), acknowledged)
        verdict.gaps.clear()  # without a page the numbers up to the ceiling may be given up
        assert verdict.clean, verdict


def hear_more(writers: list[Child], acknowledged: dict[int, tuple[int, int]], count: int) -> None:
    """Listen to the writers until they have reported so many more entries."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    wanted = len(acknowledged) + count
    while len(acknowledged) < wanted:
        assert time.monotonic() < deadline, "no more appends"
        for writer in writers:
            add_reports(acknowledged, writer.read_raw(time.monotonic() + 0.01))


def test_an_owner_whose_lock_file_is_deleted_is_not_one_of_two(tmp_path) -> None:
    """The second owner takes the shard, and the first one's next append is refused; nothing is written twice."""
    config = crash_config(shared=False)
    acknowledged: dict[int, tuple[int, int]] = {}
    with start(tmp_path, shared=False, writer=1) as first:
        note(acknowledged, answer(first, "append", 5))
        (shard_directory(tmp_path) / "owner.lock").unlink()
        with Client(tmp_path, config) as second:
            (appended,) = second.append(SHARD, [make_entry(PARENT, 0)])
            acknowledged[appended.entry_number] = (PARENT, 0)
            assert first.ask(("append", 1)) == ("failed", "ShardLostError")
            assert first.ask(("append", 1)) == ("failed", "ShardOwnedError")
            second.append(SHARD, [make_entry(PARENT, 1)])
            verdict = judge(second.scan(SHARD), acknowledged)
            assert verdict.clean, verdict
            assert verdict.entries == 7
        note(acknowledged, answer(first, "append", 1))
        assert len(answer(first, "scan")) == 8


def test_peers_whose_lock_file_is_deleted_meet_on_the_new_one(tmp_path) -> None:
    """Processes of a shared shard notice that the lock that they take is not the one that has the name."""
    acknowledged: dict[int, tuple[int, int]] = {}
    with start(tmp_path, shared=True, writer=1) as first, start(tmp_path, shared=True, writer=2) as second:
        for turn in range(10):
            note(acknowledged, answer(first, "append", 3))
            note(acknowledged, answer(second, "append", 3))
            if turn % 3 == 0:
                (shard_directory(tmp_path) / "owner.lock").unlink()
        found = answer(first, "scan")
        assert [number for number, _ in found] == list(range(60)) == sorted(acknowledged)


def test_the_published_position_only_grows(tmp_path) -> None:
    """Two processes watch it while one appends and rotates, dies, and others go on."""
    page = str(shard_directory(tmp_path) / "state")
    config = crash_config(shared=True, segment_bytes=4096)
    with Client(tmp_path, config) as client:
        client.append(SHARD, [make_entry(PARENT, 0)])
    watchers = [Child(watch_position, page) for _ in range(2)]
    try:
        for watcher in watchers:
            assert watcher.hear() == "watching"
        for turn in range(20 if FULL else 4):
            with Child(append_for_ever, str(tmp_path), SHARD, config, turn) as writer:
                hear_more([writer], {}, 300)
        for watcher in watchers:
            grew, shrank, last = watcher.ask("stop")
            assert shrank == 0
            # How often depends on when the scheduler lets the watcher look.
            assert grew > 0
            assert last > 0
    finally:
        for watcher in watchers:
            watcher.__exit__()


def test_an_owner_that_died_frees_its_shard_at_once(tmp_path) -> None:
    """The kernel frees the lock of a process that was killed; the next owner needs no waiting and no repair."""
    with start(tmp_path, shared=False, writer=1) as first:
        answer(first, "append", 5)
        with Client(tmp_path) as client:
            with pytest.raises(CometError) as refused:
                client.append(SHARD, [b"no"])
            assert str(first.process.pid) in str(refused.value)
            first.kill()
            assert client.append(SHARD, [b"yes"])[0].entry_number == 5
