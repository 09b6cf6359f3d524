"""The arrangements of docs/topologies.md: what was acknowledged arrives, whatever is killed on the way."""

from __future__ import annotations

import os

import pytest

from demo.processes import Processes
from tests.support.topology import Row

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.crash]

FULL = bool(os.environ.get("COMET_CRASH_FULL"))
ROUNDS = 10 if FULL else 1
# In the longer row there is every place of the shorter one.
TOPOLOGIES = {"edge and hub": ("edge", "hub"), **({"one node": ("edge",)} if FULL else {})}


@pytest.mark.parametrize("nodes", TOPOLOGIES.values(), ids=TOPOLOGIES.keys())
def test_kills_at_every_place_lose_nothing_that_was_acknowledged(tmp_path, nodes) -> None:
    """Each receiver, each shipper and the collector are killed by SIGKILL while telemetry passes through them."""
    with Processes(tmp_path) as processes:
        row = Row(tmp_path, processes, nodes)
        application = row.start_application()
        for _ in range(ROUNDS):
            for place in list(row.children):
                row.wait_until_received(3)
                row.kill_and_start(place)
        row.wait_until_received(3)
        assert application.stop() == 0
        row.wait_until_drained()
        row.assert_nothing_lost()
