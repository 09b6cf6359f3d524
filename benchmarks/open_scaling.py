"""What a backlog costs: open, append, read and a retention pass on many segments against few.

``python -m benchmarks.open_scaling``; each figure is the least of several fresh processes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import scratch_directory, table, verdict
from comet_storage import Client, CometConfig, RetentionConfig, StorageConfig
from comet_storage._log.space import SpaceLedger
from comet_storage.config import SMALL_FILES_BYTES

SHARD = "scaling:v1:shard:0000"
FEW, MANY = 2, 2000
ROUNDS = 7
MICROSECONDS_PER_SEGMENT = 5.0
MEMORY_BYTES = 5 << 20
OPERATIONS = ("open", "append", "read", "retention pass")
MEASURING = "ledger lost: measure anew"
"""Not part of the sum: what the first allocation costs when the ledger does not prove itself."""
CONFIG = CometConfig(
    storage=StorageConfig(max_file_size=4096, sync_interval=300.0), retention=RetentionConfig(max_total_size=1 << 30)
)


def build(directory: Path, segments: int) -> None:
    """Make a log with that many sealed segments and an active one."""
    entry = bytes(2900)
    with Client(directory, CONFIG) as client:
        for _ in range(segments + 1):
            client.append(SHARD, [entry])


def anonymous_bytes() -> int:
    """Memory of this process that is no file's."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def forget_ledger(directory: Path) -> None:
    """Damage the ledger, so that the next reservation measures the whole log."""
    with (directory / "log.lock").open("r+b") as file:
        file.seek(1024)
        file.write(bytes(12))


def pass_of_retention(client: Client) -> SpaceLedger:
    """Allocate at the bound, without filling the log up to it, so that the oldest closed segment is evicted."""
    ledger = client._ledger  # noqa: SLF001
    with ledger.locked() as fd:
        ledger.bound = ledger._used(fd) + SMALL_FILES_BYTES // 2  # noqa: SLF001
    ledger.reserve(4096, lambda: None)
    ledger.bound = CONFIG.retention.max_total_size
    return ledger


def measure(directory: Path) -> dict[str, float]:
    """Run each operation once, in this process, and return seconds and bytes."""
    marks = [time.perf_counter()]
    client = Client(directory, CONFIG)
    marks.append(time.perf_counter())
    client.append(SHARD, [b"x" * 115])
    marks.append(time.perf_counter())
    if next(iter(client.scan(SHARD))).id.entry_number != 0:
        raise RuntimeError("something else was read")
    marks.append(time.perf_counter())
    marks.append(time.perf_counter())
    ledger = pass_of_retention(client)
    marks.append(time.perf_counter())
    if next(iter(client.scan(SHARD))).id.entry_number == 0:
        raise RuntimeError("nothing was evicted")
    forget_ledger(directory)
    marks.append(time.perf_counter())
    ledger.reserve(0, lambda: None)
    marks.append(time.perf_counter())
    opened, appended, read, _, passed, _, measured = (marks[at + 1] - marks[at] for at in range(7))
    found = dict(zip((*OPERATIONS, MEASURING), (opened, appended, read, passed, measured), strict=True))
    found["memory"] = float(anonymous_bytes())
    client.close()
    return found


def least(directory: Path, *, page: bool) -> dict[str, float]:
    """The least of several fresh processes, each on a copy of its own."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        copy = directory.with_name(f"{directory.name}-copy")
        shutil.copytree(directory, copy)
        copy.chmod(0o700)
        if not page:
            (copy / "scaling/v1/shard-0000/state").unlink()
        # Otherwise the first sync that is measured writes the copy.
        os.sync()
        output = subprocess.run(
            [sys.executable, "-m", "benchmarks.open_scaling", str(copy)], check=True, capture_output=True, text=True
        ).stdout
        shutil.rmtree(copy)
        found: dict[str, float] = json.loads(output)
        best = {name: min(value, best.get(name, value)) for name, value in found.items()}
    return best


def main() -> None:
    """Print the table."""
    with scratch_directory() as scratch:
        for segments in (FEW, MANY):
            build(scratch / str(segments), segments)
        rows = []
        for page in (True, False):
            few, many = (least(scratch / str(segments), page=page) for segments in (FEW, MANY))
            what = "page present" if page else "page deleted"
            for name in (*OPERATIONS, MEASURING):
                each = (many[name] - few[name]) / (MANY - FEW) * 1e6
                rows.append([what, name, f"{few[name] * 1e3:.2f}", f"{many[name] * 1e3:.2f}", f"{each:.2f}", ""])
            more = sum(many[name] - few[name] for name in OPERATIONS)
            each = more / (MANY - FEW) * 1e6
            sums = (f"{sum(found[name] for name in OPERATIONS) * 1e3:.2f}" for found in (few, many))
            rows.append([what, "together", *sums, f"{each:.2f}", verdict(each, MICROSECONDS_PER_SEGMENT)])
            memory = many["memory"] - few["memory"]
            sizes = (f"{found['memory'] / 2**20:.1f}" for found in (few, many))
            rows.append([what, "anonymous MiB", *sizes, f"{memory / 2**20:+.1f} MiB", verdict(memory, MEMORY_BYTES)])
    table(
        f"A log with {FEW} and with {MANY} sealed segments, ms (at most {MICROSECONDS_PER_SEGMENT:g} us per segment)",
        ["state page", "operation", f"{FEW} segments", f"{MANY} segments", "us per segment", "bound"],
        rows,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))
    else:
        os.environ["PYTHONPATH"] = str(Path.cwd())
        main()
