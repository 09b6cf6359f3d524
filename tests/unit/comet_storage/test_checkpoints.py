"""When acknowledgements become safe from power cuts."""

from __future__ import annotations

import pytest

from comet_storage import Client, CometConfig, Consumer, StorageConfig
from comet_storage._groups.lease import Lease
from tests.support.engine import ManualDoor

SHARD = "events:v1:shard:0000"


@pytest.mark.parametrize(("checkpoint", "rounds"), [(0, [0, 1, 2, 3, 4]), (2.0, [0, 2, 4]), (4.0, [0, 4])])
def test_the_flusher_syncs_acknowledgements_every_checkpoint_time(checkpoint, rounds, tmp_path, monkeypatch) -> None:
    """Appended data every round, acknowledgements in those rounds that are due."""
    door = ManualDoor()
    config = CometConfig(storage=StorageConfig(checkpoint_time=checkpoint, sync_interval=300))
    with Client(tmp_path / "log", config, _door=door) as client:
        client.append(SHARD, [b"x"])
        with Consumer(client, "group", stream="events:v1") as consumer:
            consumer.ack(*(message.id for message in consumer.read()))
            synced: list[float] = []
            start = door.now
            with monkeypatch.context() as patch:
                patch.setattr(Lease, "sync", lambda _: synced.append(door.now - start))
                for _ in range(5):
                    client._flush()
                    door.now += 1.0
    assert synced == rounds
