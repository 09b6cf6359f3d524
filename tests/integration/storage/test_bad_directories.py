"""A data directory that cannot be used is a typed error that says why, and is left as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from comet_storage import (
    Client,
    CometConfig,
    ShardOwnedError,
    StorageConfig,
    StorageIOError,
    UnsafeDirectoryError,
    UnsupportedFilesystemError,
    UnsupportedFormatError,
)
from comet_storage._os.door import Door
from tests.support.filesystems import mounted_image, read_only_again

SHARD = "events:v1:shard:0000"
NOBODY = 65534

_AS_NOBODY = f"""
import codecs, os, sys
from comet_storage import Client, CometError
codecs.lookup("ascii"), codecs.lookup("utf-8"), codecs.lookup("idna")
# Only now: the interpreter's own files may be closed to that user.
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
try:
    with Client(sys.argv[1], read_only=len(sys.argv) > 2) as client:
        if len(sys.argv) <= 2:
            client.append("{SHARD}", [b"x"])
except CometError as error:
    print(type(error).__name__, error)
else:
    print("no error")
"""


def as_nobody(directory: Path, *arguments: str) -> str:
    """Open a log and append to it as an unprivileged user, and return what that gave."""
    root = Path(__file__).parents[3]
    child = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(directory), *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=root,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


@pytest.fixture
def open_path(tmp_path) -> Path:
    """A directory whose parents any user may pass through."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o1:
            parent.chmod(parent.stat().st_mode | 0o11)
    return tmp_path


def test_a_data_directory_that_is_a_file_is_refused_and_untouched(tmp_path) -> None:
    """A file in the directory's place keeps its bytes."""
    path = tmp_path / "log"
    path.write_bytes(b"somebody's file")
    for read_only in (False, True):
        with pytest.raises(UnsafeDirectoryError, match="not a directory"):
            Client(path, read_only=read_only)
    assert path.read_bytes() == b"somebody's file"


def test_a_directory_below_a_file_is_an_io_error(tmp_path) -> None:
    """What cannot be made names the path and carries the cause."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageIOError, match="file") as caught:
        Client(tmp_path / "file" / "log")
    assert isinstance(caught.value.__cause__, NotADirectoryError)


def test_a_symbolic_link_is_refused_wherever_it_points(tmp_path) -> None:
    """Neither a link to a directory, nor to a file, nor to nothing is followed."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "file").write_bytes(b"")
    for name in ("real", "file", "nothing"):
        link = tmp_path / f"link-to-{name}"
        link.symlink_to(tmp_path / name)
        for path in (str(link), f"{link}/"):
            with pytest.raises(UnsafeDirectoryError, match="symbolic link"):
                Client(path)
    assert list((tmp_path / "real").iterdir()) == []
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", ["log.json", "log.lock"])
def test_a_symbolic_link_in_the_place_of_a_file_is_not_followed(name, tmp_path) -> None:
    """A link planted inside the directory leads nowhere: its target is neither read nor written."""
    target = tmp_path / "target"
    target.write_bytes(b"target")
    directory = tmp_path / "log"
    directory.mkdir(mode=0o700)
    (directory / name).symlink_to(target)
    with pytest.raises(StorageIOError), Client(directory) as client:
        client.append(SHARD, [b"x"])
    assert target.read_bytes() == b"target"


@pytest.mark.parametrize("name", ["owner.lock", "state", "00000000000000000000.segment"])
def test_a_symbolic_link_in_a_shard_is_not_followed(name, tmp_path) -> None:
    """The files of a shard are opened without following links as well."""
    target = tmp_path / "target"
    target.write_bytes(b"target")
    shard = tmp_path / "log/events/v1/shard-0000"
    with Client(tmp_path / "log") as client:
        client.append(SHARD, [b"x"])
    (shard / name).unlink()
    (shard / name).symlink_to(target)
    with Client(tmp_path / "log") as client, pytest.raises(StorageIOError):
        client.append(SHARD, [b"x"])
    assert target.read_bytes() == b"target"


def test_a_directory_that_everyone_may_write_is_refused(tmp_path) -> None:
    """A world-writable directory could be filled with somebody else's files; reading it is allowed."""
    directory = tmp_path / "log"
    with Client(directory) as client:
        client.append(SHARD, [b"x"])
    directory.chmod(0o777)
    with pytest.raises(UnsafeDirectoryError, match="writable by everyone"):
        Client(directory)
    with Client(directory, read_only=True) as client:
        assert client.len(SHARD) == 1


@pytest.mark.root
def test_a_directory_of_another_user_is_refused(tmp_path) -> None:
    """Not even root writes into a directory that somebody else controls."""
    directory = tmp_path / "log"
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    with pytest.raises(UnsafeDirectoryError, match=f"belongs to user {NOBODY}"):
        Client(directory)
    assert list(directory.iterdir()) == []


@pytest.mark.root
@pytest.mark.integration
def test_an_unprivileged_user_is_told_what_it_may_not(open_path) -> None:
    """Without the right to make, enter, write or own the directory, the error says which it was."""
    closed = open_path / "closed"
    closed.mkdir(mode=0o700)
    assert as_nobody(closed / "log").startswith("StorageIOError")

    own = open_path / "own"
    own.mkdir(mode=0o500)
    os.chown(own, NOBODY, NOBODY)
    assert as_nobody(own).startswith(f"StorageIOError no permission to write data directory {own}")
    own.chmod(0o300)
    assert as_nobody(own, "read-only").startswith(f"StorageIOError no permission to read data directory {own}")

    with Client(open_path / "roots") as client:
        client.append(SHARD, [b"x"])
    assert as_nobody(open_path / "roots").startswith("UnsafeDirectoryError")
    assert as_nobody(open_path / "roots", "read-only").startswith("StorageIOError no permission to read")

    own.chmod(0o700)
    assert as_nobody(own) == "no error\n"


@pytest.mark.root
def test_a_volume_that_is_mounted_read_only_can_be_read_and_not_written(tmp_path) -> None:
    """On a read-only volume, a writer gets an error that names the directory, and a reader every entry."""
    with mounted_image(tmp_path, "ext4") as volume:
        with Client(volume / "log") as client:
            client.append(SHARD, [b"x", b"y"])
        with read_only_again(volume):
            with pytest.raises(StorageIOError, match="log"):
                Client(volume / "log")
            with pytest.raises(StorageIOError, match="new"):
                Client(volume / "new")
            with Client(volume / "log", read_only=True) as client:
                assert [message.data for message in client.scan(SHARD)] == [b"x", b"y"]
        with Client(volume / "log") as client:
            assert client.append(SHARD, [b"z"])[0].entry_number == 2


def test_a_network_filesystem_is_refused_unless_it_is_allowed(tmp_path) -> None:
    """Locks and maps cannot be relied on there; who knows better can say so."""

    class NetworkDoor(Door):
        def filesystem_type(self, path: str) -> str:
            return "nfs4"

    with pytest.raises(UnsupportedFilesystemError, match="nfs4"):
        Client(tmp_path / "log", _door=NetworkDoor())
    allowed = CometConfig(storage=StorageConfig(allow_network_filesystem=True))
    with Client(tmp_path / "log", allowed, _door=NetworkDoor()) as client:
        client.append(SHARD, [b"x"])


def test_a_log_of_a_newer_format_is_refused_and_untouched(tmp_path) -> None:
    """An unknown major version is not guessed at."""
    with Client(tmp_path / "log") as client:
        client.append(SHARD, [b"x"])
    path = tmp_path / "log/log.json"
    members = json.loads(path.read_bytes())
    del members["checksum"]
    members["format"] = 2
    members["checksum"] = f"{zlib.crc32(json.dumps(members, sort_keys=True).encode()):08x}"
    path.write_text(json.dumps(members), encoding="ascii")
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(UnsupportedFormatError, match="version 2"):
            Client(tmp_path / "log", read_only=read_only)
    assert path.read_bytes() == before


def test_a_second_owner_is_told_who_the_first_one_is(tmp_path) -> None:
    """The error of a second writer names host, process, command and since when; the first one goes on."""
    code = (
        "import sys\nfrom comet_storage import Client, ShardOwnedError\n"
        "try:\n    Client(sys.argv[1]).append(sys.argv[2], [b'second'])\n"
        "except ShardOwnedError as error:\n    print(error, error.retryable)\n"
    )
    with Client(tmp_path / "log") as client:
        client.append(SHARD, [b"first"])
        child = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "log"), SHARD],
            check=False,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[3],
            timeout=60,
        )
        assert child.returncode == 0, child.stderr
        holder = json.loads((tmp_path / "log/events/v1/shard-0000/owner.lock").read_bytes()[:1024])
        for fact in (f"process {os.getpid()}", str(holder["host"]), str(holder["since"]), holder["command"], SHARD):
            assert fact in child.stdout
        assert "True" in child.stdout
        client.append(SHARD, [b"still the first"])
        assert [message.data for message in client.scan(SHARD)] == [b"first", b"still the first"]


def test_a_second_client_of_the_same_process_is_a_second_owner(tmp_path) -> None:
    """Two clients of one process do not share a shard by accident; when the first closes, the second may have it."""
    with Client(tmp_path / "log") as first, Client(tmp_path / "log") as second:
        first.append(SHARD, [b"first"])
        with pytest.raises(ShardOwnedError, match=f"process {os.getpid()}"):
            second.append(SHARD, [b"second"])
        first.close()
        assert second.append(SHARD, [b"second"])[0].entry_number == 1


def test_the_holder_is_named_also_when_its_command_is_no_text(tmp_path, monkeypatch) -> None:
    """Arguments that no encoding explains, and very long ones, leave the lock file readable."""
    monkeypatch.setattr(sys, "argv", ['\udcff\x01"\\é' * 100, "x" * 5000])
    with Client(tmp_path / "log") as first, Client(tmp_path / "log") as second:
        first.append(SHARD, [b"first"])
        with pytest.raises(ShardOwnedError, match=f"process {os.getpid()}"):
            second.append(SHARD, [b"second"])
