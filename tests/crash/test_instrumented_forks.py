"""Do processes that fork while they make telemetry ever hang, lose or double any of it?"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.support.children import Child
from tests.support.instrumented_forks import fork_under_load, stored_names, use_multiprocessing

pytestmark = [pytest.mark.crash, pytest.mark.slow]

ROUNDS = 25 if os.environ.get("COMET_CRASH_FULL") else 1
FORKS = 40
"""Forks of one process."""


@pytest.mark.parametrize("how", ["python", "c"])
def test_what_parent_and_children_made_is_stored_once(tmp_path, capsys, how) -> None:
    """Spans and log records of the processors, and where hooks run also those of a batching processor."""
    total = 0
    for turn in range(ROUNDS):
        directory = tmp_path / str(turn)
        with Child(fork_under_load, str(directory), FORKS, how) as child:
            expected, problems = child.hear()
        assert problems == []
        assert stored_names(directory) == Counter(expected)
        assert sum(name.startswith("span child") for name in expected) == 3 * FORKS
        total += len(expected)
    with capsys.disabled():
        print(f"\nforks under load ({how}): {ROUNDS * FORKS} forks, {total} items, none lost, none doubled")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_store_theirs_once(tmp_path, method) -> None:
    """Whether they inherit the pipeline or make their own; their ends run no exit handlers."""
    with Child(use_multiprocessing, str(tmp_path / "log"), method, 3) as child:
        expected, problems = child.hear()
    assert problems == []
    assert stored_names(tmp_path / "log") == Counter(expected)
    assert len(expected) == 6 + 3 * 9
