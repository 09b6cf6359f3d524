"""What happens to a log that is open when its process forks? The parent keeps it and the child gets its own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from comet_storage import Client, ShardOwnedError
from tests.support.children import PATIENCE_SECONDS, Child
from tests.support.live_child import fork_and_append
from tests.support.small_log import SHARD

pytestmark = [pytest.mark.crash, pytest.mark.slow]


def hear_both(child: Child) -> tuple[dict[str, object], tuple[object, ...], int]:
    """The reports of the forked child and of its parent, in whatever order they come."""
    reports = {kind: rest for kind, *rest in (child.hear(), child.hear())}
    result, pid = reports["child"]
    return result, tuple(reports["parent"]), pid


def test_a_forked_child_gets_its_own_lane_and_leaves_the_parents_shard_alone(tmp_path) -> None:
    """Its appends to the parent's shard are refused, its lane is another one, and the parent goes on as before."""
    with Child(fork_and_append, str(tmp_path), SHARD, False) as parent:
        result, (numbers, lanes, before, after), _ = hear_both(parent)
        assert result == {"own shard": "ShardOwnedError", "lane": 1, "consumer": "ClosedError", "close": None}
        assert numbers == (0, 1)
        assert lanes == (0, 0)
        assert (before, after) == (1, 2)
        with Client(tmp_path) as client, pytest.raises(ShardOwnedError):
            client.append(SHARD, [b"the child's end must not have freed the parent's lock"])
        assert parent.ask("close") == "closed"
        with Client(tmp_path) as client:
            assert client.append(SHARD, [b"next"])[0].entry_number == 2
            assert [message.data for message in client.scan(SHARD)] == [b"parent 0", b"parent 1", b"next"]


def test_a_parents_death_frees_its_shard_although_a_child_lives_on(tmp_path) -> None:
    """The child closed its copy of the lock when it was forked, so the kernel frees it with the parent."""
    with Child(fork_and_append, str(tmp_path), SHARD, True) as parent:
        _, (numbers, _, _, _), pid = hear_both(parent)
        assert numbers == (0, 1)
        parent.kill()
        os.kill(pid, 0)  # it lives
        with Client(tmp_path) as client:
            assert client.append(SHARD, [b"next"])[0].entry_number == 2
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
