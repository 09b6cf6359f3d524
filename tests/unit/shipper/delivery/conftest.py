"""What most tests of the delivery begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comet_storage import Client


@pytest.fixture
def client(tmp_path) -> Iterator[Client]:
    """Return an open log."""
    with Client(tmp_path / "log") as opened:
        yield opened
