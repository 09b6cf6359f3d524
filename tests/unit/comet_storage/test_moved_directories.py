"""What becomes of a shard whose directory is moved away in a rotation, and made anew by another writer?"""

from __future__ import annotations

import pytest

from comet_storage import Client, ShardLostError
from tests.support.small_log import QUICK, SHARD, QuickDoor, fill, open_small, segment_paths, shard_directory


class MovingDoor(QuickDoor):
    """Does something once, at a named instant."""

    def __init__(self, instant: str) -> None:
        self.instant = instant
        self.action = lambda: None

    def failpoint(self, name: str) -> None:
        """The instant."""
        if name == self.instant:
            action, self.action = self.action, lambda: None
            action()


@pytest.mark.parametrize("instant", ["rotate.before_page", "rotate.before_prepare", "rotate.after_rename"])
def test_a_rotation_in_a_directory_that_took_this_ones_place_leaves_nothing_there(tmp_path, instant) -> None:
    """The append is refused; what was acknowledged is where the directory went, and the new shard is whole."""
    log, aside = tmp_path / "log", tmp_path / "aside"
    door = MovingDoor(instant)
    with open_small(log, door=door, segment_bytes=4096) as client, open_small(log, segment_bytes=4096) as other:
        fill(client, [20])
        acknowledged = list(client.scan(SHARD))

        def move() -> None:
            shard_directory(log).rename(aside)
            fill(other, [3])

        def append_until_refused() -> None:
            for _ in range(100):
                client.append(SHARD, [bytes(400)])
                acknowledged.extend(client.scan(SHARD, len(acknowledged)))

        door.action = move
        with pytest.raises(ShardLostError):
            append_until_refused()
        assert [path.name for path in segment_paths(log)] == ["00000000000000000000.segment"]
        fill(other, [40] * 10, first=3)
        (found,) = other.verify(SHARD)
        assert (found.entries, found.missing) == (403, ())
    old = tmp_path / "old" / "small" / "v1"
    old.mkdir(parents=True, mode=0o700)
    aside.rename(old / "shard-0000")
    (log / "log.json").rename(tmp_path / "old" / "log.json")
    (tmp_path / "old").chmod(0o700)
    with Client(tmp_path / "old", _door=QUICK) as reader:
        assert list(reader.scan(SHARD)) == acknowledged
