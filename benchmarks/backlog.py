"""What a backlog of 10 GiB costs a client and a consumer: anonymous memory, mapped segments, and time.

``python -m benchmarks.backlog``; each figure is the worst (memory, maps) or the least (time) of fresh processes.
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
from benchmarks.open_scaling import anonymous_bytes, pass_of_retention
from benchmarks.sealed_segments import CONFIG, ENTRIES, HOLE_BYTES, SEGMENT_BYTES, SHARD, SMALL_ENTRIES, STREAM, build
from comet_storage import Client, Consumer

BACKLOG_BYTES = 10 << 30
FEW = 2
PLACES = 64
"""Places of the backlog, evenly spread, that are read."""
ROUNDS = 3
MEMORY_BYTES = 60 << 20
MAPS = 1
MICROSECONDS_PER_SEGMENT = 5.0
TIMED = ("open", "append", "register and read", "clean up")


LABELS = {"memory": "anonymous memory, MiB", "maps": "segments mapped to read"}


def mapped_segments() -> int:
    """Segments that this process has mapped now."""
    maps = Path("/proc/self/maps").read_text(encoding="ascii").splitlines()
    return len({line.split()[-1] for line in maps if ".segment" in line})


def measure(directory: Path) -> dict[str, float]:
    """Open, append, read all over the backlog in both ways, and clean up; in this process."""
    marks = [time.perf_counter()]
    client = Client(directory, CONFIG)
    marks.append(time.perf_counter())
    client.append(SHARD, [b"x" * 115])
    marks.append(time.perf_counter())
    consumer = Consumer(client, "readers", stream=STREAM)
    first = consumer.read(count=1)
    marks.append(time.perf_counter())
    pass_of_retention(client)
    marks.append(time.perf_counter())
    opened, appended, read, cleaned = (marks[at + 1] - marks[at] for at in range(4))
    found = dict(zip(TIMED, (opened, appended, read, cleaned), strict=True))
    worst, maps = anonymous_bytes(), mapped_segments()
    last = client.append(SHARD, [b"last"])[0].entry_number
    for copy in (True, False):
        for place in range(PLACES):
            consumer.reset_offset(0, first[0].id.entry_number + ENTRIES + last * place // PLACES // ENTRIES * ENTRIES)
            messages = consumer.read(count=SMALL_ENTRIES + 1, copy=copy)
            if last > PLACES * ENTRIES and len(messages[-1].data) != HOLE_BYTES:
                raise RuntimeError("something else was read")
            worst, maps = max(worst, anonymous_bytes()), max(maps, mapped_segments() - client_maps(client))
            del messages
    found |= {"memory": float(worst), "maps": float(maps)}
    consumer.close()
    client.close()
    return found


def client_maps(client: Client) -> int:
    """Active segments that the client has mapped to store to."""
    return len(client._writers)  # noqa: SLF001 - each has one


def main() -> None:
    """Print the table."""
    many = BACKLOG_BYTES // SEGMENT_BYTES
    found: dict[int, list[dict[str, float]]] = {FEW: [], many: []}
    with scratch_directory() as scratch:
        for count, results in found.items():
            for number in range(ROUNDS):
                directory = scratch / f"{count}-{number}"
                build(directory, count)
                # Otherwise the first sync that is measured writes the log.
                os.sync()
                command = [sys.executable, "-m", "benchmarks.backlog", str(directory)]
                results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
                shutil.rmtree(directory)
    rows, totals = [], [0.0, 0.0]
    for name in TIMED:
        times = [min(result[name] for result in results) for results in found.values()]
        totals = [total + each for total, each in zip(totals, times, strict=True)]
        rows.append(_times(name, times, many - FEW, None))
    rows.append(_times("together", totals, many - FEW, MICROSECONDS_PER_SEGMENT))
    for name, unit, bound in (("memory", 2**20, MEMORY_BYTES), ("maps", 1, MAPS)):
        worst = [max(result[name] for result in results) for results in found.values()]
        shown = [f"{value / unit:.4g}" for value in worst]
        rows.append([LABELS[name], *shown, "", f"{bound // unit} {verdict(worst[1], bound)}"])
    title = f"A log with {FEW} sealed segments and with {many:,} ({BACKLOG_BYTES >> 30} GiB)"
    table(title, ["", "few", "backlog", "us per segment", "bound"], rows)


def _times(name: str, times: list[float], segments: int, bound: float | None) -> list[str]:
    each = (times[1] - times[0]) / segments * 1e6
    kept = "" if bound is None else f"{bound:g} {verdict(each, bound)}"
    return [f"{name}, ms", *(f"{value * 1e3:.2f}" for value in times), f"{each:.2f}", kept]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))
    else:
        main()
