"""The documents say what the source says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from comet_storage import CometConfig
from comet_storage._format import limits
from comet_storage._shard.layout import NUMBER_MAX

ROOT = Path(__file__).parents[3]
ENGINE = ROOT / "comet_storage"
DOCS = ROOT / "docs"


def test_every_failpoint_of_the_source_is_in_the_table_and_no_other() -> None:
    """Tests find the instants to kill at in docs/architecture.md."""
    source = "".join(path.read_text(encoding="utf-8") for path in ENGINE.rglob("*.py"))
    table = (DOCS / "architecture.md").read_text(encoding="utf-8").split("## Failpoints")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_.]+)`", table, re.MULTILINE)) == set(
        re.findall(r'failpoint\("([^"]+)"\)', source)
    )


def test_every_module_named_in_the_table_of_layers_exists() -> None:
    """Each word in code style in a row of a folder is a module of that folder, and none is left out."""
    table = (DOCS / "architecture.md").read_text(encoding="utf-8").split("| layer |")[1].split("\n\n")[0]
    for row in table.splitlines():
        folder = re.match(r"\| `(_[a-z]+)` \|", row)
        if folder is None or not (ENGINE / folder[1]).is_dir():
            continue
        named = set(re.findall(r"`([a-z_]+)`", row.split("|", 2)[2]))
        assert named == {path.stem for path in (ENGINE / folder[1]).glob("*.py")} - {"__init__"} - _UNNAMED


_UNNAMED = {"context"}
"""Holds parameters only."""


def test_the_limits_in_the_format_are_those_of_the_code() -> None:
    """Sizes stand in the document as they are in the code."""
    text = (DOCS / "disk-format.md").read_text(encoding="utf-8")
    for fact in (
        f"version {limits.FORMAT_MAJOR}.{limits.FORMAT_MINOR}",
        f"| frame header | {limits.FRAME_HEADER_BYTES} |",
        f"1 to {limits.FRAME_ENTRIES_MAX:,}",
        f"before compression | {limits.FRAME_CONTENT_BYTES_MAX:,} |",
        f"| segment header | {limits.SEGMENT_HEADER_BYTES:,} = 2 \u00d7 {limits.SECTOR_BYTES} |",
        f"| group record | {limits.GROUP_FILE_BYTES:,} = {limits.GROUP_SLOTS} \u00d7 {limits.GROUP_SLOT_BYTES:,} |",
        f"| {limits.GROUP_RANGES_MAX} stored |",
        f"one per {limits.INDEX_INTERVAL_BYTES:,} bytes",
    ):
        assert fact in text
    assert NUMBER_MAX == 1 << 63
    assert "above 2^63" in text


@pytest.mark.parametrize("path", sorted((DOCS / "decisions").glob("[0-9]*.md")), ids=lambda path: path.stem)
def test_a_decision_record_has_its_headings_and_its_row(path) -> None:
    """The format of docs/decisions/README.md holds for every record."""
    text = path.read_text(encoding="utf-8")
    number = path.name[:4]
    assert re.match(rf"# {number}\. .+\n\nStatus: .+\nDate: \d{{4}}-\d{{2}}-\d{{2}}\n", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Alternatives", "Consequences"]
    assert f"[{number}]({path.name})" in (DOCS / "decisions/README.md").read_text(encoding="utf-8")


def _as_text(value: object) -> str:
    """Write a default as docs/configuration.md has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, float):
        return f"{value / 60:g} min" if value >= 60 else f"{value:g} s"
    if isinstance(value, int):
        for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
            if value >= size and value % size == 0:
                return f"{value // size} {unit}"
        return f"{value:,}"
    return "none"


def test_every_setting_is_in_its_document_with_its_default() -> None:
    """And no other is."""
    config = CometConfig.default()
    expected = [
        (f"{section.name}.{setting.name}", _as_text(getattr(getattr(config, section.name), setting.name)))
        for section in fields(config)
        for setting in fields(getattr(config, section.name))
    ]
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+\.\w+)` \| ([^|]+) \|", text, re.MULTILINE)) == sorted(expected)
