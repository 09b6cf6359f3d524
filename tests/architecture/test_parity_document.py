"""The document that maps the original to this project says what is so, and leaves nothing out."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

import comet_storage
from tests.architecture.source_tree import ROOT

DOCUMENT = ROOT / "docs/comet-parity.md"
NAMES = Path(__file__).with_name("comet_v1_names.txt")
FLAWS = range(1, 32)
NOTHING = "\u2014"

_CODE = re.compile(r"`([^`]+)`")


def rows(heading: str) -> list[list[str]]:
    """Return the cells of every table row below a heading of the second level."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| original |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


NAME_ROWS = rows("Exported names of v1.0.0")
ADDED_ROWS = rows("Added up to v1.3.8")
FLAW_ROWS = [row for row in rows("Flaws") if row[0].isdigit()]


def exists(name: str) -> bool:
    """Tell whether `Client.append`, `index.EntryPosition`, `Consumer.process(stop)` or `_shard/page.py` is there."""
    if name.endswith(".py"):
        return (ROOT / "comet_storage" / name).is_file()
    path, _, parameter = name.rstrip(")").partition("(")
    found: object = comet_storage
    for part in path.split("."):
        if not hasattr(found, part) and dataclasses.is_dataclass(found):
            return part in {field.name for field in dataclasses.fields(found)}
        if inspect.ismodule(found) and not hasattr(found, part):
            try:
                found = importlib.import_module(f"{found.__name__}.{part}")
            except ImportError:
                return False
            continue
        if not hasattr(found, part):
            # Set by the constructor.
            return inspect.isclass(found) and f"self.{part} = " in inspect.getsource(found)
        found = getattr(found, part)
    return not parameter or parameter in inspect.signature(found).parameters  # type: ignore[arg-type]  # only of calls


@functools.cache
def _named_tests(path: str) -> frozenset[str]:
    """Name the tests of a module, none of one that is not there."""
    if not (ROOT / path).is_file():
        return frozenset()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def missing(row: list[str]) -> list[str]:
    """Return those names of ours in a row's second cell, and files in its notes, that are not there."""
    named = _CODE.findall(row[1]) + [code for code in _CODE.findall(row[2]) if code.endswith(".py")]
    return [name for name in named if not exists(name)]


def missing_tests(row: list[str]) -> list[str]:
    """Return those tests of a flaw's row that are not there."""
    tests = [(test, *test.partition("::")[::2]) for test in _CODE.findall(row[3])]
    return [test for test, path, name in tests if not name.startswith("test_") or name not in _named_tests(path)]


def test_every_exported_name_of_the_original_is_answered_once() -> None:
    """Functions, types, fields and methods; and no name that it did not have."""
    original = NAMES.read_text(encoding="utf-8").split()
    assert len(original) > 200
    assert sorted(_CODE.findall(row[0])[0] for row in NAME_ROWS) == sorted(original)


@pytest.mark.parametrize("row", NAME_ROWS + ADDED_ROWS, ids=lambda row: row[0].strip("`"))
def test_an_answer_is_a_name_of_ours_or_a_reason(row) -> None:
    """Three cells; a name that is there, or a dash and why."""
    original, here, notes = row
    assert original
    assert _CODE.fullmatch(here) or (here == NOTHING and notes)
    assert missing(row) == []


def test_no_name_is_pending() -> None:
    """Every name and every test that the document gives is there."""
    assert [name for row in NAME_ROWS + ADDED_ROWS for name in missing(row)] == []
    assert [test for row in FLAW_ROWS for test in missing_tests(row)] == []


def test_every_flaw_is_answered_once() -> None:
    """1 to 31, in order, each with an answer."""
    assert [int(row[0]) for row in FLAW_ROWS] == list(FLAWS)
    assert all(len(row) == 4 and row[1] and row[2] for row in FLAW_ROWS)


@pytest.mark.parametrize("row", FLAW_ROWS, ids=lambda row: row[0])
def test_a_flaw_is_shown_to_be_gone_by_tests_that_exist(row) -> None:
    """Each names one test at least, by path and name."""
    assert _CODE.findall(row[3])
    assert missing_tests(row) == []


@pytest.mark.parametrize(
    "name", ["Client.nothing", "nothing", "index.Nothing", "Client.append(nothing)", "_shard/nothing.py", "nothing.x"]
)
def test_a_name_that_is_not_there_is_noticed(name) -> None:
    """The check can fail."""
    assert not exists(name)
