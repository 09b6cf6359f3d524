"""A door that remembers what has reached the disk, and what a power cut may leave of everything else."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.support.small_log import QuickDoor

SECTOR = 512


class PowerDoor(QuickDoor):
    """The machine in one boot. What was synced survives its end; of the rest any sector may or may not."""

    def __init__(self, boot: int, directory: Path) -> None:
        self._boot = boot.to_bytes(16, "big")
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int]] = {}
        # What is there at the start is on the disk.
        for folder, _, files in os.walk(directory):
            self.sync_directory(folder)
            for name in files:
                path = Path(folder, name)
                self._contents[path.stat().st_ino] = path.read_bytes()

    def boot_id(self) -> bytes:
        """This boot's."""
        return self._boot

    def sync_data(self, fd: int) -> None:
        """Note what the file holds now."""
        status = os.fstat(fd)
        self._contents[status.st_ino] = os.pread(fd, status.st_size, 0)

    def sync_directory(self, path: str) -> None:
        """Note the names in the directory now."""
        self._names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}

    def cut_power(self, directory: Path, target: Path, chance: random.Random) -> None:
        """Make ``target`` one of the states in which a power cut now may leave ``directory``."""
        for folder, _, _ in os.walk(directory):
            copied = target / Path(folder).relative_to(directory)
            copied.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable = self._names.get(folder, {})
            for entry in os.scandir(folder):
                if entry.is_dir():
                    continue
                now = Path(entry.path).read_bytes()
                synced = self._contents.get(entry.inode(), b"")
                survivor = _survivor(synced, now, chance)
                if durable.get(entry.name) != entry.inode() and chance.random() < 0.4:
                    # The name itself was not synced: it is missing, or still the file's that was replaced.
                    if entry.name not in durable:
                        continue
                    survivor = self._contents.get(durable[entry.name], b"")
                (copied / entry.name).write_bytes(survivor)
                (copied / entry.name).chmod(0o600)


def _survivor(synced: bytes, now: bytes, chance: random.Random) -> bytes:
    """Bytes of a file of which some sectors reached the disk and others did not."""
    kind = chance.choice(("synced", "now", "torn", "mixed"))
    if kind == "synced":
        return synced
    if kind == "now":
        return now
    size = chance.choice((len(synced), len(now)))
    synced, now = synced.ljust(size, b"\0")[:size], now.ljust(size, b"\0")[:size]
    if kind == "torn":
        at = chance.randrange(0, size + 1) // SECTOR * SECTOR
        return now[:at] + synced[at:]
    return b"".join((now if chance.random() < 0.5 else synced)[at : at + SECTOR] for at in range(0, size, SECTOR))
