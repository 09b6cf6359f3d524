"""The bound under 2 GiB of appends; part of the long campaign (`make crash`)."""

from __future__ import annotations

import os

import pytest

from tests.integration.storage.test_hard_bound import check_bound
from tests.support.filesystems import mounted_image

pytestmark = [
    pytest.mark.crash,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("COMET_CRASH_FULL"), reason="long: only in `make crash`"),
]


@pytest.mark.parametrize("protect", [True, False])
def test_two_gibibytes_into_a_log_of_64_mebibytes_never_exceed_it(protect, tmp_path) -> None:
    """Four processes, blocks watched all the time, every number in the class where an independent ledger has it."""
    with mounted_image(tmp_path, "ext4", 256 << 20) as volume:
        slowest = check_bound(volume, 64 << 20, 2 << 30, protect=protect)
    for median, high, most in slowest:
        print(f"append of 100 kB: median {median * 1e3:.2f} ms, p99.9 {high * 1e3:.1f} ms, slowest {most * 1e3:.1f} ms")
