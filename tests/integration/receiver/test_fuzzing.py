"""Mutated requests over both protocols and encodings, a few of them; ``make fuzz`` sends 200,000."""

from __future__ import annotations

import pytest

from demo.processes import Processes
from tests.fuzz.campaign import Campaign

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REQUESTS = 500


def test_what_is_acknowledged_is_stored_and_nothing_else(tmp_path) -> None:
    """No crash, no answer that speaks of the receiver's own fault, and the log holds what was acknowledged, once."""
    with Processes(tmp_path) as processes:
        campaign = Campaign(tmp_path, processes, seed=2)
        assert [*campaign.run(REQUESTS)] == [REQUESTS]
        assert campaign.result.violations == []
        assert campaign.result.acknowledged > REQUESTS / 10
        assert campaign.receiver.stop() == 0


def test_the_campaign_sees_an_answer_that_is_not_true(tmp_path) -> None:
    """An entry that nobody acknowledged is found, and so is an acknowledged one that is missing."""
    with Processes(tmp_path) as processes:
        campaign = Campaign(tmp_path, processes, seed=2)
        with campaign.clients() as clients:
            exchanges = campaign.send(range(40), clients)
        stored = [request.expected for request, answer in exchanges if answer.acknowledged and request.expected]
        campaign.judge(exchanges, stored)
        assert campaign.result.violations == []
        campaign.judge(exchanges, stored[1:])
        campaign.judge(exchanges, [*stored, *[b"surplus"] * 41])
        assert [violation.split(":")[0][:36] for violation in campaign.result.violations] == [
            "acknowledged, but not in the log",
            "41 entries in the log beside those t",
        ]
