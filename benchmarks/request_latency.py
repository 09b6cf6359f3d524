"""What an application's requests pay for their telemetry while the log is in trouble.

The same handler (a millisecond of work and a few spans) is called at a steady rate in one process without an exporter,
and in others whose `BatchSpanProcessor` exports into a log that is well, or in trouble for the middle third of the run.
All of them run at the same time, so that whatever else the machine does befalls them alike. Printed are the latency of
requests, the memory that the process grew by in the last two thirds, and what the exporter counted.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import comet_storage
from benchmarks.measure import console, quantile, scratch_directory, table, verdict
from comet_otel import CometSpanExporter
from comet_storage._os.door import Door

SECONDS = 24.0
RATE = 100.0
WORK_SECONDS = 0.001
SPANS_PER_REQUEST = 3
BOUND_MILLIS = 1.0
IMAGE_BYTES = 64 << 20
FOREIGN = 12345
SLOW_SECONDS = 0.01

_HOLDER = """
import sys
from comet_storage import Client
client = Client(sys.argv[1])
with client._ledger.locked():
    print("locked", flush=True)
    sys.stdin.read()
"""

_FILLER = """
import sys, time
with open(sys.argv[1], "wb", buffering=0) as file:
    while True:
        try:
            file.write(bytes(4096))
        except OSError:
            time.sleep(0.001)
"""


class SlowDoor(Door):
    """Each write takes ten milliseconds longer."""

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write late."""
        time.sleep(SLOW_SECONDS)
        super().write(fd, data, offset)


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        _serve(sys.argv[1], Path(sys.argv[2]))
        return
    cases = ["no exporter", "well", "directory removed", "log locked by a stopped process", "slow writes"]
    if os.geteuid() == 0:
        cases += ["foreign owner", "read-only", "disk full"]
    else:
        console.print("[yellow]a foreign owner, a read-only and a full disk need root: not measured[/]")
    rows: list[list[str]] = []
    with scratch_directory() as directory:
        for case in cases[1:]:
            base, found = (_results(directory, name) for name in _pair(case, directory))
            added = 1e3 * (found["p99"] - base["p99"])
            rows.append(
                [
                    case,
                    f"{1e3 * base['p99']:.2f}",
                    f"{1e3 * found['p99']:.2f}",
                    verdict(added, BOUND_MILLIS),
                    f"{found['grown'] / 1024:.1f}",
                    f"{found['stored']:,}",
                    f"{found['refused']:,}",
                    "yes" if found["recovered"] else "[red]no[/]",
                ]
            )
    columns = [
        "the log is",
        "p99 without",
        "p99",
        f"+{BOUND_MILLIS:g} ms",
        "MiB grown",
        "stored",
        "refused",
        "recovered",
    ]
    table(f"Requests at {RATE:g} per second, 1 ms of work and {SPANS_PER_REQUEST} spans each: ms", columns, rows)


def _pair(case: str, directory: Path) -> Iterator[str]:
    """Run a case beside a process without an exporter; give the names of their results."""
    label = case.replace(" ", "-")
    names = (f"{label}-base", label)
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-m", "benchmarks.request_latency", kind, str(directory / name)])
            )
            for kind, name in zip(("no exporter", case), names, strict=True)
        ]
        for child in children:
            child.wait()
    return iter(names)


def _results(directory: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / name / "results.json").read_text())
    return found


def _serve(case: str, folder: Path) -> None:
    """Answer requests for a while, in trouble in the middle."""
    folder.mkdir()
    trouble = _TROUBLES.get(case, _none)
    with trouble(folder) as (begin, end):
        log = folder / "log"
        if case == "slow writes":
            comet_storage.Client = functools.partial(comet_storage.Client, _door=SlowDoor())  # type: ignore[misc]
        exporter = None
        provider = TracerProvider(shutdown_on_exit=False)
        if case != "no exporter":
            settings = {"storage": {"write_method": "pwrite"}} if case == "slow writes" else None
            exporter = CometSpanExporter(data_dir=log, config=settings)
            provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
        tracer = provider.get_tracer("service")
        third = SECONDS / 3
        took = _requests(tracer, third)
        begin()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        took += _requests(tracer, third)
        end()
        took += _requests(tracer, third)
        stored, refused, recovered = 0, 0, True
        if exporter is not None:
            seen = exporter.counters.stored_items
            _requests(tracer, 2.0)
            provider.force_flush()
            recovered = exporter.counters.stored_items > seen
            stored, refused = exporter.counters.stored_items, exporter.counters.refused_items
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        provider.shutdown()
    results = {
        "p99": quantile(took, 0.99),
        "grown": grown,
        "stored": stored,
        "refused": refused,
        "recovered": recovered,
    }
    (folder / "results.json").write_text(json.dumps(results))


def _requests(tracer: Any, seconds: float) -> list[float]:
    """Answer requests at a steady rate; how long each took, from when it was due."""
    took = []
    due = time.perf_counter()
    until = due + seconds
    while due < until:
        time.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter()
        for number in range(SPANS_PER_REQUEST):
            with tracer.start_as_current_span("request", attributes={"number": number, "route": "/price"}):
                busy_until = time.perf_counter() + WORK_SECONDS / SPANS_PER_REQUEST
                while time.perf_counter() < busy_until:
                    pass
        took.append(time.perf_counter() - began)
        due += 1 / RATE
    return took


Trouble = tuple[Callable[[], object], Callable[[], object]]


@contextmanager
def _none(_folder: Path) -> Iterator[Trouble]:
    yield (lambda: None), (lambda: None)


@contextmanager
def _removed(folder: Path) -> Iterator[Trouble]:
    log = folder / "log"

    def begin() -> None:
        shutil.rmtree(log)
        log.touch()

    yield begin, log.unlink


@contextmanager
def _foreign(folder: Path) -> Iterator[Trouble]:
    log = folder / "log"

    def begin() -> None:
        shutil.rmtree(log)
        log.mkdir(mode=0o700)
        os.chown(log, FOREIGN, FOREIGN)

    yield begin, lambda: os.chown(log, os.geteuid(), os.getegid())


@contextmanager
def _locked(folder: Path) -> Iterator[Trouble]:
    holders: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        command = [sys.executable, "-c", _HOLDER, str(folder / "log")]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holders.append(holder)
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        # What it has already is enough for a while; what it needs the lock for begins with its next shard.
        shutil.rmtree(folder / "log" / "traces")

    def end() -> None:
        holders[0].kill()
        holders[0].wait()

    yield begin, end


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    volume = folder / "log"
    volume.mkdir()
    _format(folder / "image")
    _mount(folder / "image", volume)
    try:
        yield volume
    finally:
        _command("umount", "-l", str(volume))


def _format(image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    _command("mkfs.ext4", "-q", "-F", "-m", "0", str(image))


def _mount(image: Path, volume: Path) -> None:
    _command("mount", "-o", "loop,errors=remount-ro", str(image), str(volume))
    shutil.rmtree(volume / "lost+found")
    volume.chmod(0o700)


@contextmanager
def _read_only(folder: Path) -> Iterator[Trouble]:
    """The kernel makes a filesystem read-only where it finds it broken; it is repaired and mounted again."""
    with _mounted(folder) as volume:
        device = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(volume)], check=True, capture_output=True, text=True
        ).stdout.strip()

        def begin() -> None:
            Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("benchmark")

        def end() -> None:
            _command("umount", "-l", str(volume))
            _mount(folder / "repaired", volume)

        # What is on the broken one stays there: it is still open.
        _format(folder / "repaired")
        yield begin, end


@contextmanager
def _full(folder: Path) -> Iterator[Trouble]:
    """Another process takes every block as soon as it is free; the log has nothing left that it could evict."""
    fillers: list[subprocess.Popen[bytes]] = []
    with _mounted(folder) as volume:

        def begin() -> None:
            shutil.rmtree(volume / "traces")
            fillers.append(subprocess.Popen([sys.executable, "-c", _FILLER, str(volume / "ballast")]))

        def end() -> None:
            fillers[0].kill()
            fillers[0].wait()
            (volume / "ballast").unlink()

        yield begin, end


_TROUBLES = {
    "directory removed": _removed,
    "log locked by a stopped process": _locked,
    "foreign owner": _foreign,
    "read-only": _read_only,
    "disk full": _full,
}


def _command(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})


if __name__ == "__main__":
    main()
