"""Does whoever relies on what a dead process left first see to it that it is on the disk?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, ConcurrencyConfig, Consumer, StorageConfig
from comet_storage.errors import StorageIOError
from tests.support.crash_states.trace import MakeDirectory, ModelDoor, RecordingDoor, SyncData, SyncDirectory, Write
from tests.support.small_log import (
    GROUP,
    SHARD,
    STREAM,
    crash,
    memory_directory,
    numbers_and_data,
    open_small,
    overwrite,
    shard_directory,
)


@pytest.fixture
def base(tmp_path) -> Iterator[Path]:
    """In memory, where an inode number is not used again soon."""
    yield from memory_directory(tmp_path)


class Predecessor(ModelDoor):
    """The door of a process that dies before, or right behind, what ``dies_at`` says; of others, what it synced."""

    def __init__(self, dies_at: str = "nothing", boot: int = 1) -> None:
        super().__init__(boot)
        self.dies_at = dies_at
        self.synced: list[str] = []

    def sync_directory(self, path: str) -> None:
        """Die here, perhaps."""
        if path.endswith(self.dies_at):
            raise OSError(5, "died")
        self.synced.append(path)

    def sync_data(self, fd: int) -> None:
        """Die here, perhaps."""
        if Path(f"/proc/self/fd/{fd}").readlink().name == self.dies_at:
            raise OSError(5, "died")

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write, and die behind it, perhaps."""
        super().write(fd, data, offset)
        if self.dies_at == "identity" and data.startswith(b"IDNT"):
            raise OSError(5, "died")


def successor(directory: Path) -> RecordingDoor:
    """A door that records, over what is there."""
    same = ModelDoor(1)
    files = {path.stat().st_ino: same.status(str(path)).inode for path in directory.rglob("*") if path.is_file()}
    return RecordingDoor(directory.parent, 1, files)


def synced_directories(door: RecordingDoor) -> list[str]:
    """Those that were synced so far."""
    return [event.path for event in door.trace if isinstance(event, SyncDirectory)]


def always(*, shared: bool = False) -> CometConfig:
    """Appends are durable when they return."""
    storage = StorageConfig(max_file_size=4096, durability="always", sync_interval=300, write_method="mmap")
    return CometConfig(storage=storage, concurrency=ConcurrencyConfig(multi_process=shared))


def test_the_directories_of_a_shard_that_was_never_flushed_are_synced_again(base) -> None:
    """Its maker may have died between making and syncing them; then the log's own name and all below is unsynced."""
    client = open_small(base / "log", door=Predecessor("small"))
    with pytest.raises(StorageIOError):
        client.append(SHARD, [b"never stored"])
    crash(client)
    door = successor(base / "log")
    client = open_small(base / "log", door=door)
    client.append(SHARD, [b"first"])
    assert not [event for event in door.trace if isinstance(event, MakeDirectory)]
    assert {".", "log", "log/small", "log/small/v1", "log/small/v1/shard-0000"} <= set(synced_directories(door))
    client.sync()
    crash(client)
    door = successor(base / "log")
    client = open_small(base / "log", door=door)
    client.append(SHARD, [b"second"])
    assert synced_directories(door) == []
    crash(client)


def test_a_group_that_somebody_else_registered_is_durable_too(base) -> None:
    """A group exists when its consumer does, also after a power cut."""
    client = open_small(base / "log", door=Predecessor("v1"))
    with pytest.raises(StorageIOError):
        client.register_group(STREAM, GROUP)
    assert client.groups(STREAM) == [GROUP]
    crash(client)
    door = successor(base / "log")
    with open_small(base / "log", door=door) as client:
        client.register_group(STREAM, GROUP)
        assert {".", "log", "log/small", "log/small/v1"} <= set(synced_directories(door))


def test_the_name_of_a_record_is_durable_with_the_first_sync_of_each_lease(base) -> None:
    """Whoever made the record may have died before its name was on the disk."""
    client = open_small(base / "log", door=Predecessor())
    client.append(SHARD, [b"one", b"two"])
    client.sync()
    Consumer(client, GROUP, stream=STREAM).read()
    crash(client)
    door = successor(base / "log")
    with open_small(base / "log", door=door) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        door.trace.clear()
        consumer.ack(consumer.read(count=1)[0].id)
        consumer.sync()
        assert synced_directories(door) == ["log/small/v1/shard-0000"]
        consumer.ack(consumer.read(count=1)[0].id)
        consumer.sync()
        assert synced_directories(door) == ["log/small/v1/shard-0000"]


def test_a_ceiling_that_was_stored_and_not_synced_is_synced_before_numbers_below_it_are_given_out(base) -> None:
    """The page shows a higher ceiling than the disk has when its writer died in between."""
    predecessor = Predecessor()
    client = open_small(base / "log", door=predecessor)
    client.append(SHARD, [b"first"])
    client.sync()
    predecessor.dies_at = "state"
    with pytest.raises(StorageIOError):
        client.append(SHARD, [b""] * 5000)
    crash(client)
    door = successor(base / "log")
    client = open_small(base / "log", door=door)
    client.append(SHARD, [b"second"])
    page = next(event.file for event in door.trace if isinstance(event, Write) and event.data.startswith(b"IDNT"))
    assert SyncData(page) in door.trace
    crash(client)


def test_words_of_another_boot_are_not_believed_when_a_claim_dies(base) -> None:
    """A power cut left an old page, and the first claim after it died: nobody takes that page for one of this boot."""
    directory = base / "log"
    client = Client(directory, always(), _door=Predecessor())
    client.append(SHARD, [b"one"])
    old = (shard_directory(directory) / "state").read_bytes()
    client.append(SHARD, [b"two"])
    crash(client)
    overwrite(shard_directory(directory) / "state", 0, old)

    client = Client(directory, always(), _door=Predecessor("identity", boot=2))
    with pytest.raises(StorageIOError):
        client.append(SHARD, [b"never stored"])
    crash(client)
    with Client(directory, always(), _door=ModelDoor(2)) as client:
        assert numbers_and_data(list(client.scan(SHARD))) == {0: b"one", 1: b"two"}


def test_a_segment_that_another_process_began_is_durable_before_an_append_to_it_returns(base) -> None:
    """With durability "always" and a shared shard: whoever rotated may have died before the name was synced."""
    directory = base / "log"
    survivor_door = Predecessor()
    survivor = Client(directory, always(shared=True), _door=survivor_door)
    survivor.append(SHARD, [b"first"])

    door = Predecessor()
    other = Client(directory, always(shared=True), _door=door)
    other.append(SHARD, [b"second"])
    door.dies_at = "shard-0000"
    with pytest.raises(StorageIOError):
        other.append(SHARD, [bytes(3500)])
    crash(other)
    assert len(list(shard_directory(directory).glob("*.segment"))) == 2
    survivor_door.synced.clear()
    survivor.append(SHARD, [b"third"])
    assert survivor_door.synced == [str(shard_directory(directory))]
    crash(survivor)
