"""Small real filesystems in loop images, to fill them up. Needs root and the mkfs programs; skips visibly without."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "--mixed"],
}
_IMAGE_BYTES = {"ext4": 32 << 20, "xfs": 300 << 20, "btrfs": 48 << 20}
"""The least that each kind can be made with, or a little more."""
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

_PATIENCE_SECONDS = 20.0

KINDS = tuple(_MKFS)


@contextlib.contextmanager
def mounted_image(directory: Path, kind: str, size: int | None = None) -> Iterator[Path]:
    """Make, mount and in any case unmount a small filesystem; skip the test where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a filesystem")
    program = shutil.which(_MKFS[kind][0], path=_PATH)
    if program is None:
        pytest.skip(f"{_MKFS[kind][0]} is not installed (make system-tools)")
    image, mount_point = directory / f"{kind}.img", directory / kind
    with image.open("wb") as file:
        file.truncate(size or _IMAGE_BYTES[kind])
    mount_point.mkdir()
    subprocess.run([program, *_MKFS[kind][1:], str(image)], check=True, capture_output=True)
    mounted = _run(["mount", "-o", "loop", str(image), str(mount_point)])
    if mounted.returncode != 0:
        pytest.skip(f"{kind} cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield mount_point
    finally:
        _unmount(mount_point)
        image.unlink()


@contextlib.contextmanager
def read_only_again(mount_point: Path) -> Iterator[None]:
    """Mount a filesystem read-only for a while."""
    subprocess.run(["mount", "-o", "remount,ro", str(mount_point)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(mount_point)], check=True, capture_output=True)


def free_bytes(directory: Path) -> int:
    """Return what can still be taken of a volume."""
    volume = os.statvfs(directory)
    return volume.f_bavail * volume.f_frsize


def fill(directory: Path, *, leave: int) -> Path:
    """Take all but about ``leave`` bytes of a volume by one file, and return it."""
    ballast = directory / "ballast"
    with ballast.open("ab") as file:
        for step in (1 << 20, 1 << 16, 1 << 12):
            while free_bytes(directory) - leave >= step:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
                except OSError:
                    break
        # What fallocate may not have, plain writes may (and what they leave, the kernel keeps for itself).
        if leave == 0:
            with contextlib.suppress(OSError):
                while os.write(file.fileno(), bytes(4096)):
                    os.fsync(file.fileno())
    os.sync()
    return ballast


def remove_ballast(directory: Path) -> None:
    """Give back what :func:`fill` took, and return when the volume has it: some free blocks in the background."""
    ballast = directory / "ballast"
    expected = free_bytes(directory) + min(1 << 20, ballast.stat().st_blocks * 512 // 2)
    ballast.unlink()
    os.sync()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while free_bytes(directory) < expected and time.monotonic() < deadline:
        time.sleep(0.01)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


def _unmount(mount_point: Path) -> None:
    result = _run(["umount", str(mount_point)])
    if result.returncode != 0:
        # Something still has a file open; let go lazily, so that nothing stays mounted behind the test.
        _run(["umount", "--lazy", str(mount_point)])
        raise AssertionError(f"{mount_point} was still in use: {result.stderr}")
