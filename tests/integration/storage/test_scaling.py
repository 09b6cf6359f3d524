"""What a backlog costs is listing its names, and nothing else (`python -m benchmarks.open_scaling` measures it)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from comet_storage import Client, CometConfig, Consumer, RetentionConfig, StorageConfig
from comet_storage._os.door import Door

SHARD = "events:v1:shard:0000"
CONFIG = CometConfig(
    storage=StorageConfig(max_file_size=4096, sync_interval=300.0), retention=RetentionConfig(max_total_size=1 << 28)
)
COUNTED = [name for name, value in vars(Door).items() if callable(value) and not name.startswith("_")]


class CountingDoor(Door):
    """The real operating system, with every call of it counted."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> object:
        if name in COUNTED:
            object.__getattribute__(self, "calls")[name] += 1
        return object.__getattribute__(self, name)


def calls_on(directory: Path, segments: int, *, page: bool) -> dict[str, Counter[str]]:
    """Make a log with that many sealed segments, and count the calls of each operation on it."""
    with Client(directory, CONFIG) as client:
        for _ in range(segments + 1):
            client.append(SHARD, [bytes(2900)])
    assert len(list(directory.glob("events/v1/shard-0000/*.segment"))) == segments + 1
    if not page:
        (directory / "events/v1/shard-0000/state").unlink()
    door = CountingDoor()
    found = {}
    with Client(directory, CONFIG, _door=door) as client:
        # No flusher: whether it comes between depends on the moment.
        client._start_flusher = lambda: None
        found["open"], door.calls = door.calls, Counter()
        client.append(SHARD, [b"x"])
        found["append"], door.calls = door.calls, Counter()
        with Consumer(client, "group", stream="events:v1") as consumer:
            assert len(consumer.read(count=1)) == 1
        found["read"], door.calls = door.calls, Counter()
        assert client.allocated_bytes() > segments * 4096
        found["retention"], door.calls = door.calls, Counter()
    return found


@pytest.mark.parametrize("page", [True, False], ids=["page present", "page deleted"])
def test_the_calls_to_the_system_do_not_grow_with_the_number_of_segments(page, tmp_path) -> None:
    """Open, append, read and a measuring pass make the same calls on 2 sealed segments as on 100."""
    assert calls_on(tmp_path / "few", 2, page=page) == calls_on(tmp_path / "many", 100, page=page)
