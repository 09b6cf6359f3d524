"""Groups whose lag retention need not spare: they stand in nobody's way, and what they lose is counted."""

from __future__ import annotations

import pytest

from comet_storage import Client, CometConfig, Consumer, InvalidStreamName, LogFullError, RetentionConfig, StorageConfig
from comet_storage.config import SMALL_FILES_BYTES
from tests.support.engine import ManualDoor

STREAM = "events:v1"
SHARD = f"{STREAM}:shard:0000"
HOUR = 3600.0
SEGMENT = 4096
ENTRY = bytes(3000)


def open_log(directory, door, **retention) -> Client:
    """Open a log of small segments."""
    return Client(
        directory / "log",
        CometConfig(
            storage=StorageConfig(max_file_size=SEGMENT, sync_interval=300),
            retention=RetentionConfig(**{"max_total_size": 1 << 22, "min_files_to_keep": 1, **retention}),
        ),
        _door=door,
    )


def fill(client, door, count) -> None:
    """Append an entry per segment, an hour apart."""
    for _ in range(count):
        client.append(SHARD, [ENTRY])
        door.now += HOUR
        door.wall_ns += int(HOUR * 1e9)


def first_held(client) -> int:
    """Return the number of the oldest entry held."""
    return next(client.scan(SHARD)).id.entry_number


def test_an_unprotected_group_does_not_keep_old_data(tmp_path) -> None:
    """It loses what age condemns, counted; with its protection back it keeps what is left."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=5 * HOUR) as client:
        client.register_group(STREAM, "dead")
        fill(client, door, 20)
        client.force_retention_cleanup()
        assert first_held(client) == 0
        client.protect_group(STREAM, "dead", protect=False)
        assert not client.is_group_protected(STREAM, "dead")
        client.force_retention_cleanup()
        gone = first_held(client)
        assert gone > 10
        client.protect_group(STREAM, "dead", protect=True)
        assert client.is_group_protected(STREAM, "dead")
        fill(client, door, 20)
        client.force_retention_cleanup()
        assert first_held(client) == gone
        found = client.accounting(STREAM, "dead")
        assert (found.total, found.evicted, found.pending) == (40, gone, 40 - gone)


def test_what_another_group_has_still_to_get_stays(tmp_path) -> None:
    """An unprotected group gives up its own claim and nobody else's."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_age=5 * HOUR) as client:
        client.register_group(STREAM, "dead")
        with Consumer(client, "alive", stream=STREAM) as alive:
            fill(client, door, 20)
            alive.ack(*(message.id for message in alive.read(count=4)))
            client.protect_group(STREAM, "dead", protect=False)
            client.force_retention_cleanup()
            assert first_held(client) == 4
            assert client.accounting(STREAM, "alive").evicted == 0
            assert client.accounting(STREAM, "dead").evicted == 4


@pytest.mark.parametrize("others", [True, False])
def test_with_reject_new_an_unprotected_group_makes_room(tmp_path, others) -> None:
    """Appends go on at the cost of that group, also when no group protects anything."""
    door = ManualDoor()
    with open_log(tmp_path, door, max_total_size=SMALL_FILES_BYTES + 20 * SEGMENT, when_full="reject_new") as client:
        client.register_group(STREAM, "dead")
        alive = Consumer(client, "alive", stream=STREAM) if others else None
        with pytest.raises(LogFullError):
            fill(client, door, 200)
        if alive is not None:
            alive.ack(*(message.id for message in alive.read(count=1000)))
        with pytest.raises(LogFullError):
            fill(client, door, 1)
        client.protect_group(STREAM, "dead", protect=False)
        fill(client, door, 5)
        assert client.accounting(STREAM, "dead").evicted > 0
        if alive is not None:
            assert client.accounting(STREAM, "alive").evicted == 0
            alive.close()


def test_a_group_that_is_made_anew_is_protected(tmp_path) -> None:
    """The mark goes with the group; what does not exist cannot be marked, nor can a wrong name."""
    with open_log(tmp_path, ManualDoor()) as client:
        client.append(SHARD, [ENTRY])
        client.protect_group(STREAM, "nobody", protect=False)
        client.register_group(STREAM, "nobody")
        assert client.is_group_protected(STREAM, "nobody")
        client.protect_group(STREAM, "nobody", protect=False)
        client.delete_group(STREAM, "nobody")
        assert client.groups(STREAM) == []
        client.register_group(STREAM, "nobody")
        assert client.is_group_protected(STREAM, "nobody")
        with pytest.raises(InvalidStreamName):
            client.protect_group(STREAM, "../x", protect=False)
