"""After a power cut, is everything that was synced there, nothing false, and no number given out twice?"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, ConcurrencyConfig, Consumer, StorageConfig
from tests.support.entries import make_entry
from tests.support.power_door import PowerDoor
from tests.support.small_log import (
    GROUP,
    SHARD,
    STREAM,
    BootedDoor,
    assert_conserved,
    copy_log,
    crash,
    expected_data,
    fill,
    memory_directory,
    numbers_and_data,
    open_small,
    overwrite,
    segment_paths,
    shard_directory,
)

SEEDS = 600 if os.environ.get("COMET_CRASH_FULL") else 24


@pytest.fixture
def tmp_path(tmp_path) -> Iterator[Path]:
    """In memory, where an inode number is not used again soon."""
    yield from memory_directory(tmp_path)


class Machine:
    """A log on a machine that loses its power again and again, and what is known of it."""

    def __init__(self, base: Path, chance: random.Random, *, shared: bool) -> None:
        self.base = base
        self.chance = chance
        self.shared = shared
        self.directory = base / "boot0"
        self.given: dict[int, bytes] = {}
        self.safe: set[int] = set()
        self.offset_at_least = 0
        self.sequence = 0

    def live(self, boot: int) -> None:
        """One boot: open, check, work, lose power."""
        door = PowerDoor(boot, self.directory)
        client = open_small(self.directory, door=door, shared=self.shared, segment_bytes=4096)
        consumer = Consumer(client, GROUP, stream=STREAM)
        self._append(client)
        self._check(client)
        for _ in range(self.chance.randrange(1, 6)):
            for _ in range(self.chance.randrange(1, 25)):
                self._append(client)
            action = self.chance.random()
            if action < 0.3:
                known = set(self.given)
                client.sync()
                self.safe |= known & set(numbers_and_data(list(client.scan(SHARD))))
            elif action < 0.5:
                messages = consumer.read(count=self.chance.randrange(1, 30))
                consumer.ack(*(message.id for message in messages))
                consumer.sync()
                self.offset_at_least = max([self.offset_at_least, *(m.id.entry_number + 1 for m in messages)])
            elif action < 0.6:
                client.close()
                self.safe |= set(self.given) & self._held(door)
                client = open_small(self.directory, door=door, shared=self.shared, segment_bytes=4096)
                consumer = Consumer(client, GROUP, stream=STREAM)
        target = self.base / f"boot{boot + 1}"
        door.cut_power(self.directory, target, self.chance)
        crash(client)
        shutil.rmtree(self.directory)
        self.directory = target

    def _held(self, door: PowerDoor) -> set[int]:
        with open_small(self.directory, door=door, shared=self.shared, segment_bytes=4096) as client:
            return set(numbers_and_data(list(client.scan(SHARD))))

    def _append(self, client) -> None:
        count = self.chance.randrange(1, 5)
        entries = [make_entry(1, self.sequence + index) for index in range(count)]
        self.sequence += count
        for found, entry in zip(client.append(SHARD, entries), entries, strict=True):
            assert found.entry_number not in self.given, f"{found.entry_number} was given out twice"
            self.given[found.entry_number] = entry

    def _check(self, client) -> None:
        found = numbers_and_data(list(client.scan(SHARD)))
        assert found == {number: self.given.get(number) for number in found}, "something false is served"
        assert self.safe <= set(found), f"synced entries are missing: {sorted(self.safe - set(found))}"
        with Consumer(client, "all", stream=STREAM) as everything:
            while messages := everything.read(count=1000):
                everything.ack(*(message.id for message in messages))
        accounting = client.accounting(STREAM, "all")
        assert_conserved(accounting)
        assert accounting.pending == 0
        assert accounting.delivered >= len(found)
        kept = client.accounting(STREAM, GROUP)
        assert_conserved(kept)
        assert kept.total - kept.pending >= self.offset_at_least
        assert kept.delivered <= self.offset_at_least or not self.given


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["owned", "shared"])
@pytest.mark.parametrize("part", range(4))
def test_what_was_synced_survives_whatever_else_the_disk_kept(tmp_path, mode, part) -> None:
    """Any mixture of old and new sectors of any file may be what is left; three cuts in a row."""
    for seed in range(part, SEEDS, 4):
        base = tmp_path / str(seed)
        machine = Machine(base, random.Random(seed), shared=mode == "shared")
        try:
            for boot in range(4):
                machine.live(boot)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        shutil.rmtree(base)


@pytest.mark.parametrize("left", ["nothing", "zeros", "half a sector of zeros", "some of it"])
def test_the_gap_that_a_power_cut_leaves_is_counted_as_lost(tmp_path, left) -> None:
    """What was appended after the last sync is gone; its numbers are not given out again, and are lost, not corrupt."""
    client = open_small(tmp_path / "before")
    total = fill(client, [1, 2, 3])
    client.sync()
    synced = copy_log(tmp_path / "before", tmp_path / "after")
    given_out = fill(client, [1] * 20, total)
    (segment,) = segment_paths(tmp_path / "before")
    now = segment.read_bytes()
    state = (shard_directory(tmp_path / "before") / "state").read_bytes()
    crash(client)
    (survivor,) = segment_paths(synced)
    end = len(survivor.read_bytes().rstrip(b"\0"))
    if left == "half a sector of zeros":
        overwrite(survivor, end // 512 * 512 + 512, now[end // 512 * 512 + 512 :])
        overwrite(shard_directory(synced) / "state", 0, state)
    elif left == "some of it":
        overwrite(survivor, 0, now[: end // 512 * 512 + 512])
    elif left == "zeros":
        overwrite(shard_directory(synced) / "state", 0, state)
    with open_small(synced, door=BootedDoor()) as opened:
        (appended,) = opened.append(SHARD, [b"new"])
        assert appended.entry_number >= given_out
        found = numbers_and_data(list(opened.scan(SHARD)))
        assert {number: found[number] for number in range(total)} == expected_data(total)
        with Consumer(opened, GROUP, stream=STREAM) as consumer:
            messages = consumer.read(count=1000)
            consumer.ack(*(message.id for message in messages))
        accounting = opened.accounting(STREAM, GROUP)
        assert_conserved(accounting)
        assert accounting.corrupt == 0
        assert accounting.lost == appended.entry_number + 1 - len(found)
        assert accounting.delivered == len(found)


def test_a_closed_log_loses_nothing_to_a_power_cut(tmp_path) -> None:
    """After a clean close the next boot goes on with the next number, without a gap."""
    with open_small(tmp_path) as client:
        total = fill(client, [1, 2, 3])
    with open_small(tmp_path, door=BootedDoor()) as client:
        assert fill(client, [1], total) == total + 1
        assert numbers_and_data(list(client.scan(SHARD))) == expected_data(total + 1)


def test_a_lost_segment_between_others_is_counted_as_lost(tmp_path) -> None:
    """The disk kept a later segment and not the one before it: that gap is the power cut's, too."""
    client = open_small(tmp_path, segment_bytes=4096)
    total = fill(client, [3] * 20)
    client.sync()
    fill(client, [3] * 120, total)
    crash(client)
    paths = segment_paths(tmp_path)
    lost = range(int(paths[-2].name[:20]), int(paths[-1].name[:20]))
    assert len(paths) > 3
    paths[-2].unlink()
    with open_small(tmp_path, door=BootedDoor(), segment_bytes=4096) as opened:
        opened.append(SHARD, [b"new"])
        with Consumer(opened, GROUP, stream=STREAM) as consumer:
            while messages := consumer.read(count=1000):
                consumer.ack(*(message.id for message in messages))
        accounting = opened.accounting(STREAM, GROUP)
        assert_conserved(accounting)
        assert accounting.corrupt == 0
        assert accounting.lost >= len(lost)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("part", range(4))
def test_with_durability_always_every_acknowledged_append_survives_a_power_cut(tmp_path, shared, part) -> None:
    """Also across rotations and with threads that share syncs, whatever the disk kept of the rest."""
    chance = random.Random(part)
    config = CometConfig(
        storage=StorageConfig(durability="always", sync_interval=300, max_file_size=128 * 1024),
        concurrency=ConcurrencyConfig(multi_process=shared),
    )
    source, target = tmp_path / "log", tmp_path / "after"
    source.mkdir(mode=0o700)
    door = PowerDoor(1, source)
    acknowledged: dict[int, bytes] = {}
    client = Client(source, config, _door=door)

    def append(index: int) -> None:
        payload = b"%d " % index * (1 + index * 37 % 400)
        acknowledged[client.append(SHARD, [payload])[0].entry_number] = payload

    for index in range(20):
        append(index)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(20, 300)))
    door.cut_power(source, target, chance)
    with Client(target, config, _door=PowerDoor(2, target)) as after:
        found = {message.id.entry_number: message.data for message in after.scan(SHARD)}
        assert found == acknowledged
        assert after.append(SHARD, [b"next"])[0].entry_number >= len(acknowledged)
    client.close()


class _SyncedOnlyDoor(PowerDoor):
    """Of a file nothing is left by a power cut but what was synced, and every name is."""

    def cut_power(self, directory: Path, target: Path, chance: random.Random) -> None:
        """Keep the names, and what is known to be on the disk."""
        for folder, _, names in os.walk(directory):
            copied = target / Path(folder).relative_to(directory)
            copied.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in names:
                (copied / name).write_bytes(self._contents.get(Path(folder, name).stat().st_ino, b""))
                (copied / name).chmod(0o600)


def test_a_loss_is_remembered_when_the_segment_that_tells_of_it_is_replaced(tmp_path) -> None:
    """An entry too large for it takes the place of an empty segment; the next power cut must not unmake the record."""
    chance = random.Random(0)
    boots = [tmp_path / f"boot{number}" for number in range(3)]
    door = _SyncedOnlyDoor(1, boots[0])
    client = open_small(boots[0], door=door, segment_bytes=4096)
    client.append(SHARD, [b"lost"])
    door.cut_power(boots[0], boots[1], chance)
    crash(client)
    door = _SyncedOnlyDoor(2, boots[1])
    with open_small(boots[1], door=door, segment_bytes=4096) as client:
        assert list(client.scan(SHARD)) == []
    client = open_small(boots[1], door=door, segment_bytes=4096)
    client.append(SHARD, [bytes(20_000)])
    door.cut_power(boots[1], boots[2], chance)
    crash(client)
    with open_small(boots[2], door=_SyncedOnlyDoor(3, boots[2]), segment_bytes=4096) as client:
        with Consumer(client, GROUP, stream=STREAM) as consumer:
            assert consumer.read() == []
        accounting = client.accounting(STREAM, GROUP)
        assert accounting.lost == accounting.total > 1
