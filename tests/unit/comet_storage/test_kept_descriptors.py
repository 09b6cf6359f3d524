"""Kept descriptors close what is theirs, once."""

from __future__ import annotations

import os

from comet_storage._os.descriptors import KeptDirectory


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
