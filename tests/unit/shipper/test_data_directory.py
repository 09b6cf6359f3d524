"""What can be told of a data directory from outside."""

from __future__ import annotations

import os

import pytest

from shipper.data_directory import find_log
from shipper.errors import EnvironmentFailedError


def test_a_log_is_known_by_its_mark(tmp_path) -> None:
    """Without it there is something to wait for, not an error; another log in its place is noticed."""
    assert find_log(tmp_path / "a" / "b") is None
    assert find_log(tmp_path) is None
    (tmp_path / "log.json").touch()
    first = find_log(tmp_path)
    assert first is not None
    assert find_log(tmp_path) == first
    (tmp_path / "log.json").unlink()
    (tmp_path / "log.json").touch()  # perhaps with the same inode
    assert find_log(tmp_path) not in {None, first}


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_place_of_the_directory_is_an_error(tmp_path, name) -> None:
    """It will not become a log by waiting."""
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailedError, match=f"{tmp_path}/{name}"):
        find_log(tmp_path / name)


def test_a_directory_without_permission_is_an_error(tmp_path, monkeypatch) -> None:
    """The message says so, instead of waiting for a log that cannot be seen."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(EnvironmentFailedError, match="no permission"):
        find_log(tmp_path)


def test_a_mark_that_cannot_be_looked_at_is_an_error(tmp_path) -> None:
    """The message says why."""
    (tmp_path / "log.json").symlink_to("log.json")
    with pytest.raises(EnvironmentFailedError, match="symbolic link"):
        find_log(tmp_path)
