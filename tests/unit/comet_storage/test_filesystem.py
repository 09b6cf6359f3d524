"""Which filesystem a directory is on, read from the kernel's own table."""

from __future__ import annotations

import pytest

from comet_storage._os import filesystem
from comet_storage._os.filesystem import NETWORK, PREALLOCATING, filesystem_type

MOUNTS = r"""21 1 8:1 / / rw shared:1 - ext4 /dev/root rw
30 21 0:40 / /data rw - btrfs /dev/sdb rw
31 30 0:41 / /data/deep rw master:2 shared:9 - xfs /dev/sdc rw
32 21 0:42 / /data/deep rw - nfs4 server:/export rw
33 21 0:43 / /with\040space rw - tmpfs tmpfs rw
34 21 0:44 / /back\134slash rw - fuse.sshfs host: rw
"""


@pytest.fixture(autouse=True)
def _mounts(tmp_path, monkeypatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS, encoding="utf-8")
    monkeypatch.setattr(filesystem, "_MOUNTS_PATH", str(table))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/database", "ext4"),
        ("/data", "btrfs"),
        ("/data/x/y", "btrfs"),
        ("/data/deep/er", "nfs4"),
        ("/with space/x", "tmpfs"),
        ("/back\\slash", "fuse.sshfs"),
    ],
)
def test_the_innermost_and_latest_mount_counts(path, kind) -> None:
    """Names that only begin alike are other directories; a later mount hides an earlier one."""
    assert filesystem_type(path) == kind


def test_without_the_table_the_kind_is_unknown(monkeypatch) -> None:
    """Where there is no such file, the answer is empty: neither a network, nor safe to map."""
    monkeypatch.setattr(filesystem, "_MOUNTS_PATH", "/nowhere/mountinfo")
    assert filesystem_type("/data") == ""


def test_no_filesystem_is_both_safe_to_map_and_remote() -> None:
    """The two lists exclude each other."""
    assert not PREALLOCATING & NETWORK
