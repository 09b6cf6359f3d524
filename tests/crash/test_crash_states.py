"""Does a log keep its promises whatever a process crash or a power cut leaves of it, at any moment?

Each test records what a workload does to the disk, call by call and store by store, and opens what crashes may leave of
that. A failure is printed with the name of its state; that one alone is tried again by

    COMET_CRASH_STATE="owned/0/184:mixture:48402140" make crash ARGS="-k repeated"
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crash_states.campaign import Campaign, StateName, Tally, record
from tests.support.crash_states.trace import (
    HARMLESS,
    RECORDED,
    Allocate,
    Event,
    Link,
    Mark,
    RecordingDoor,
    Rename,
    SyncData,
    SyncDirectory,
    Truncate,
    Unlink,
    Write,
    calls_of_the_door,
)
from tests.support.crash_states.workload import Setting
from tests.support.small_log import memory_directory

pytestmark = [pytest.mark.crash, pytest.mark.slow]

FULL = bool(os.environ.get("COMET_CRASH_FULL"))
REPEATED = os.environ.get("COMET_CRASH_STATE")
STATES_MIN = 20_000
"""Of the long form."""

EVERY, POWER = (3, 3) if FULL else (149, 1)
FIRST_CRASHES, EVERY_SECOND = (12, 13) if FULL else (2, 83)

SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("owned"),
        Setting("shared", shared=True),
        Setting("always", always=True),
        Setting("pwrite", pwrite=True),
        Setting("shared-always", shared=True, always=True),
        Setting("shared-pwrite", shared=True, pwrite=True),
        Setting("always-pwrite", always=True, pwrite=True),
        Setting("no-boot-id", knows_boot=False),
        Setting("evicting", evicting=True, entry_bytes=90),
        Setting("rotating", entry_bytes=90),
        Setting("failing", entry_bytes=90, failing=True),
        Setting("shared-failing", shared=True, entry_bytes=90, failing=True),
        Setting("growing", segment_bytes=192 * 1024, entry_bytes=3000),
        Setting("counting", segment_bytes=64 * 1024, counts=(1, 700, 1500), turns=8),
    )
}
TOTAL = Tally()
DONE: set[tuple[str, str]] = set()


@pytest.fixture
def base(tmp_path) -> Iterator[Path]:
    """In memory, where making a state takes little time."""
    yield from memory_directory(tmp_path)


def conclude(tally: Tally, kind: str, setting: Setting, capsys) -> None:
    """Count, print and judge."""
    TOTAL.add(tally)
    DONE.add((kind, setting.name))
    with capsys.disabled():
        print("\n" + tally.line(f"{kind}, {setting.name}"))
    assert tally.failures == [], "\n".join(tally.failures[:5])


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_log_keeps_its_promises_through_any_crash(base, setting, capsys) -> None:
    """Behind any change, a process crash leaves all, and half of the next store perhaps; a power cut much less."""
    tally = Tally()
    campaign = Campaign(base, setting, 0, record(base, setting, 0), tally)
    campaign.explore(every=EVERY, power=POWER, each_prefix=FULL)
    conclude(tally, "one crash", setting, capsys)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_log_keeps_its_promises_through_a_crash_after_a_crash(base, setting, capsys) -> None:
    """The second one comes while the log is recovered from the first, or soon after."""
    tally = Tally()
    campaign = Campaign(base, setting, 1, record(base, setting, 1), tally)
    campaign.explore_twice(FIRST_CRASHES, every=EVERY_SECOND, power=POWER)
    conclude(tally, "two crashes", setting, capsys)


def test_enough_states_were_tried(capsys) -> None:
    """The long form is long."""
    with capsys.disabled():
        print("\n" + TOTAL.line("crash states"))
    if FULL and len(DONE) == 2 * len(SETTINGS):
        assert sum(TOTAL.states.values()) >= STATES_MIN
    assert TOTAL.failures == []


@pytest.mark.skipif(REPEATED is None, reason="COMET_CRASH_STATE names no state")
def test_a_state_is_repeated(base) -> None:
    """The state that COMET_CRASH_STATE names is right."""
    name = StateName.parse(str(REPEATED))
    setting, tally = SETTINGS[name.setting], Tally()
    Campaign(base, setting, name.run, record(base, setting, name.run), tally).repeat(name.steps)
    assert sum(tally.states.values()) == 1, "there is no such state"
    assert tally.failures == [], tally.failures[0]


def test_a_state_is_the_same_each_time(base) -> None:
    """A run with the same seed does the same to the disk, but for the process's number in names."""
    setting = SETTINGS["rotating"]

    def sizes(trace: list[Event]) -> list[tuple[object, ...]]:
        return [
            (type(event), event.file, event.offset, len(event.data)) if isinstance(event, Write) else (type(event),)
            for event in trace
        ]

    first, second = (sizes(record(base, setting, 7)) for _ in range(2))
    assert first == second
    name = StateName("owned", 1, StateName.parse("owned/1/90:process crash:0/21:nothing:7").steps)
    assert StateName.parse(str(name)) == name


def test_every_call_of_the_door_is_recorded_or_changes_nothing() -> None:
    """A new way to change the disk has to be recorded before it is used."""
    assert set(calls_of_the_door()) == RECORDED | HARMLESS
    assert {name for name in RECORDED if name not in RecordingDoor.__dict__} == set()


def test_what_is_recorded_has_every_step_of_a_logs_life(base) -> None:
    """Rotation, sealing, flushing, group registration, commits, eviction, all kinds of stores."""
    trace = record(base, SETTINGS["evicting"], 0)
    kinds = {type(event) for event in trace}
    assert {Write, Truncate, Allocate, SyncData, SyncDirectory, Rename, Link, Unlink, Mark} <= kinds
    assert {event.mapped for event in trace if isinstance(event, Write)} == {True, False}
    renamed = [event for event in trace if isinstance(event, Rename) and event.target.endswith(".segment")]
    evicted = [event for event in trace if isinstance(event, Unlink) and "/pinned-" in event.path]
    assert len(renamed) > 3
    assert evicted
    stored = b"".join(event.data for event in trace if isinstance(event, Write))
    assert all(
        kind in stored for kind in (b"COMETSEG", b"COMETIDX", b"COMETEND", b"COMETPAG", b"DURA", b"IDNT", b"GRUP")
    )
    marks = {event.kind for event in trace if isinstance(event, Mark)}
    assert marks >= {"append", "appended", "register", "registered", "acknowledge", "acknowledged", "sync", "sync done"}


class ForgetfulDoor(RecordingDoor):
    """A disk that says that it did what it did not do."""

    forgets = ""

    def record(self, event: Event) -> None:
        """Note what happened, but for what is forgotten."""
        if self.forgets == "directories":
            forgotten = isinstance(event, SyncDirectory)
        elif self.forgets == "stores through maps":
            forgotten = isinstance(event, Write) and event.mapped and len(event.data) > 8
        else:
            forgotten = isinstance(event, SyncData) and self.forgets in self._name_of(event.file)
        if not forgotten:
            super().record(event)


@pytest.mark.parametrize(
    ("forgotten", "complaint", "every"),
    [
        ("directories", "missing|is gone|given out again", 7),
        ("/state", "given out again", 7),
        (".segment", "missing", 7),
        ("/group-watchers", "delivered again", 29),
        ("stores through maps", "missing|given out again", 7),
    ],
)
def test_a_disk_that_forgets_is_found_out(base, forgotten, complaint, every) -> None:
    """Where a sync, or a store, is not done, some state breaks a promise: the model can fail."""
    setting, tally = SETTINGS["rotating"], Tally()

    def make_door(directory: Path, setting: Setting, seed: int) -> RecordingDoor:
        door = ForgetfulDoor(directory, setting.boot, seed=seed)
        door.forgets = forgotten
        return door

    trace = record(base, setting, 0, make_door)
    Campaign(base, setting, 0, trace, tally).explore(every=every, until_failure=True)
    (failure,) = tally.failures
    assert any(text in failure for text in complaint.split("|")), failure
