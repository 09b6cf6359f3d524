"""Is everything that was acknowledged still there after a death at each dangerous instant of an append?"""

from __future__ import annotations

import ast
import os
import random
from collections import Counter
from pathlib import Path

import pytest

import comet_storage
from comet_storage import Client, CometConfig, Consumer
from tests.support.children import Child
from tests.support.entries import add_reports, judge, make_entry
from tests.support.killing_door import CRASH_POINTS, SOURCE_POINTS
from tests.support.writer_child import GROUP, GROUP_STREAM, STREAM, append_until_killed, crash_config

pytestmark = [pytest.mark.crash, pytest.mark.slow]

KILLS = 20 if os.environ.get("COMET_CRASH_FULL") else 2
APPENDS_MAX = 300
SEGMENT_BYTES = 4 * 1024
PEER = 1 << 20
FREQUENT = ("lock", "unlock", "copy", "publish", "word", "write")
"""Instants that a writer meets many times, so that the one to die at can be far into its life."""

DEATHS: Counter[str] = Counter()
"""How many children died at each instant."""


def countdown_for(point: str, chance: random.Random, *, shared: bool) -> int:
    """How many times the child passes before it dies."""
    if "lock" in point and not shared:
        # An owner takes locks only when it claims and grows.
        return chance.randrange(1, 4)
    if point.startswith("claim"):
        return 1
    if point.startswith(FREQUENT):
        return chance.randrange(1, 120)
    return chance.randrange(1, 5)


def test_every_failpoint_in_the_source_has_a_crash_case() -> None:
    """A failpoint that no test dies at proves nothing."""
    root = Path(comet_storage.__file__).parent
    names = {
        node.args[0].value
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "failpoint"
        and isinstance(node.args[0], ast.Constant)
    }
    assert names == set(SOURCE_POINTS)


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("mode", ["owned", "shared"])
def test_a_death_at_any_instant_costs_nothing_that_was_acknowledged(tmp_path, point, mode) -> None:
    """A writer dies at the instant; a process that lives on, or the next owner, finds all of it and appends on."""
    shared = mode == "shared"
    config = crash_config(
        shared=shared,
        segment_bytes=SEGMENT_BYTES,
        total_bytes=600_000 if point.startswith("evict") else None,
    )
    acknowledged: dict[int, tuple[int, int]] = {}
    # In shared mode this process keeps its client: what it remembers of the shard must not do harm.
    peer = Client(tmp_path, config) if shared else None
    if peer is not None:
        append(peer, acknowledged, 0)
    deaths = 0
    for kill in range(KILLS):
        seed = f"{point} {mode} {kill}"
        chance = random.Random(seed)
        # Sometimes the one before died in the middle of a copy, so that there is something to recover from.
        before = [chance.choice(("copy.first_half", "copy.last_half", "copy.after"))] if kill % 2 else []
        for this in [*before, point]:
            countdown = countdown_for(this, chance, shared=shared)
            with Child(
                append_until_killed, str(tmp_path), chance.randrange(PEER), config, this, countdown, APPENDS_MAX
            ) as child:
                add_reports(acknowledged, child.read_rest())
                code = child.join()
                assert code in {0, -9}, f"{seed}: the child failed with {code}"
                deaths += code == -9 and this == point
                DEATHS[this] += code == -9
        client = peer or Client(tmp_path, config)
        check(client, acknowledged, seed)
        append(client, acknowledged, kill + 1)
        check(client, acknowledged, seed)
        if not shared:
            client.close()
    if peer is not None:
        peer.close()
    with Client(tmp_path, config) as client:
        check(client, acknowledged, f"{point} {mode} reopened")
    assert deaths, "the instant was never met"


def test_children_have_died_at_every_named_instant(capsys) -> None:
    """What the cases above did, in sum; those that were not run are not missed."""
    with capsys.disabled():
        print("\n" + ", ".join(f"{point} {DEATHS[point]}" for point in SOURCE_POINTS))
        print(f"deaths at {len(DEATHS)} of {len(CRASH_POINTS)} instants: {sum(DEATHS.values())}, nothing lost")
    assert not DEATHS or min(DEATHS.values()) > 0


def append(client: Client, acknowledged: dict[int, tuple[int, int]], sequence: int) -> None:
    """The checking process appends, too."""
    (found,) = client.append(STREAM, [make_entry(PEER, sequence, 24)])
    assert found.entry_number not in acknowledged
    acknowledged[found.entry_number] = (PEER, sequence)


def check(client: Client, acknowledged: dict[int, tuple[int, int]], seed: str) -> None:
    """Everything that was acknowledged and not evicted is there once, in order, with the right bytes."""
    messages = list(client.scan(STREAM))
    first = messages[0].id.entry_number if messages else 0
    verdict = judge(messages, acknowledged, first=first)
    assert verdict.clean, f"{seed}: {verdict}"
    if GROUP in client.groups(GROUP_STREAM):
        accounting = client.accounting(GROUP_STREAM, GROUP)
        assert accounting.total == len(messages) + first, seed
        parts = accounting.delivered + accounting.evicted + accounting.pending
        assert parts == accounting.total, f"{seed}: {accounting}"
    else:
        assert first == 0 or "evict" in seed


def test_acknowledgements_survive_the_death_of_the_consumer(tmp_path) -> None:
    """What a dead consumer acknowledged is not delivered to the next one, and everything else is."""
    config: CometConfig = crash_config(shared=False)
    acknowledged: dict[int, tuple[int, int]] = {}
    with Child(append_until_killed, str(tmp_path), 1, config, "group.before_commit", 40, APPENDS_MAX) as child:
        add_reports(acknowledged, child.read_rest())
        assert child.join() == -9
    with Client(tmp_path, config) as client, Consumer(client, GROUP, stream=GROUP_STREAM) as consumer:
        done = client.accounting(GROUP_STREAM, GROUP).delivered
        assert done > 0
        rest = consumer.read(count=100_000)
        assert [message.id.entry_number for message in rest] == list(range(done, len(acknowledged)))
