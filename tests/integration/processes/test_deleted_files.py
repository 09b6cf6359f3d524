"""Can deleting, replacing or moving a shard's files under a live owner ever make two writers of it? No."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, LogMovedError, ShardLostError, ShardOwnedError, StorageConfig
from tests.support.children import PATIENCE_SECONDS, Child
from tests.support.entries import REPORT, add_reports, judge, make_entry
from tests.support.live_child import obey

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHARD = "deleted:v1:shard:0000"
SECOND = 1 << 20
ROUNDS = 5


LOST, MOVED, OTHER = 4, 5, 6
"""How an owner ends that is refused."""


def append_until_refused(out: Connection, into: Connection, directory: str) -> None:
    """Append single entries and report each; the exit code says which error ended it."""
    client = Client(directory, config_for())
    sequence = 0
    code = OTHER
    try:
        while True:
            (found,) = client.append(SHARD, [make_entry(1, sequence)])
            os.write(out.fileno(), REPORT.pack(found.entry_number, 1, 1, sequence))
            sequence += 1
    except ShardLostError:
        code = LOST
    except LogMovedError:
        code = MOVED
    finally:
        os._exit(code)


def config_for(sync_interval: float = 0.05) -> CometConfig:
    """Small segments, so that rotations are met, too."""
    return CometConfig(storage=StorageConfig(max_file_size=64 * 1024, sync_interval=sync_interval))


def files(directory: Path) -> Path:
    """The shard's directory."""
    return directory / "deleted" / "v1" / "shard-0000"


def delete_lock(directory: Path) -> None:
    """The lock file alone."""
    (files(directory) / "owner.lock").unlink()


def delete_lock_and_page(directory: Path) -> None:
    """Both, so that the page cannot tell the owner either."""
    (files(directory) / "state").unlink()
    (files(directory) / "owner.lock").unlink()


def replace_lock_and_page(directory: Path) -> None:
    """Both are other files with the same bytes, as after a restored backup."""
    for name in ("state", "owner.lock"):
        path = files(directory) / name
        copy = path.with_name(f"{name}.copy")
        shutil.copy(path, copy)
        copy.rename(path)


DAMAGES = [delete_lock, delete_lock_and_page, replace_lock_and_page]


def hear_some(owner: Child, acknowledged: dict[int, tuple[int, int]], count: int) -> None:
    """Listen to the owner until it has reported so many more entries."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    wanted = len(acknowledged) + count
    while len(acknowledged) < wanted:
        assert time.monotonic() < deadline, "no more appends"
        add_reports(acknowledged, owner.read_raw(time.monotonic() + 0.002))


def take_over(client: Client, sequence: int) -> int:
    """Append as soon as the shard can be claimed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return client.append(SHARD, [make_entry(SECOND, sequence)])[0].entry_number
        except ShardOwnedError:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_owner_at_work_ends_before_the_next_one_begins(tmp_path, damage: Callable[[Path], None]) -> None:
    """No number is given out twice and everything that either acknowledged is there, whatever was deleted."""
    for turn in range(ROUNDS):
        directory = tmp_path / str(turn)
        acknowledged: dict[int, tuple[int, int]] = {}
        with Child(append_until_refused, str(directory)) as owner:
            hear_some(owner, acknowledged, 20 + 10 * turn)
            damage(directory)
            with Client(directory, config_for()) as second:
                numbers = [take_over(second, sequence) for sequence in range(20)]
                add_reports(acknowledged, owner.read_rest())
                assert owner.join() == LOST
                for sequence, number in enumerate(numbers):
                    assert number not in acknowledged
                    acknowledged[number] = (SECOND, sequence)
                verdict = judge(second.scan(SHARD), acknowledged)
                verdict.gaps.clear()  # without a page the numbers up to the ceiling may be given up
                assert verdict.clean, verdict


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_stopped_owner_is_waited_for_however_its_files_were_deleted(tmp_path, damage) -> None:
    """It may be stopped in the middle of an append: nobody has the shard before that append has ended."""
    for turn in range(ROUNDS):
        directory = tmp_path / str(turn)
        acknowledged: dict[int, tuple[int, int]] = {}
        with Child(append_until_refused, str(directory)) as owner:
            hear_some(owner, acknowledged, 30)
            pid = owner.process.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                damage(directory)
                with Client(directory, config_for()) as second:
                    lane = second.lanes("deleted:v1").append([b"elsewhere, at once"])[0]
                    assert lane.shard_id == 1
                    if turn == 0:
                        with pytest.raises(ShardOwnedError, match="has not noticed"):
                            second.append(SHARD, [b"no"])
                    os.kill(pid, signal.SIGCONT)
                    number = take_over(second, 0)
                    add_reports(acknowledged, owner.read_rest())
                    assert owner.join() == LOST
                    assert number not in acknowledged
                    acknowledged[number] = (SECOND, 0)
                    verdict = judge(second.scan(SHARD), acknowledged)
                    verdict.gaps.clear()
                    assert verdict.clean, verdict
            finally:
                if owner.process.exitcode is None:
                    os.kill(pid, signal.SIGCONT)


def test_an_owner_whose_directory_was_moved_leaves_the_new_one_alone(tmp_path) -> None:
    """What it still appends goes where its files went; the directory that took the name has the second owner's only."""
    acknowledged: dict[int, tuple[int, int]] = {}
    moved = tmp_path / "moved"
    log = tmp_path / "log"
    with Child(append_until_refused, str(log)) as owner:
        hear_some(owner, acknowledged, 50)
        files(log).rename(moved)
        with Client(log, config_for()) as second:
            numbers = [take_over(second, sequence) for sequence in range(500)]
            add_reports(acknowledged, owner.read_rest())
            assert owner.join() == LOST
            assert numbers == list(range(500))
            held = judge(second.scan(SHARD), {number: (SECOND, number) for number in numbers})
            assert held.clean, held
            assert held.entries == 500
    shutil.rmtree(files(log))
    moved.rename(files(log))
    with Client(log, config_for()) as client:
        verdict = judge(client.scan(SHARD), acknowledged)
        assert verdict.clean, verdict


def test_an_owner_whose_directory_was_moved_away_says_so(tmp_path) -> None:
    """After the flusher's look the next append is refused with LogMovedError; what it stored went along."""
    acknowledged: dict[int, tuple[int, int]] = {}
    log, moved = tmp_path / "log", tmp_path / "moved"
    with Child(append_until_refused, str(log)) as owner:
        hear_some(owner, acknowledged, 50)
        log.rename(moved)
        add_reports(acknowledged, owner.read_rest())
        assert owner.join() == MOVED
    with Client(moved, config_for()) as client:
        verdict = judge(client.scan(SHARD), acknowledged)
        assert verdict.clean, verdict


def test_a_page_that_is_cut_short_does_not_end_its_readers(tmp_path) -> None:
    """They have it mapped, and look at its size before they look into it."""
    stream = SHARD.rpartition(":shard:")[0]
    with Client(tmp_path, config_for()) as client:
        for sequence in range(10):
            client.append(SHARD, [make_entry(1, sequence)])
    with Child(obey, str(tmp_path), SHARD, "cut", config_for(), 2) as reader:
        assert len(reader.ask(("consume", 3))[1]) == 3
        os.truncate(files(tmp_path) / "state", 0)
        kind, found = reader.ask(("consume", 100))
        assert kind == "done"
        assert [number for number, _ in found] == list(range(3, 10))
        with Client(tmp_path, config_for()) as client:
            assert client.append(SHARD, [make_entry(1, 10)])[0].entry_number >= 10
            assert client.accounting(stream, "cut").corrupt == 0
