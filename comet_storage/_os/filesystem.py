"""Which filesystem a directory is on, and what that filesystem can promise."""

from __future__ import annotations

import os

_MOUNTS_PATH = "/proc/self/mountinfo"

PREALLOCATING = frozenset({"ext4", "xfs", "tmpfs", "ext3", "ext2"})
"""Filesystems where a store to preallocated blocks through a map cannot run out of space (a fatal signal elsewhere)."""

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs", "fuse.glusterfs"}
)
"""Filesystems whose locks and maps do not hold between hosts."""


def filesystem_type(path: str) -> str:
    """Type of the mount that ``path`` is in, as in ``/proc/mounts``; "" where that cannot be told."""
    try:
        with open(_MOUNTS_PATH, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return ""
    target = os.path.realpath(path)
    best, best_type = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount_point = _unescaped(left.split()[4])
        inside = target == mount_point or target.startswith(mount_point.rstrip("/") + "/")
        # Later lines hide earlier ones of the same mount point.
        if inside and len(mount_point) >= len(best):
            best, best_type = mount_point, right.split()[0]
    return best_type


def _unescaped(text: str) -> str:
    """Mount points have space, tab, newline and backslash as octal escapes."""
    for code in (r"\040", r"\011", r"\012", r"\134"):
        text = text.replace(code, chr(int(code[1:], 8)))
    return text
