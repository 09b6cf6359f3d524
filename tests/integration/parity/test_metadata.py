"""Whatever becomes of the files beside the segments, or of the directory's place, the entries and offsets stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from comet_storage import Client, Consumer
from tests.support.small_log import (
    GROUP,
    SHARD,
    STREAM,
    assert_conserved,
    copy_log,
    crash,
    expected_data,
    fill,
    numbers_and_data,
    open_small,
    read_all,
    shard_directory,
)

BATCHES = [1, 5, 40] * 10
SEGMENT_BYTES = 4096

DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "garbled": lambda path: path.write_bytes(b"\xa5" * path.stat().st_size),
}


def open_it(directory: Path) -> Client:
    """Open a log of several small segments."""
    return open_small(directory, segment_bytes=SEGMENT_BYTES)


def scanned(client: Client) -> dict[int, bytes]:
    """What the shard holds."""
    return numbers_and_data(list(client.scan(SHARD)))


@pytest.fixture
def log(tmp_path) -> Path:
    """A closed log of several segments."""
    with open_it(tmp_path / "log") as client:
        fill(client, BATCHES)
    return tmp_path / "log"


TOTAL = sum(BATCHES)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize(
    "name", ["small/v1/shard-0000/state", "small/v1/shard-0000/owner.lock", "log.json", "log.lock"]
)
def test_a_file_that_is_no_segment_can_be_lost_or_damaged(name, damage, log) -> None:
    """Everything is read, and numbers go on above all that were given out."""
    damage(log / name)
    with open_it(log) as client:
        assert scanned(client) == expected_data(TOTAL)
        (after,) = client.append(SHARD, [b"after"])
        assert after.entry_number >= TOTAL
        found = scanned(client)
        assert found.pop(after.entry_number) == b"after"
        assert found == expected_data(TOTAL)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_segments_that_follow_a_lost_page_are_numbered_on(damage, log) -> None:
    """No old segment is written into, however often the page is lost between rotations."""
    total, extra = TOTAL, {}
    for turn in range(4):
        damage(shard_directory(log) / "state")
        with open_it(log) as client:
            for index in range(60):
                data = b"%d/%d" % (turn, index) * 10
                (message_id,) = client.append(SHARD, [data])
                assert message_id.entry_number >= total
                total = message_id.entry_number + 1
                extra[message_id.entry_number] = data
    with open_it(log) as client:
        assert scanned(client) == expected_data(TOTAL) | extra


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_offsets_outlive_the_loss_of_everything_but_their_own_file(damage, log) -> None:
    """A group goes on where it was, whatever else of the shard was lost."""
    with open_it(log) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        consumer.ack(*(message.id for message in consumer.read(count=100)))
    for name in ("state", "owner.lock"):
        damage(shard_directory(log) / name)
    damage(log / "log.json")
    with open_it(log) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        assert consumer.read()[0].id.entry_number == 100
        assert consumer.lag(0) == TOTAL - 100


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_starts_its_group_anew_and_is_used_again(damage, log) -> None:
    """Nothing is skipped, and acknowledgements from then on are as durable as ever."""
    with open_it(log) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        consumer.ack(*(message.id for message in consumer.read(count=100)))
    damage(shard_directory(log) / f"group-{GROUP}")
    client = open_it(log)
    consumer = Consumer(client, GROUP, stream=STREAM)
    messages = consumer.read(count=30)
    first = messages[0].id.entry_number
    # Half a file may still have the newer one of the two slots.
    assert first == 0 or (first == 100 and damage is DAMAGES["short"])
    consumer.ack(*(message.id for message in messages))
    crash(client)
    with open_it(log) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        assert consumer.read()[0].id.entry_number == first + 30
        assert_conserved(client.accounting(STREAM, GROUP))


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_a_log_is_whole_wherever_its_directory_is(copied, log, tmp_path) -> None:
    """No path is stored: entries, offsets and numbers go on in another place."""
    with open_it(log) as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        consumer.ack(*(message.id for message in consumer.read(count=100)))
    elsewhere = tmp_path / "else" / "where"
    elsewhere.parent.mkdir()
    if copied:
        copy_log(log, elsewhere)
    shutil.rmtree(log) if copied else log.rename(elsewhere)
    with open_it(elsewhere) as client:
        assert scanned(client) == expected_data(TOTAL)
        (after,) = client.append(SHARD, [b"after"])
        assert after.entry_number == TOTAL
        assert client.len(SHARD) == TOTAL + 1
        with Consumer(client, GROUP, stream=STREAM) as consumer:
            assert consumer.read()[0].id.entry_number == 100
    assert not log.exists()


def test_a_reader_after_a_writers_crash_has_as_much_to_read_as_it_is_told(tmp_path) -> None:
    """A consumer in another process can read what its lag says, all of it."""
    client = open_it(tmp_path / "log")
    total = fill(client, BATCHES)
    crash(client)
    with open_it(tmp_path / "log") as client, Consumer(client, GROUP, stream=STREAM) as consumer:
        assert consumer.lag(0) == total
        assert len(consumer.read(count=10_000)) == total
    with open_it(tmp_path / "log") as client:
        assert read_all(client) == expected_data(total)
