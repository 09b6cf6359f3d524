"""Fixtures of the tests that start real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from demo.processes import Processes
from tests.integration.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def node(tmp_path) -> Iterator[Node]:
    """Return a node whose processes end with the test."""
    with Processes(tmp_path) as processes:
        yield Node(tmp_path, processes)
