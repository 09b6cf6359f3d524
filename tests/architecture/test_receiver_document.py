"""The conformance table of the receiver and its tests are the same list."""

from __future__ import annotations

import ast
import re

from tests.architecture.source_tree import ROOT

DOCUMENT = ROOT / "docs" / "receiver.md"
TESTS = ROOT / "tests" / "integration" / "receiver"


def test_every_row_is_a_test_and_every_test_a_row() -> None:
    """Each test of the two conformance modules is named by exactly one row of the table, in the same order."""
    rows = re.findall(r"\| `(test_\w+)` \|$", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    defined = [
        node.name
        for name in ("test_http_conformance.py", "test_grpc_conformance.py")
        for node in ast.parse((TESTS / name).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(rows) > 30
    assert rows == defined
