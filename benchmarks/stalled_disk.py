"""What a stalled disk does to an appending thread and to the others of its process, by ``write_method``.

A filesystem of its own is frozen for ten seconds (root is needed for that), and on another run each write, store and
sync takes ten milliseconds longer. Printed is the longest that an append took, and the longest that a thread that only
counts stood still.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

from benchmarks.measure import console, scratch_directory, table
from comet_storage import Client, CometConfig, CometError, StorageConfig
from comet_storage._os.door import DOOR, Door

FROZEN_SECONDS = 10.0
DELAYED_SECONDS = 5.0
DELAY_SECONDS = 0.01
IMAGE_BYTES = 256 << 20
METHODS = ("mmap", "pwrite")
STREAM = "bench:v1:shard:0000"
ENTRIES = [os.urandom(115)]


class DelayedDoor(Door):
    """Each write takes longer. Stores through maps are no calls, so they are not delayed."""

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write late."""
        time.sleep(DELAY_SECONDS)
        super().write(fd, data, offset)

    def sync_data(self, fd: int) -> None:
        """Sync late."""
        time.sleep(DELAY_SECONDS)
        super().sync_data(fd)


def main() -> None:
    """Measure and print."""
    with scratch_directory() as directory:
        rows = [[f"each write 10 ms later, {method}", *_delayed(directory / method, method)] for method in METHODS]
        if os.geteuid() == 0:
            rows += [[f"frozen for 10 s, {method}", *_frozen(directory, method)] for method in METHODS]
        else:
            console.print("[yellow]freezing a filesystem needs root: not measured[/]")
    table("A stalled disk (ext4): milliseconds", ["stall", "append p50", "longest append", "other thread stood"], rows)


def _delayed(directory: Path, method: str) -> list[str]:
    return _watched(directory, method, DelayedDoor(), lambda: time.sleep(DELAYED_SECONDS))


def _frozen(directory: Path, method: str) -> list[str]:
    image, mount_point = directory / f"{method}.img", directory / f"{method}-mounted"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    mount_point.mkdir()
    _command("mkfs.ext4", "-q", "-F", str(image))
    _command("mount", "-o", "loop", str(image), str(mount_point))
    try:
        return _watched(mount_point / "log", method, DOOR, lambda: _freeze(mount_point))
    finally:
        _command("umount", str(mount_point))


def _freeze(mount_point: Path) -> None:
    # The command that thaws runs in a process of its own: this one may stand still.
    script = f"fsfreeze -f {mount_point}; sleep {FROZEN_SECONDS}; fsfreeze -u {mount_point}"
    with subprocess.Popen(["/bin/sh", "-c", script], env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}):
        pass
    time.sleep(1)


def _watched(directory: Path, method: str, door: Door, stall) -> list[str]:  # type: ignore[no-untyped-def]  # noqa: ANN001
    stop = threading.Event()
    took: list[float] = []
    gaps: list[float] = []

    def append(client: Client) -> None:
        while not stop.is_set():
            start = time.perf_counter()
            try:
                client.append(STREAM, ENTRIES)
            except CometError as error:
                console.print(f"{method}: {error}")
            took.append(time.perf_counter() - start)
            time.sleep(0.0005)

    def count() -> None:
        last = time.perf_counter()
        while not stop.is_set():
            time.sleep(0.0005)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    with Client(directory, CometConfig(storage=StorageConfig(write_method=method)), _door=door) as client:
        client.append(STREAM, ENTRIES)
        threads = [threading.Thread(target=append, args=(client,)), threading.Thread(target=count)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        stall()
        stop.set()
        for thread in threads:
            thread.join()
    middle = sorted(took)[len(took) // 2]
    return [f"{seconds * 1e3:,.2f}" for seconds in (middle, max(took), max(gaps))]


def _command(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})


if __name__ == "__main__":
    main()
