"""Modules and functions stay short enough to be read at one go; there is no list of exceptions."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source_tree import PACKAGES, Module, modules

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70


def oversized(module: Module) -> Iterator[str]:
    """Give the module if it is too long, and each of its functions that is."""
    lines = len(module.source.splitlines())
    if lines > MODULE_LINES_MAX:
        yield f"{module.name} has {lines} lines, more than {MODULE_LINES_MAX}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = function_lines(node)
            if length > FUNCTION_LINES_MAX:
                yield f"{module.name}:{node.lineno} {node.name} has {length} lines, more than {FUNCTION_LINES_MAX}"


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines from a function's `def` to its end, without the docstring: to explain more must cost nothing."""
    first = node.body[0]
    docstring = 0
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        docstring = _last_line(first) - first.lineno + 1
    return _last_line(node) - node.lineno + 1 - docstring


def _last_line(node: ast.stmt) -> int:
    return node.lineno if node.end_lineno is None else node.end_lineno


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_and_functions_stay_short(package) -> None:
    """No module is longer than 400 lines and no function longer than 70, docstrings not counted."""
    assert [found for module in modules(package) for found in oversized(module)] == []


def _function(statements: int, docstring_lines: int = 0) -> str:
    docstring = ['    """', *["    text"] * (docstring_lines - 2), '    """'] if docstring_lines else []
    return "\n".join(["def f():", *docstring, *["    x = 1"] * statements, ""])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(_function(FUNCTION_LINES_MAX - 1), [], id="a function at the limit"),
        pytest.param(_function(FUNCTION_LINES_MAX), ["made_up:1 f has 71 lines, more than 70"], id="one over it"),
        pytest.param(_function(FUNCTION_LINES_MAX - 1, docstring_lines=30), [], id="docstring not counted"),
        pytest.param("async " + _function(FUNCTION_LINES_MAX), ["made_up:1 f has 71 lines, more than 70"], id="async"),
        pytest.param("x = 1\n" * MODULE_LINES_MAX, [], id="a module at the limit"),
        pytest.param(
            "x = 1\n" * (MODULE_LINES_MAX + 1), ["made_up has 401 lines, more than 400"], id="a module one over it"
        ),
    ],
)
def test_what_is_too_long_is_found(source, expected) -> None:
    """The rule fails one line beyond each limit, and not before."""
    assert list(oversized(Module("made_up", source))) == expected
