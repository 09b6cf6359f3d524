"""What a client and a consumer keep in memory does not grow with what is stored (`python -m benchmarks.backlog`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sealed_segments import SEGMENT_BYTES, build

ROOT = Path(__file__).parents[3]
ANONYMOUS_BYTES_MAX = 60 << 20


@pytest.mark.integration
@pytest.mark.slow
def test_a_backlog_stays_on_the_disk(tmp_path) -> None:
    """Reading all over 1 GiB of sealed segments, copied and not, keeps little memory and maps one segment at a time."""
    build(tmp_path / "log", (1 << 30) // SEGMENT_BYTES)
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.backlog", str(tmp_path / "log")],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout
    found = json.loads(output)
    assert found["memory"] < ANONYMOUS_BYTES_MAX
    assert found["maps"] == 1
