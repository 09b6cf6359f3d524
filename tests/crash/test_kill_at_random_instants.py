"""Is everything that was acknowledged still there, once and in order, after kill -9 at any instant?"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from comet_storage import Client
from tests.support.children import Child
from tests.support.entries import add_reports, judge, make_entry
from tests.support.writer_child import STREAM, append_until_killed, crash_config

pytestmark = [pytest.mark.crash, pytest.mark.slow]

FULL = bool(os.environ.get("COMET_CRASH_FULL"))
OWNED_KILLS = 120 if FULL else 10
SHARED_KILLS = 120 if FULL else 10
KILLS_PER_LOG = 10
ENDLESS = 1 << 30
CHECKER = 1 << 20
"""Writer number from which on the checking process counts its own."""


class Tally:
    """Counts for the campaign's summary."""

    def __init__(self) -> None:
        self.kills = self.acknowledged = self.lost = self.duplicated = self.garbled = 0

    def line(self, name: str) -> str:
        """The summary."""
        return (
            f"{name}: kills {self.kills}, acknowledged {self.acknowledged}, lost {self.lost}, "
            f"duplicated {self.duplicated}, garbled {self.garbled}"
        )


def check(client: Client, acknowledged: dict[int, tuple[int, int]], tally: Tally, seed: object) -> None:
    """Read the whole log and compare."""
    known = dict(acknowledged)
    verdict = judge(client.scan(STREAM), known)
    tally.lost += len(verdict.lost)
    tally.duplicated += len(verdict.duplicated)
    tally.garbled += len(verdict.garbled)
    assert verdict.clean, f"{verdict} (seed {seed})"


def append_on(client: Client, acknowledged: dict[int, tuple[int, int]], writer: int, sequence: int) -> None:
    """The checking process appends, too."""
    (number,) = (found.entry_number for found in client.append(STREAM, [make_entry(writer, sequence)]))
    assert number not in acknowledged
    acknowledged[number] = (writer, sequence)


def test_an_owner_that_is_killed_loses_nothing_that_it_acknowledged(tmp_path, capsys) -> None:
    """One owner at a time is killed while it appends and rotates; another process reopens, checks and appends on."""
    tally = Tally()
    config = crash_config(shared=False)
    for kill in range(OWNED_KILLS):
        if kill % KILLS_PER_LOG == 0:
            directory = tmp_path / f"log{kill}"
            acknowledged: dict[int, tuple[int, int]] = {}
        chance = random.Random(kill)
        with Child(append_until_killed, str(directory), kill, config, None, 0, ENDLESS) as child:
            # Two of three die some time after their first acknowledgement, however slow the machine is; the third at
            # any instant, also while it opens the log.
            data = child.read_some() if kill % 3 else b""
            data += child.read_raw(time.monotonic() + chance.choice((0.01, 0.03, 0.06, 0.09)) * chance.random())
            child.kill()
            data += child.read_rest()
        tally.kills += 1
        tally.acknowledged += add_reports(acknowledged, data)
        with Client(directory, config) as client:
            if kill % 2:
                check(client, acknowledged, tally, kill)
            append_on(client, acknowledged, CHECKER + kill, 0)
            check(client, acknowledged, tally, kill)
    assert tally.acknowledged >= OWNED_KILLS * 2 // 3
    with capsys.disabled():
        print("\n" + tally.line("owned shard, random instants"))


def test_of_three_processes_on_one_shard_those_that_live_are_not_harmed(tmp_path, capsys) -> None:
    """Three processes share a shard and one of them after another is killed; the log is whole at every check."""
    tally = Tally()
    for start in range(0, SHARED_KILLS, KILLS_PER_LOG * 3):
        kills = min(KILLS_PER_LOG * 3, SHARED_KILLS - start)
        _shared_campaign(tmp_path / f"log{start}", start, kills, tally)
    assert tally.acknowledged >= SHARED_KILLS * 2 // 3
    with capsys.disabled():
        print("\n" + tally.line("shared shard, three processes, random instants"))


def _shared_campaign(directory: Path, start: int, kills: int, tally: Tally) -> None:
    config = crash_config(shared=True)
    acknowledged: dict[int, tuple[int, int]] = {}
    chance = random.Random(start)
    writers = iter(range(start, ENDLESS))
    living: list[Child] = []

    def begin() -> None:
        living.append(Child(append_until_killed, str(directory), next(writers), config, None, 0, ENDLESS))

    client = Client(directory, config)
    try:
        for _ in range(3):
            begin()
        for kill in range(kills):
            if kill % 3:
                tally.acknowledged += add_reports(acknowledged, living[-1].read_some())
            for child in living:
                tally.acknowledged += add_reports(
                    acknowledged, child.read_raw(time.monotonic() + (0.01 if FULL else 0.003) * chance.random())
                )
            victim = living.pop(chance.randrange(len(living)))
            victim.kill()
            tally.kills += 1
            tally.acknowledged += add_reports(acknowledged, victim.read_rest())
            victim.__exit__()
            if kill % 3 == 0:
                append_on(client, acknowledged, CHECKER + start, kill)
            check(client, acknowledged, tally, (start, kill))
            begin()
        for child in living:
            child.kill()
            tally.acknowledged += add_reports(acknowledged, child.read_rest())
        append_on(client, acknowledged, CHECKER + start, kills)
        check(client, acknowledged, tally, (start, "end"))
    finally:
        for child in living:
            child.__exit__()
        client.close()
    with Client(directory, config) as client:
        check(client, acknowledged, tally, (start, "reopened"))
