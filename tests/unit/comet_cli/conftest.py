"""A log and the command that looks after it."""

from __future__ import annotations

import pytest

from tests.support.comet_command import Command, make_command


@pytest.fixture
def comet(tmp_path, monkeypatch, capfdbinary) -> Command:
    """Runs the command on the log in ``tmp_path / "log"``."""
    return make_command(tmp_path / "log", monkeypatch, capfdbinary)
