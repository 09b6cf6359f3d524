"""The bound on a filesystem of its own: what the volume lost is what the log has, and never more than it may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.filesystems import mounted_image
from tests.support.overfilled_log import check_accounting, overfill

pytestmark = [pytest.mark.integration, pytest.mark.root, pytest.mark.slow]

BOUND = 16 << 20
TOTAL = 160 << 20


@pytest.mark.parametrize("protect", [True, False])
def test_four_processes_that_write_ten_times_the_bound_never_exceed_it(protect, tmp_path) -> None:
    """By du, by the volume's own count and by the ledger; and what had to go is counted to the entry."""
    with mounted_image(tmp_path, "ext4", 64 << 20) as volume:
        check_bound(volume, BOUND, TOTAL, protect=protect)


def check_bound(volume: Path, bound: int, total: int, *, protect: bool) -> list[tuple[float, float, float]]:
    """Overfill a log on the volume; with protection a consumer tries to keep up."""
    before = os.statvfs(volume)
    empty = before.f_bfree * before.f_frsize
    peaks, noted = overfill(volume / "log", bound, total, protect=protect, empty=empty, consuming=protect)
    assert peaks.samples > 50
    assert 0.8 * bound < peaks.linked <= bound
    assert peaks.ledger <= bound
    assert peaks.volume <= bound
    assert peaks.least_data >= bound // 2
    check_accounting(volume / "log", noted)
    return noted.slowest
