"""docs/delivery.md says of every answer what the table in the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shipper.outcome import GRPC_KINDS, HTTP_KINDS, Kind

DOCUMENT = Path(__file__).parents[3] / "docs" / "delivery.md"


def row(kind: Kind) -> str:
    """Return the answers of one kind, as the document lists them."""
    (line,) = re.findall(rf"^\| {kind.value} \|.*\|(.*)\|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_status_is_in_the_row_of_its_kind(kind) -> None:
    """No more and no less; RESOURCE_EXHAUSTED is in three, with its conditions."""
    names = set(re.findall(r"`([A-Z_]+)`", row(kind))) - {"RESOURCE_EXHAUSTED"}
    assert names == {name for name, found in GRPC_KINDS.items() if found is kind} - {"RESOURCE_EXHAUSTED"}
    http = re.search(r"HTTP ((?:\d{3} ?)+)", row(kind))
    statuses = {int(text) for text in http.group(1).split()} if http else set()
    assert statuses == {status for status, found in HTTP_KINDS.items() if found is kind}
