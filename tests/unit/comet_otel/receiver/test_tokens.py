"""Bearer tokens while their file goes through what administrators do to it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from comet_otel.receiver.errors import UnauthenticatedError
from comet_otel.receiver.tokens import Tokens


@pytest.fixture
def path(tmp_path) -> Path:
    """Return a file with one token."""
    found = tmp_path / "tokens"
    found.write_text("old\n")
    return found


def test_a_file_that_could_not_be_read_is_read_when_it_can_be(path, monkeypatch) -> None:
    """A new file that gets its permissions later, which changes neither its time nor its size, takes effect then."""
    tokens = Tokens(path)
    path.write_text("another\n")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError("not yours")))
        tokens.refresh()
    tokens.check("Bearer old")
    tokens.refresh()
    tokens.check("Bearer another")
    with pytest.raises(UnauthenticatedError):
        tokens.check("Bearer old")


def test_a_file_that_is_gone_is_no_secret(path, caplog) -> None:
    """Without its file the receiver goes on with the tokens that it knows, and says so; a new file takes effect."""
    tokens = Tokens(path)
    path.unlink()
    with caplog.at_level(logging.WARNING):
        tokens.refresh()
    assert "those read before stay in force" in caplog.text
    tokens.check("Bearer old")
    path.write_text("another\n")
    tokens.refresh()
    tokens.check("Bearer another")


def test_the_same_file_is_read_once(path, monkeypatch) -> None:
    """A file that has not changed costs a look, and no reading."""
    tokens = Tokens(path)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("read"))
    tokens.refresh()
    os.utime(path, (1, 1))
    with pytest.raises(pytest.fail.Exception):
        tokens.refresh()
