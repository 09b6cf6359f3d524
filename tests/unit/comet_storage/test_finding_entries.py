"""A read at any entry costs what a read at the first costs, with and without an index, and however it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_storage import Client, Consumer
from comet_storage._os.door import Door
from comet_storage._segment.file import READ_BYTES, SegmentFile
from comet_storage._shard.layout import ShardLayout
from comet_storage._shard.reader import Gap, ShardReader

STREAM = "events:v1"
SHARD = "events:v1:shard:0000"
ENTRIES = 20_000


class CountingDoor(Door):
    """A door that counts the bytes of segments that are read."""

    total = 0

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Count and do it."""
        data = super().read(fd, size, offset)
        if Path(f"/proc/self/fd/{fd}").readlink().suffix == ".segment":
            self.total += len(data)
        return data


@pytest.mark.parametrize("per_call", [1, 7, 500])
def test_a_read_near_the_end_costs_little_more_than_one_at_the_start(per_call, tmp_path) -> None:
    """In the segment that is being written, which has no index (289 times more in the original)."""
    door = CountingDoor()
    costs = {}
    with Client(tmp_path / "log", _door=door) as client:
        for number in range(0, ENTRIES, per_call):
            client.append(SHARD, [b"%0115d" % (number + index) for index in range(per_call)])
        for number in (0, ENTRIES // 2, ENTRIES - 500):
            with Consumer(client, "readers", stream=STREAM) as consumer:
                consumer.reset_offset(0, number)
                before = door.total
                messages = consumer.read(count=500)
                costs[number] = door.total - before
                assert [int(message.data) for message in messages] == list(range(number, number + 500))
    assert max(costs.values()) <= costs[0] + 3 * READ_BYTES


def test_any_number_is_found_by_bisection_alone(tmp_path) -> None:
    """The frame that is found is at or before the number, and near it; damage on the way costs nothing but distance."""
    with Client(tmp_path / "log") as client:
        for number in range(5000):
            client.append(SHARD, [b"%d" % number * (1 + number % 50)])
    path = min((tmp_path / "log").rglob("*.segment"))
    segment = SegmentFile(Door(), str(path))
    end = segment.size()
    for number in range(0, 5000, 61):
        found = segment.find(number, 1024, end)
        offset, first = found or (1024, 0)
        assert first <= number
        frames = segment.walk(offset, end, first)
        assert any(frame.first_entry == number for frame, _ in zip(frames, range(4000), strict=False))
    segment.close()


def test_reading_on_does_not_list_the_directory(tmp_path) -> None:
    """Only at the end of a segment is it asked what comes next."""

    class ListingDoor(Door):
        listed = 0

        def list_directory(self, path: str) -> list[str]:
            self.listed += path.endswith("shard-0000")
            return super().list_directory(path)

    door = ListingDoor()
    with Client(tmp_path / "log", _door=door) as client:
        client.append(SHARD, [b"entry"] * 10)
        for _ in range(3000):
            client.append(SHARD, [b"entry"])
        with Consumer(client, "readers", stream=STREAM) as consumer:
            consumer.ack(*(message.id for message in consumer.read(count=5)))
            before = door.listed
            for count in (3, 40, 5, 1000, 1000):
                messages = consumer.read([0], count=count)
                assert len(messages) == count
                consumer.ack(*(message.id for message in messages))
            assert door.listed == before


def test_a_reader_that_goes_on_sees_what_one_that_starts_afresh_sees(tmp_path) -> None:
    """Whatever is appended between its reads, and wherever segments end."""
    with Client(tmp_path / "log") as client:
        layout = ShardLayout(Door(), str(tmp_path / "log/events/v1/shard-0000"))
        reader = ShardReader(Door(), layout, None)
        number, seen = 0, []
        for step in range(120):
            client.append(SHARD, [b"%d" % step] * (step % 3 + 1))
            if step % 40 == 39:
                client._writers[SHARD].rotate()
            for found in reader.runs(number, 5):
                assert not isinstance(found, Gap)
                assert found.first_entry <= number < found.end_entry
                number = found.end_entry
                seen.append(found)
                if step % 2:
                    break
        assert number == reader.next_number() == sum(step % 3 + 1 for step in range(120))
        reader.close()
