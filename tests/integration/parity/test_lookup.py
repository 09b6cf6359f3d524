"""Finding an entry costs a little, and the same, wherever it is."""

from __future__ import annotations

import pytest

from comet_storage import Client, CometConfig, Consumer, IndexingConfig
from tests.support.small_log import QuickDoor

SHARD = "events:v1:shard:0000"
ENTRIES = 60_000
MIB = 1 << 20
BATCH = 10


class CountingDoor(QuickDoor):
    """Counts the bytes that are read."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Read, and count."""
        data = super().read(fd, size, offset)
        self.read_bytes += len(data)
        return data


def read_at(consumer: Consumer, door: CountingDoor, number: int) -> int:
    """Bytes that are read to get ten entries from a number on."""
    consumer.reset_offset(0, number)
    before = door.read_bytes
    messages = consumer.read(count=10)
    assert messages[0].id.entry_number == number
    return door.read_bytes - before


@pytest.mark.slow
@pytest.mark.parametrize("indexing", [IndexingConfig(), IndexingConfig(boundary_interval=10_000, max_index_entries=10)])
def test_a_read_costs_the_same_at_the_end_as_at_the_start(indexing, tmp_path) -> None:
    """Not a scan from the start of the segment; also with an index of ten nodes, the next one is near."""
    door = CountingDoor()
    with Client(tmp_path / "log", CometConfig(indexing=indexing), _door=door) as client:
        for number in range(0, ENTRIES, BATCH):
            client.append(SHARD, [b"%d" % (number + index) + b"-" * 110 for index in range(BATCH)])
        stored = ENTRIES * 115
        with Consumer(client, "group", stream="events:v1") as consumer:
            while messages := consumer.read(count=1000):
                consumer.ack(*(message.id for message in messages))
            bound = MIB + (stored // 4 if indexing.max_index_entries == 10 else 0)
            for number in (0, ENTRIES // 3, ENTRIES - 1000, 77, ENTRIES // 2):
                assert read_at(consumer, door, number) <= bound
