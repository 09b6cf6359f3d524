"""Does a process that forks all the time, with threads in the middle of appends, ever hang, lose or double anything?"""

from __future__ import annotations

import os

import pytest

from tests.support.children import Child
from tests.support.forking import ENTRIES_PER_CHILD, LANES, assert_nothing_lost, fork_under_load

pytestmark = [pytest.mark.crash, pytest.mark.slow]

ROUNDS = 25 if os.environ.get("COMET_CRASH_FULL") else 1
FORKS = 40
"""Forks of one process."""


def test_forks_under_load_neither_hang_nor_lose_nor_double_anything(tmp_path, capsys) -> None:
    """Parent's threads and children append to the same log throughout; all that was acknowledged is there once."""
    total = 0
    for turn in range(ROUNDS):
        directory = tmp_path / str(turn)
        with Child(fork_under_load, str(directory), FORKS) as child:
            reports, problems = child.hear()
        assert problems == []
        total += assert_nothing_lost(directory, reports)
        by_children = [report for report in reports if report[3] >= 100]
        assert len(by_children) == 2 * ENTRIES_PER_CHILD * FORKS
        assert len({shard for stream, shard, *_ in by_children if stream == 2}) > 1, f"{LANES} was used as one lane"
    with capsys.disabled():
        print(f"\nforks under load: {ROUNDS * FORKS} forks, {total} entries, none lost, none doubled")
