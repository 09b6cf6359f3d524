"""Shows the project's main job on this machine: an outage, three kinds of ``kill -9``, and nothing lost.

A real web service with OpenTelemetry instrumentation is put under load while its collector is down. The service is
killed and started again, the shipper is killed and started again, then a collector comes up and the backlog drains.
Exits with 1 if anything that an exporter acknowledged did not arrive.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from comet_otel.streams import ROUTES
from comet_storage import Client
from demo.load import Load
from demo.processes import HOST, Child, DemoError, Processes, answers, free_port, listens, wait_until
from demo.report import bytes_on_disk, compare, mib, print_report
from demo.telemetry import LEDGER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 2
LOAD_SECONDS = 6.0
"""Load before the service is killed, and again after it is back."""

GROUP = "shipper"
DRAIN_TIMEOUT = 60.0


class Demo:
    """The stages, in order."""

    def __init__(self, console: Console, folder: Path, processes: Processes) -> None:
        """Prepare in an empty folder."""
        self._console = console
        self._processes = processes
        self._data = folder / "log"
        self._acknowledged = folder / "acknowledged"
        self._acknowledged.mkdir()
        self._received = folder / "received.jsonl"
        self._service_port = free_port()
        self._collector_port = free_port()
        self._peak = 0
        self._started = time.monotonic()

    def run(self) -> bool:
        """Play all stages; return whether nothing was lost."""
        with self._peak_watched():
            self._outage_with_killed_service()
            shipper = self._killed_shipper()
            self._recovery(shipper)
        reports = compare(self._acknowledged, self._received)
        self._console.print()
        print_report(self._console, reports, self._peak, bytes_on_disk(self._data))
        nothing_lost = all(report.lost == 0 and report.exported > 0 for report in reports)
        verdict = "[bold green]Nothing was lost.[/]" if nothing_lost else "[bold red]Something was lost.[/]"
        self._console.print(f"{verdict} [dim]({time.monotonic() - self._started:.0f} s)[/]")
        return nothing_lost

    def _outage_with_killed_service(self) -> None:
        service = self._start_service()
        self._say(f"a FastAPI service with {WORKERS} workers is up; the collector is down")
        load = Load(HOST, self._service_port)
        load.start()
        self._wait_under_load(load)
        service.kill()
        self._say(f"[red]kill -9[/] of all its processes under load, after {load.answered:,} requests")
        service = self._start_service()
        self._say("the service is back, on the same log")
        self._wait_under_load(load)
        load.stop()
        service.stop()
        self._say(f"{load.answered:,} requests answered in all; the log holds {self._held()}")

    def _killed_shipper(self) -> Child:
        shipper = self._start_shipper()
        wait_until(lambda: "cannot deliver" in shipper.last_words(), "attempt to deliver", shipper)
        self._say("the shipper is up, and finds no collector; it keeps everything and tries again")
        shipper.kill()
        self._say("[red]kill -9[/] of the shipper, and a new one")
        return self._start_shipper()

    def _recovery(self, shipper: Child) -> None:
        collector = self._processes.start(
            "collector",
            [
                *("demo.collector", "--record", str(self._received), "--grpc-port", str(self._collector_port)),
                *("--work-seconds", "0.01"),  # as a busy one; else there would be little to see
            ],
        )
        wait_until(lambda: listens(self._collector_port), "collector", collector)
        self._say("a collector is up")
        self._watch_the_backlog_drain(shipper)
        shipper.stop()
        collector.stop()

    def _watch_the_backlog_drain(self, shipper: Child) -> None:
        columns = (TextColumn("        backlog"), BarColumn(40), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress, Client(self._data, read_only=True) as log:
            total = _pending(log)
            task = progress.add_task("backlog", total=total)

            def drained() -> bool:
                left = _pending(log)
                progress.update(task, completed=total - left)
                return left == 0

            wait_until(drained, "empty backlog", shipper, DRAIN_TIMEOUT)

    def _start_service(self) -> Child:
        service = self._processes.start(
            "service",
            [
                *("uvicorn", "--factory", "demo.service:create_app", "--host", HOST),
                *("--port", str(self._service_port), "--workers", str(WORKERS)),
                *("--no-access-log", "--log-level", "warning"),
            ],
            {"COMET_DATA_DIR": str(self._data), LEDGER_VARIABLE: str(self._acknowledged)},
        )
        wait_until(lambda: answers(self._service_port, "/healthz"), "answer of the service", service)
        return service

    def _start_shipper(self) -> Child:
        return self._processes.start(
            "shipper",
            [
                *("shipper", "run", "--data-dir", str(self._data), "--group", GROUP),
                *("--endpoint", f"http://{HOST}:{self._collector_port}"),
                # Small requests and short pauses, so that there is something to see.
                *("--max-request-bytes", "16384", "--retry-max", "1"),
            ],
        )

    def _wait_under_load(self, load: Load) -> None:
        """Let the load run for its time, and until the service has answered a fair number of requests."""
        until, enough = time.monotonic() + LOAD_SECONDS, load.answered + 100
        wait_until(lambda: time.monotonic() > until and load.answered > enough, "load on the service")

    def _held(self) -> str:
        with Client(self._data, read_only=True) as log:
            entries = sum(log.len(route.stream) for route in ROUTES)
        return f"{entries:,} entries in {mib(bytes_on_disk(self._data))}"

    def _say(self, text: str) -> None:
        self._console.print(
            f"[dim]{time.monotonic() - self._started:5.1f} s[/] {text}", highlight=False, soft_wrap=True
        )

    @contextmanager
    def _peak_watched(self) -> Iterator[None]:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                self._peak = max(self._peak, bytes_on_disk(self._data))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def _pending(log: Client) -> int:
    return sum(log.accounting(route.stream, GROUP).pending for route in ROUTES)


def main() -> int:
    """Run the demo; return the exit code."""
    # As an exception, so that the children are ended and the folder is removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console()
    with tempfile.TemporaryDirectory(prefix="comet-demo-") as name, Processes(Path(name)) as processes:
        try:
            return 0 if Demo(console, Path(name), processes).run() else 1
        except DemoError as error:
            console.print(f"[bold red]The demo could not be played:[/] {error}")
            return 1
        except KeyboardInterrupt:
            console.print("\ninterrupted")
            return 130


if __name__ == "__main__":
    sys.exit(main())
