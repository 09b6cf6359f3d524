"""Every crash that a recorded run may meet, checked; with seeds from which each can be repeated."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.support.crash_states.disk import Disk, Image, Survival
from tests.support.crash_states.knowledge import Knowledge
from tests.support.crash_states.trace import Event, Mark, RecordingDoor, Write, halves
from tests.support.crash_states.verdict import Crash, CrashState
from tests.support.crash_states.workload import Setting, Workload

_SECOND_CHANCE = 1 << 33
"""Seeds of what goes on after a crash start here."""

POWER_KINDS = ("nothing", "everything", "names", "contents", "ordered")
"""Besides these, any mixture."""


class Step(NamedTuple):
    """A crash in a trace."""

    event: int
    """Index of the last change in the trace that was made."""
    kind: str
    seed: int


class StateName(NamedTuple):
    """Enough to make a crash state again."""

    setting: str
    run: int
    """Seed of the workload."""
    steps: tuple[Step, ...]
    """One crash, or one and another in what was done after it."""

    def __str__(self) -> str:
        return "/".join(
            [self.setting, str(self.run), *(f"{step.event}:{step.kind}:{step.seed}" for step in self.steps)]
        )

    @classmethod
    def parse(cls, text: str) -> StateName:
        """The opposite of ``str``."""
        setting, run, *steps = text.split("/")
        parts = [step.split(":") for step in steps]
        return cls(setting, int(run), tuple(Step(int(event), kind, int(seed)) for event, kind, seed in parts))


@dataclass
class Tally:
    """What a campaign tried."""

    states: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count what another campaign tried."""
        self.states += other.states
        self.changes += other.changes
        self.failures += other.failures

    def line(self, name: str) -> str:
        """The summary."""
        total, process = sum(self.states.values()), self.states["process crash"]
        return (
            f"{name}: states {total} (process crashes {process}, power cuts {total - process}), "
            f"failures {len(self.failures)}"
        )


DoorFactory = Callable[[Path, Setting, int], RecordingDoor]


def plain_door(directory: Path, setting: Setting, seed: int) -> RecordingDoor:
    """A door that records what is done."""
    return RecordingDoor(directory, setting.boot, seed=seed)


def record(base: Path, setting: Setting, run: int, make_door: DoorFactory = plain_door) -> list[Event]:
    """The trace of one run."""
    directory = base / f"{setting.name}-{run}"
    directory.mkdir(mode=0o700)
    door = make_door(directory, setting, run)
    Workload(directory, setting, door, run).run()
    shutil.rmtree(directory)
    return door.trace


class Campaign:
    """The crash states of one trace.

    Args:
        base: an empty directory to build them in.
        setting: how the log was used.
        run: the seed of that.
        trace: what was recorded.
        tally: what is counted.
        boot: where that was; by default the setting's.
        before: the crash behind which the trace begins, with the disk and the knowledge of then.
    """

    def __init__(
        self,
        base: Path,
        setting: Setting,
        run: int,
        trace: list[Event],
        tally: Tally,
        *,
        boot: int | None = None,
        before: tuple[Step, Disk, Knowledge] | None = None,
    ) -> None:
        self._base = base
        self._setting = setting
        self._run = run
        self._trace = trace
        self._tally = tally
        self._boot = setting.boot if boot is None else boot
        self._before = before

    def explore(
        self, *, every: int = 1, start: int = 0, power: int = 3, each_prefix: bool = False, until_failure: bool = False
    ) -> None:
        """Check the crashes behind every ``every``-th change, with ``power`` mixtures of what a power cut may leave.

        With ``each_prefix``, the process crash behind each change; with ``until_failure``, no more than one failure.
        """
        for event, disk, known in self._moments():
            crashes: Iterable[tuple[str, int]] = [("process crash", 0)] if each_prefix else []
            if event % every == start % every:
                crashes = self._crashes(event, disk, power)
            for kind, seed in crashes:
                if until_failure and self._tally.failures:
                    return
                self._try(Step(event, kind, seed), disk, known)

    def explore_twice(self, crashes: int, *, every: int = 1, power: int = 1) -> None:
        """Go on behind some crashes, and check what a second one leaves."""
        chance = random.Random(f"{self._setting.name} {self._run} twice")
        changes = [index for index, event in enumerate(self._trace) if not isinstance(event, Mark)]
        # Most changes are stores; the others are where steps begin and end.
        steps = [index for index in changes if not isinstance(self._trace[index], Write)]
        half = crashes // 2
        chosen = {
            *chance.sample(steps, min(half, len(steps))),
            *chance.sample(changes, min(crashes - half, len(changes))),
        }
        for event, disk, known in self._moments():
            if event in chosen:
                kind = chance.choice(("process crash", "everything", "nothing", "ordered", "mixture"))
                step = Step(event, kind, 0 if kind == "process crash" else chance.randrange(1 << 30))
                self._second(step, disk, known).explore(every=every, start=event, power=power)

    def repeat(self, steps: tuple[Step, ...]) -> None:
        """Check one state."""
        for event, disk, known in self._moments():
            if event == steps[0].event:
                if len(steps) > 1:
                    self._second(steps[0], disk, known).repeat(steps[1:])
                else:
                    self._try(steps[0], disk, known)

    def _second(self, step: Step, disk: Disk, known: Knowledge) -> Campaign:
        """What may happen after a crash in this trace."""
        known = deepcopy(known)
        boot = self._boot
        power = step.kind != "process crash"
        if power:
            image = disk.after_power_cut(disk.survivals(random.Random(step.seed), step.kind))
            disk = Disk(image)
            known.cut_power()
            boot += self._setting.knows_boot
        else:
            image = disk.after_process_crash()
        directory = self._base / "second"
        files = image.build(directory)
        door = RecordingDoor(directory, boot, files, seed=_SECOND_CHANCE + step.event)
        try:
            Workload(directory, self._setting, door, self._run).run_on(2, after_power_cut=power)
        finally:
            shutil.rmtree(directory)
        before = (step, disk, known)
        return Campaign(self._base, self._setting, self._run, door.trace, self._tally, boot=boot, before=before)

    def _moments(self) -> Iterator[tuple[int, Disk, Knowledge]]:
        """The moments behind each change, and behind what was promised before the next one."""
        disk, known = Disk(), Knowledge(durable_at_once=self._setting.always)
        if self._before is not None:
            disk, known = deepcopy(self._before[1]), deepcopy(self._before[2])
        latest = -1
        for index, event in enumerate(self._trace):
            if isinstance(event, Mark):
                known.mark(event)
                continue
            if latest >= 0:
                yield latest, disk, known
            self._tally.changes[type(event).__name__] += 1
            disk.apply(event)
            known.change(event, disk)
            latest = index
        yield latest, disk, known

    def _crashes(self, event: int, disk: Disk, power: int) -> Iterator[tuple[str, int]]:
        yield "process crash", 0
        for half in range(len(self._halves(event))):
            yield "process crash", half + 1
        if disk.unsynced():
            chance = random.Random(f"{self._setting.name} {self._run} {event}")
            for kind in POWER_KINDS:
                yield kind, chance.randrange(1 << 30)
            for _ in range(power):
                yield "mixture", chance.randrange(1 << 30)

    def _halves(self, event: int) -> list[Write]:
        following = next((later for later in self._trace[event + 1 :] if not isinstance(later, Mark)), None)
        return halves(following) if isinstance(following, Write) else []

    def _try(self, step: Step, disk: Disk, known: Knowledge) -> None:
        self._tally.states[step.kind] += 1
        steps = (step,) if self._before is None else (self._before[0], step)
        name = StateName(self._setting.name, self._run, steps)
        if step.kind == "process crash":
            torn = self._halves(step.event)[step.seed - 1] if step.seed else None
            problem = self._problem(disk.after_process_crash(torn), self._process_crash(), known, step.seed)
            if problem is not None:
                self._tally.failures.append(f"{name}: {problem}")
            return
        chance = random.Random(step.seed)
        survival = disk.survivals(chance, step.kind)
        crash = self._power_cut(chance)
        problem = self._problem(disk.after_power_cut(survival), crash, known, step.seed)
        if problem is not None:
            survival, problem = self._minimised(disk, survival, crash, known, step.seed, problem)
            self._tally.failures.append(f"{name}: {problem}\n {crash}\n  {disk.describe(survival)}")

    def _process_crash(self) -> Crash:
        """In the same boot, in which nothing is lost; a power cut before it may have left a hole."""
        once = self._before is None or self._before[0].kind == "process crash"
        return Crash(power=False, boot=self._boot, dense=self._setting.knows_boot and once)

    def _power_cut(self, chance: random.Random) -> Crash:
        """Mostly into another boot. Where the volume alone was lost and came back, what was published is believed."""
        if not self._setting.knows_boot:
            return Crash(power=True, boot=0)
        if chance.random() < 0.8:
            return Crash(power=True, boot=self._boot + 1)
        return Crash(power=True, boot=self._boot, known_loss=False)

    def _minimised(
        self, disk: Disk, survival: Survival, crash: Crash, known: Knowledge, seed: int, problem: str
    ) -> tuple[Survival, str]:
        """The same failure, or another, with as little as possible in doubt."""
        while True:
            for simpler in disk.simpler(survival):
                found = self._problem(disk.after_power_cut(simpler), crash, known, seed)
                if found is not None:
                    survival, problem = simpler, found
                    break
            else:
                return survival, problem

    def _problem(self, image: Image, crash: Crash, known: Knowledge, seed: int) -> str | None:
        """What is wrong with a state, None if nothing is."""
        directory = self._base / "state"
        files = image.build(directory)
        try:
            CrashState(directory, files, self._setting, crash, known, seed).check()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            shutil.rmtree(directory)
        return None
