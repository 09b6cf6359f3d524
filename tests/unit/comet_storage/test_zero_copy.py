"""Do messages read without copying stay what they were, and is what they keep counted and limited?"""

from __future__ import annotations

import errno
import gc
import os
import threading
from pathlib import Path

import pytest

from comet_storage import (
    Client,
    CometConfig,
    CompressionConfig,
    Consumer,
    RetentionConfig,
    StorageConfig,
    StreamMessage,
)
from comet_storage._format.limits import PAGE_BYTES
from comet_storage._os.door import MappedFile
from tests.support.small_log import (
    GROUP,
    QUICK,
    SHARD,
    STREAM,
    QuickDoor,
    crash,
    flip,
    known_frames,
    overwrite,
    segment_paths,
)

SEGMENT_BYTES = 64 * 1024
BOUND = 3 * SEGMENT_BYTES + 256 * 1024


def config(*, codec: str = "none", pinned: int = 1 << 20, write_method: str = "auto") -> CometConfig:
    """A small log; nothing is compressed unless asked for."""
    return CometConfig(
        compression=CompressionConfig(codec=codec),
        storage=StorageConfig(
            max_file_size=SEGMENT_BYTES, sync_interval=300, max_pinned_bytes=pinned, write_method=write_method
        ),
        retention=RetentionConfig(max_total_size=BOUND),
    )


def open_log(directory: Path, **settings: object) -> Client:
    """Open a log with these settings."""
    return Client(directory, config(**settings), _door=QUICK)  # type: ignore[arg-type]  # handed on


def entry(number: int, size: int = 10_000) -> bytes:
    """Entry ``number``, which compresses."""
    return (b"entry %d, " % number * size)[:size]


def views(messages: list[StreamMessage]) -> list[memoryview]:
    """The data of messages that are views."""
    found = []
    for message in messages:
        data: object = message.data
        assert isinstance(data, memoryview)
        assert data.readonly
        found.append(data)
    return found


def kinds(messages: list[StreamMessage]) -> set[type]:
    """What the views are views of."""
    return {type(view.obj) for view in views(messages)}


def read(client: Client, count: int = 1000) -> list[StreamMessage]:
    """Everything that is held, as views; the consumer is closed then."""
    with Consumer(client, GROUP, stream=STREAM) as consumer:
        return consumer.read(count=count, copy=False)


def evict_all(client: Client) -> None:
    """Append until everything that was there is evicted."""
    last = segment_paths(Path(client.data_dir))[-1]
    while last.exists():
        client.append(SHARD, [os.urandom(30_000)])
        client._flush()


@pytest.mark.parametrize("write_method", ["mmap", "pwrite"])
def test_views_are_the_map_and_hold_what_was_appended(write_method, tmp_path) -> None:
    """Single entries and batches, small and large, in the active segment and in closed ones."""
    batches = [[b"single"], [b"", b"two", b"three" * 100], [entry(1)], [entry(2), entry(3)], [b""]] * 8
    with open_log(tmp_path / "log", write_method=write_method) as client:
        for batch in batches:
            client.append(SHARD, batch)
        messages = read(client)
        assert [view.tobytes() for view in views(messages)] == [each for batch in batches for each in batch]
        assert all(issubclass(kind, MappedFile) for kind in kinds(messages))
        with Consumer(client, GROUP, stream=STREAM) as consumer:
            copies = consumer.read(count=1000)
        assert [(m.id, m.timestamp, memoryview(m.data)) for m in messages] == [
            (m.id, m.timestamp, memoryview(m.data)) for m in copies
        ]
        assert client.pinned_bytes() == sum(path.stat().st_size for path in segment_paths(tmp_path / "log"))
        del messages
        assert client.pinned_bytes() == 0


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_views_outlive_rotation_eviction_consumer_client_and_files(codec, tmp_path) -> None:
    """What is held is what was read, also when nothing of it is left on the disk by name."""
    with open_log(tmp_path / "log", codec=codec) as client:
        for number in range(10):
            client.append(SHARD, [entry(number), b"%d" % number])
        messages = read(client)
        assert kinds(messages) != {bytes}
        evict_all(client)
        assert next(client.scan(SHARD)).id.entry_number > messages[-1].id.entry_number
    gc.collect()
    held = [view.tobytes() for view in views(messages)]
    assert held == [each for number in range(10) for each in (entry(number), b"%d" % number)]


def test_views_of_a_segment_that_goes_on_growing_stay(tmp_path) -> None:
    """Data held while the segment grows, is closed with its client, reopened and written to again is not touched."""
    held: list[memoryview] = []
    for round_ in range(4):
        client = open_log(tmp_path / "log")
        for number in range(round_ * 5, round_ * 5 + 5):
            client.append(SHARD, [entry(number, 1000)])
            with Consumer(client, GROUP, stream=STREAM) as consumer:
                messages = consumer.read(copy=False)
                held += views(messages)
                consumer.ack(*(message.id for message in messages))
        crash(client) if round_ % 2 else client.close()
    assert [view.tobytes() for view in held] == [entry(number, 1000) for number in range(20)]
    assert len(segment_paths(tmp_path / "log")) == 1


def test_evicted_segments_that_views_keep_are_counted_until_the_last_view_is_gone(tmp_path) -> None:
    """The disk space outside of the bound is shown, and comes back by itself."""
    with open_log(tmp_path / "log") as client:
        client.append(SHARD, [entry(0), entry(1)])
        messages = read(client)
        assert client.unlinked_pinned_bytes() == 0
        assert client.pinned_bytes() > 0
        evict_all(client)
        assert client.unlinked_pinned_bytes() == client.pinned_bytes() > 0
        part = views(messages)[1][100:200]
        del messages
        assert client.unlinked_pinned_bytes() == client.pinned_bytes() > 0
        assert part.tobytes() == entry(1)[100:200]
        del part
        assert client.unlinked_pinned_bytes() == client.pinned_bytes() == 0


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_beyond_the_limit_views_are_of_copies(codec, tmp_path) -> None:
    """Never more than `max_pinned_bytes` is kept; what is over is copied and as right."""
    limit = 2 * SEGMENT_BYTES
    with open_log(tmp_path / "log", codec=codec, pinned=limit) as client:
        for number in range(15):
            client.append(SHARD, [entry(number), b"end"])
        messages = read(client)
        assert 0 < client.pinned_bytes() <= limit
        assert len(kinds(messages)) == 2
        assert bytes in kinds(messages)
        assert [view.tobytes() for view in views(messages)] == [
            each for number in range(15) for each in (entry(number), b"end")
        ]
    with open_log(tmp_path / "log", codec=codec, pinned=0) as client:
        assert kinds(read(client)) == {bytes}


def test_two_consumers_share_the_map_of_a_segment(tmp_path) -> None:
    """It is counted once."""
    with open_log(tmp_path / "log") as client:
        client.append(SHARD, [entry(0)])
        first = read(client)
        once = client.pinned_bytes()
        with Consumer(client, "another", stream=STREAM) as consumer:
            second = consumer.read(copy=False)
        assert client.pinned_bytes() == once
        assert views(first)[0].obj is views(second)[0].obj


def test_a_partly_acknowledged_frame_is_mapped_once(tmp_path) -> None:
    """Ranges between acknowledgements come as views of one map or buffer."""
    batch = [entry(number, 1000) for number in range(20)]
    for codec in ("none", "zstd"):
        with open_log(tmp_path / codec, codec=codec) as client:
            client.append(SHARD, batch)
            with Consumer(client, GROUP, stream=STREAM) as consumer:
                ids = [message.id for message in consumer.read()]
                consumer.ack(*ids[3:10:2])
                messages = consumer.read(copy=False)
            expected = [each for number, each in enumerate(batch) if number not in range(3, 10, 2)]
            assert [view.tobytes() for view in views(messages)] == expected
            assert len({id(view.obj) for view in views(messages)}) == 1


def test_damaged_bytes_are_no_more_served_as_views_than_as_copies(tmp_path) -> None:
    """They are checked before a view of them is given out."""
    with open_log(tmp_path / "log") as client:
        for number in range(3):
            client.append(SHARD, [entry(number)])
        frame = known_frames(tmp_path / "log")[1]
        flip(frame.path, frame.offset + 500, 1)
        with Consumer(client, GROUP, stream=STREAM) as consumer:
            messages = consumer.read(copy=False)
            assert [message.id.entry_number for message in messages] == [0, 2]
            consumer.ack(*(message.id for message in messages))
        assert client.accounting(STREAM, GROUP).corrupt == 1


def test_a_file_that_was_cut_is_damage_and_not_the_end_of_the_process(tmp_path) -> None:
    """Bytes are read before they are mapped, so what is not there any more is not looked at through the map."""
    with open_log(tmp_path / "log") as client:
        for number in range(3):
            client.append(SHARD, [entry(number)])
        frames = known_frames(tmp_path / "log")
    os.truncate(frames[1].path, frames[1].offset + 200)
    with Client(tmp_path / "log", read_only=True) as client:
        assert [bytes(message.data) for message in client.scan(SHARD)] == [entry(0)]
    with open_log(tmp_path / "log") as client:
        assert [view.tobytes() for view in views(read(client))] == [entry(0)]


def test_views_do_not_change_when_the_file_is_written_behind_them(tmp_path) -> None:
    """The bytes behind the last frame of the active segment are none that a view covers."""
    with open_log(tmp_path / "log") as client:
        client.append(SHARD, [entry(0)])
        (view,) = views(read(client))
        (frame,) = known_frames(tmp_path / "log")
        overwrite(frame.path, frame.end, b"x" * 1000)
        assert view.tobytes() == entry(0)


@pytest.mark.slow
def test_many_threads_keep_to_the_limit(tmp_path) -> None:
    """Groups that read at once, each in a thread of its own, together keep no more than the limit."""
    limit = 3 * SEGMENT_BYTES
    with open_log(tmp_path / "log", codec="zstd", pinned=limit) as client:
        for number in range(12):
            client.append(SHARD, [entry(number)])
        worst = 0
        failures: list[BaseException] = []

        def work(group: str) -> None:
            nonlocal worst
            try:
                with Consumer(client, group, stream=STREAM) as consumer:
                    for _ in range(20):
                        messages = consumer.read(copy=False)
                        worst = max(worst, client.pinned_bytes())
                        assert [view.tobytes() for view in views(messages)] == [entry(number) for number in range(12)]
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(f"group-{number}",)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        # What one thread tries and then gives up is seen for a moment.
        assert worst <= limit + 6 * 10_000
        gc.collect()
        assert client.pinned_bytes() == 0


class MaplessDoor(QuickDoor):
    """A filesystem that maps no more than state pages."""

    def map_read_only(self, fd: int, size: int) -> MappedFile:
        """Refuse a segment."""
        if size > PAGE_BYTES:
            raise OSError(errno.ENODEV, "no such device")
        return super().map_read_only(fd, size)


def test_a_filesystem_that_cannot_map_gives_copies(tmp_path) -> None:
    """The refusal is no error for the reader, and nothing is counted as kept."""
    with Client(tmp_path / "log", config(), _door=MaplessDoor()) as client:
        client.append(SHARD, [entry(0)])
        messages = read(client)
        assert kinds(messages) == {bytes}
        assert [view.tobytes() for view in views(messages)] == [entry(0)]
        assert client.pinned_bytes() == 0
