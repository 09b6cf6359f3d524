"""Kept descriptors close what is theirs, once."""

from __future__ import annotations

import os

import pytest

from comet_storage._os.descriptors import KeptDirectory, Opening


def test_a_kept_directory_that_was_closed_leaves_alone_who_has_its_number_and_the_same_directory(tmp_path) -> None:
    """Listing the directory gets the number that was freed; closing it would end that with EBADF."""
    kept = KeptDirectory(os.open(tmp_path, os.O_RDONLY))
    number = int(kept)
    kept.close()
    other = os.open(tmp_path, os.O_RDONLY)
    assert other == number
    kept.close()
    del kept
    assert os.fstat(other).st_ino == tmp_path.stat().st_ino
    os.close(other)


def open_in_a_child(descriptor: int) -> bool:
    """Whether a child that is forked now has the descriptor open."""
    pid = os.fork()
    if pid == 0:
        try:
            os.fstat(descriptor)
        except OSError:
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_child_closes_what_another_thread_was_opening(tmp_path, kind) -> None:
    """Between the system call and the note that it is kept; anything else that is open stays."""
    path = tmp_path / kind
    path.mkdir() if kind == "directory" else path.touch()
    descriptor, other = os.open(path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    try:
        with Opening(str(path)):
            assert not open_in_a_child(descriptor)
            assert open_in_a_child(other)
        assert open_in_a_child(descriptor)
    finally:
        os.close(descriptor)
        os.close(other)


def test_a_path_that_is_gone_hinders_no_child(tmp_path) -> None:
    """It has nothing to close."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with Opening(str(tmp_path / "gone")):
        assert open_in_a_child(descriptor)
    os.close(descriptor)
