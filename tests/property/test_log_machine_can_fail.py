"""Would the state machine notice? Engines that are broken on purpose, each of which it has to find out."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from comet_storage._format.state_page import PUBLISHED
from comet_storage._groups.lease import Lease
from comet_storage._groups.tracker import Tracker
from comet_storage._log.space import SpaceLedger
from comet_storage._os.door import Door
from comet_storage._shard.reader import ShardReader
from comet_storage.client import Client
from tests.property.test_log_machine import LogMachine
from tests.support.log_groups import GroupWorld
from tests.support.log_world import LogSettings
from tests.support.machine_door import MachineDoor

EXAMPLES = 200
"""Most are found within a few."""


class _ForgetfulWords:
    """The hot words of a page that misses every third publication."""

    def __init__(self, words: Any, door: LossyDoor) -> None:
        self._words = words
        self._door = door

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        if index == PUBLISHED:
            self._door.publications += 1
            if self._door.publications % 3 == 0:
                return
        self._words[index] = value

    def release(self) -> None:
        self._words.release()


class LossyDoor(MachineDoor):
    """A machine whose stores get lost now and then."""

    publications = 0

    def map_words(self, mapped: Any) -> Any:
        """Words that forget."""
        words = super().map_words(mapped)
        return words if words.readonly else _ForgetfulWords(words, self)


class SyncLessDoor(MachineDoor):
    """A disk that says that it has synced, and has not."""

    def sync_data(self, fd: int) -> None:
        """Do nothing."""


def run_with_door(door: type[MachineDoor]) -> None:
    """Run a machine whose log uses this door."""

    class Machine(LogMachine):
        def make_world(self, log: LogSettings) -> GroupWorld:
            return GroupWorld(log, door)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("door", [LossyDoor, SyncLessDoor])
def test_a_machine_that_loses_stores_or_syncs_is_noticed(door) -> None:
    """A publication that is dropped; a sync that did nothing, once the power is cut."""
    with pytest.raises(AssertionError):
        run_with_door(door)


def _acknowledge_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the number behind an acknowledged range as well."""
    original = Tracker.acknowledge
    monkeypatch.setattr(Tracker, "acknowledge", lambda self, first, end, *kind: original(self, first, end + 1, *kind))


def _count_rejections_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store one rejection too many."""
    original = Lease.commit

    def commit(self: Lease, record: Any) -> None:
        original(self, replace(record, rejected=record.rejected + 1) if record.rejected else record)

    monkeypatch.setattr(Lease, "commit", commit)


def _forget_an_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not store what was acknowledged out of order."""
    original = Lease.commit
    monkeypatch.setattr(Lease, "commit", lambda self, record: original(self, replace(record, ranges=())))


def _skip_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin to read one frame late, but not at the very first."""
    original = ShardReader.frames

    def frames(self: ShardReader, number: int) -> Any:
        found = original(self, number)
        if number > 0:
            next(found, None)
        yield from found

    monkeypatch.setattr(ShardReader, "frames", frames)


def _evict_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete closed segments from the wrong end."""
    original = SpaceLedger._oldest_closed
    monkeypatch.setattr(SpaceLedger, "_oldest_closed", lambda self: reversed(list(original(self))))


def _forget_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reserve without looking."""
    monkeypatch.setattr(SpaceLedger, "_read", lambda _ledger: 0)


def _swap_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store the last two entries of a batch in the wrong order."""
    original = Client.append

    def append(self: Client, stream: str, entries: Any) -> Any:
        turned = (
            [*entries[:-2], entries[-1], entries[-2]] if isinstance(entries, list) and len(entries) > 1 else entries
        )
        return original(self, stream, turned)

    monkeypatch.setattr(Client, "append", append)


def _free_locks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody in."""
    monkeypatch.setattr(Door, "try_lock", lambda _door, _fd: True)


BREAKAGES = [
    _acknowledge_too_much,
    _forget_an_acknowledgement,
    _skip_the_first_frame,
    _swap_entries,
    _free_locks_of_others,
]
RARE_BREAKAGES = [_count_rejections_twice, _evict_the_newest, _forget_the_bound]
"""Found only after dozens of runs."""


@pytest.mark.slow
@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__.strip("_"))
def test_a_broken_engine_is_noticed(monkeypatch, breakage) -> None:
    """Each of these breaks one promise."""
    breakage(monkeypatch)
    with pytest.raises(AssertionError):
        run_with_door(MachineDoor)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "deep", reason="takes minutes; make property runs it")
@pytest.mark.parametrize("breakage", RARE_BREAKAGES, ids=lambda breakage: breakage.__name__.strip("_"))
def test_a_rarely_broken_engine_is_noticed(monkeypatch, breakage) -> None:
    """Each of these needs more than a few runs."""
    breakage(monkeypatch)
    with pytest.raises(AssertionError):
        run_with_door(MachineDoor)
