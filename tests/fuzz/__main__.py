"""The long form: ``python -m tests.fuzz --requests 200000``; exit code 1 if the law was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from demo.processes import Processes
from tests.fuzz.campaign import Campaign

FULL_LOG_SHARE = 0.1
SMALL_LOG_BYTES = 1 << 20
SETTLED_SHARE = 0.25
"""After this part of a campaign the receiver's caches and heaps have their size."""

VIOLATIONS_SHOWN_MAX = 5
"""In each batch."""

GROWTH_MAX = 1.1
GROWTH_KILOBYTES_MAX = 16 * 1024


def main() -> None:
    """Run one campaign with room in the log and a shorter one without, and print what came of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    kept = run(options.requests, options.seed, small_log=None)
    kept = run(int(options.requests * FULL_LOG_SHARE), options.seed + 1, small_log=SMALL_LOG_BYTES) and kept
    sys.exit(0 if kept else 1)


def run(requests: int, seed: int, *, small_log: int | None) -> bool:
    """Run one campaign, and say whether the law was kept."""
    print(f"{requests:,} requests, seed {seed}, {'a log that is full at times' if small_log else 'a log with room'}")
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="comet-fuzz-", dir=Path.cwd()) as folder,
        Processes(Path(folder)) as processes,
    ):
        campaign = Campaign(Path(folder), processes, seed, small_log=small_log)
        result = campaign.result
        shown = 0
        for done in campaign.run(requests):
            for violation in result.violations[shown : shown + VIOLATIONS_SHOWN_MAX]:
                print(f"  VIOLATION {violation}")
            shown = len(result.violations)
            if done % 10_000 == 0:
                print(
                    f"  {done:,}: {result.acknowledged:,} acknowledged, {len(result.violations)} violations, "
                    f"{result.resident[-1] // 1024} MiB resident, {time.monotonic() - begun:.0f} s",
                    flush=True,
                )
        code = campaign.receiver.stop()
    for (protocol, kind, answer), count in sorted(result.answers.items(), key=str):
        if count > requests / 2_000:
            print(f"  {protocol:5} {kind:32} {answer!s:20} {count:,}")
    settled = result.resident[int(len(result.resident) * SETTLED_SHARE) :]
    flat = max(settled) <= max(settled[0] * GROWTH_MAX, settled[0] + GROWTH_KILOBYTES_MAX)
    least, most = settled[0] // 1024, max(settled) // 1024
    print(f"  memory: {least} MiB once settled, {most} MiB at most: {'flat' if flat else 'GREW'}")
    print(f"  acknowledged {result.acknowledged:,}; refused because the log was full {result.refused_as_full:,}")
    codes = Counter(answer for (_, _, answer), count in result.answers.items() for _ in range(count))
    print(f"  answers: {dict(codes.most_common())}; exit code {code}")
    print(f"  {len(result.violations)} violations, {time.monotonic() - begun:.0f} s")
    as_meant = bool(result.refused_as_full) == bool(small_log)
    return not result.violations and flat and as_meant and code == 0


if __name__ == "__main__":
    main()
