"""Opening what a crash left, and comparing it with what was promised."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from comet_storage import Accounting, Client, Consumer
from tests.support.crash_states.knowledge import Knowledge
from tests.support.crash_states.trace import ModelDoor
from tests.support.crash_states.workload import LOG, Setting, still_flusher
from tests.support.entries import make_entry
from tests.support.small_log import GROUP, SHARD, STREAM, crash, numbers_and_data

_FRESH_CHANCE = 1 << 32
"""No seed of a workload, so that nothing that is random comes out as before the crash."""
_RECOVERED = 2
"""Writer of the entries that are appended to what a crash left."""


@dataclass(frozen=True)
class Crash:
    """What happened.

    Attributes:
        power: unsynced changes may be lost.
        boot: the boot that the log is opened in.
        known_loss: the boot's id tells that unsynced changes may be lost, or none is. Where it does not (the volume
            went away and came back under a running system), what is left of the page is believed until the next claim,
            and numbers that were given out after the last sync may be given out again.
        dense: no number may be skipped.
    """

    power: bool
    boot: int
    known_loss: bool = True
    dense: bool = False


class CrashState:
    """A log as a crash left it, in ``directory``; every check raises AssertionError."""

    def __init__(
        self, directory: Path, files: dict[int, int], setting: Setting, crash: Crash, known: Knowledge, seed: int
    ) -> None:
        self._directory = directory
        self._files = files
        self._config = setting.config()
        self._crash = crash
        self._known = known
        self._chance = random.Random(seed)
        self._sequence = 0
        self._new: dict[int, bytes] = {}
        """What was appended after the crash."""

    def check(self) -> None:
        """Open it twice, and use it."""
        with still_flusher():
            if self._chance.random() < 0.2 and (self._directory / LOG).is_dir():
                self._check_read_only()
            client = self._open(self._crash.boot)
            served = self._served(client)
            self._check_nothing_false(served)
            if self._crash.known_loss:
                self._check_entries(served)
            self._check_append(client, served)
            self._check_entries(served)
            accounting = self._check_group(client, served)
            if self._chance.random() < 0.3:
                self._check_new_group(client, served)
            boot = self._crash.boot
            closed = self._chance.random() < 0.5
            if closed:
                client.close()
                boot += self._chance.randrange(2)
            else:
                crash(client)
            client = self._open(boot)
            assert self._served(client) == served, "the second open finds something else"
            if accounting is not None:
                assert client.accounting(STREAM, GROUP) == accounting, "the second open counts differently"
            self._check_append(client, served, dense=closed or boot > 0)
            client.close()

    def _open(self, boot: int) -> Client:
        door = ModelDoor(boot, self._files, seed=_FRESH_CHANCE + boot)
        client = Client(self._directory / LOG, self._config, _door=door)
        # What the ledger says may be too much; far enough for it to be measured anew.
        door.now += 60
        return client

    def _served(self, client: Client) -> dict[int, bytes]:
        return numbers_and_data(list(client.scan(SHARD)))

    def _check_read_only(self) -> None:
        door = ModelDoor(self._crash.boot, self._files)
        with Client(self._directory / LOG, self._config, read_only=True, _door=door) as client:
            served = self._served(client)
        self._check_nothing_false(served)
        if self._crash.known_loss:
            missing = self._promised() - set(served)
            assert not missing, f"a reader does not get {sorted(missing)}"

    def _promised(self) -> set[int]:
        known = self._known
        promised = known.durable if self._crash.power else known.appended
        return {number for number in promised if number >= known.evicted_below}

    def _check_nothing_false(self, served: dict[int, bytes]) -> None:
        begun = self._known.begun
        false = [number for number, data in served.items() if data not in {begun.get(number), self._new.get(number)}]
        assert not false, f"something false is served at {false}"

    def _check_entries(self, served: dict[int, bytes]) -> None:
        missing = self._promised() - set(served)
        assert not missing, f"promised entries are missing: {sorted(missing)}"
        for numbers in self._known.appends:
            found = [number for number in numbers if number in served and number not in self._new]
            assert not found or len(found) == len(numbers), f"of one append {numbers} only {found} are served"
        if self._crash.dense:
            assert list(served) == list(range(min(served, default=0), max(served, default=-1) + 1)), "there is a hole"

    def _check_append(self, client: Client, served: dict[int, bytes], *, dense: bool = False) -> None:
        entry = make_entry(_RECOVERED, self._sequence)
        self._sequence += 1
        (found,) = client.append(SHARD, [entry])
        number = found.entry_number
        self._new[number] = entry
        after = self._served(client)
        self._check_nothing_false(after)
        assert after.items() >= served.items(), "what was there is not there after an append"
        # The claim may have published what was stored and not yet published.
        last = max((found for found in after if found != number), default=-1)
        assert after.get(number) == entry, "what was appended is not there"
        assert number > last, f"{number} was given out again, {last} is served"
        if self._crash.known_loss:
            assert number >= self._known.given, f"{number} was given out again, {self._known.given} was the next"
        if dense or self._crash.dense:
            following = last + 1 if self._crash.power else max(last + 1, self._known.evicted_below)
            assert number == following, f"{number} comes behind {following}"
        served.update(after)

    def _check_group(self, client: Client, served: dict[int, bytes]) -> Accounting | None:
        known = self._known
        exists = GROUP in client.groups(STREAM)
        assert exists or not known.registered, "the group is gone"
        assert not exists or known.register_begun
        if not exists:
            return None
        kept = known.acknowledged_durable if self._crash.power else known.acknowledged
        before = client.accounting(STREAM, GROUP)
        _check_sum(before)
        delivered = self._consume(client, GROUP)
        assert delivered.items() <= served.items(), "the group gets something false"
        again = kept & set(delivered)
        assert not again, f"acknowledged entries are delivered again: {sorted(again)}"
        skipped = {number for number in served if number >= known.evicted_below}
        skipped -= set(delivered) | known.acknowledge_begun
        assert not skipped, f"entries are not delivered: {sorted(skipped)}"
        after = client.accounting(STREAM, GROUP)
        _check_sum(after)
        assert after.pending == 0, f"{after}"
        start = max(served) + 1 - after.total
        assert 0 <= start <= known.evicted_below, f"{after}, {max(served)} is the last number"
        least, most = len(set(delivered) | kept), len(set(delivered) | known.acknowledge_begun)
        assert least <= after.delivered <= most, f"{after}, but {least} to {most} were delivered"
        if not self._crash.power:
            assert after.corrupt == after.lost == 0 or not self._crash.dense, f"{after}"
        return after

    def _check_new_group(self, client: Client, served: dict[int, bytes]) -> None:
        assert self._consume(client, "new") == served, "a new group does not get all"
        accounting = client.accounting(STREAM, "new")
        _check_sum(accounting)
        assert accounting.pending == 0
        assert accounting.delivered == len(served), f"{accounting}, but {len(served)} are served"

    def _consume(self, client: Client, group: str) -> dict[int, bytes]:
        delivered: dict[int, bytes] = {}
        with Consumer(client, group, stream=STREAM) as consumer:
            while messages := consumer.read(count=1000):
                found = numbers_and_data(messages)
                assert not found.keys() & delivered.keys(), "acknowledged entries are delivered again at once"
                delivered.update(found)
                consumer.ack(*(message.id for message in messages))
        return delivered


def _check_sum(accounting: Accounting) -> None:
    """Every number is in exactly one class, and no class is negative."""
    classes = (
        accounting.delivered,
        accounting.rejected,
        accounting.skipped,
        accounting.evicted,
        accounting.corrupt,
        accounting.lost,
        accounting.pending,
    )
    assert sum(classes) == accounting.total, f"{accounting}"
    assert min(classes) >= 0, f"{accounting}"
