"""One tree of errors, drawn at the top of its module, and every error of use to whoever meets it."""

from __future__ import annotations

import ast
import builtins
import inspect
import pickle
import re
from collections.abc import Iterator

import pytest

import comet_storage
from comet_storage import CometError, ConfigError, errors
from comet_storage._os.descriptors import LostDescriptorError
from tests.architecture.source_tree import modules

_LINE = re.compile(r"^ {4}([│├└─ ]*)(\w+)", re.MULTILINE)


def tree(base: type[CometError] = CometError) -> Iterator[type[CometError]]:
    """Return a class and all that derive from it."""
    yield base
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from tree(kind)


def drawn() -> dict[str, str | None]:
    """Return each name of the drawing and the one it hangs from."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for marks, name in _LINE.findall(errors.__doc__ or ""):
        depth = len(marks) // 4
        parents[name] = path[depth - 1] if depth else None
        path[depth:] = [name]
    return parents


KINDS = list(tree())


def test_the_drawing_is_the_tree() -> None:
    """Every class is in it below the one that it derives from, and no other name."""
    actual = {kind.__name__: kind.__bases__[0].__name__ for kind in KINDS}
    actual[CometError.__name__] = None  # type: ignore[assignment]
    assert drawn() == actual


def test_every_error_can_be_imported_from_the_package() -> None:
    """Whoever catches one finds it beside the rest."""
    names = {kind.__name__ for kind in KINDS}
    assert names == set(errors.__all__)
    assert {name for name in names if getattr(comet_storage, name, None) is not getattr(errors, name)} == set()


@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.__name__)
def test_an_error_says_cause_whether_retrying_helps_and_what_to_do(kind) -> None:
    """The cause in its docstring, the rest as attributes of its own."""
    cause = inspect.getdoc(kind)
    assert cause
    assert cause != inspect.getdoc(CometError)
    assert isinstance(kind.retryable, bool)
    assert "remedy" in vars(kind)
    assert len(kind.remedy.split()) > 2


def test_only_time_or_another_process_makes_an_error_worth_a_retry() -> None:
    """What the caller got wrong stays wrong."""
    worth_it = {kind.__name__ for kind in KINDS if kind.retryable}
    wrong_calls = {kind.__name__ for kind in KINDS if issubclass(kind, (ValueError, TypeError))}
    assert {"LogBusyError", "LogFullError", "ShardOwnedError"} <= worth_it
    assert worth_it & wrong_calls == set()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_crosses_processes_as_it_is(kind) -> None:
    """Pools send exceptions pickled."""
    error = kind("what happened")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes


def test_a_configuration_error_keeps_its_problems_across_processes() -> None:
    """They can be listed one by one."""
    error = pickle.loads(pickle.dumps(ConfigError("a; b", ["a", "b"])))  # noqa: S301 - our own bytes
    assert error.problems == ("a", "b")
    assert ConfigError("only this").problems == ("only this",)


def test_the_engine_has_no_public_error_outside_of_the_tree() -> None:
    """Every `raise Name(...)` in the engine names a class of the tree, one of Python's, or a private one.

    What the door raises itself is an OSError like those of the kernel, and is turned into one of the tree like them.
    """
    assert issubclass(LostDescriptorError, OSError)
    known = {kind.__name__ for kind in KINDS} | set(vars(builtins)) | {LostDescriptorError.__name__}
    strange = [
        f"{module.name}:{node.lineno} raises {node.exc.func.id}"
        for module in modules("comet_storage")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
        if node.exc.func.id[0].isupper() and node.exc.func.id not in known
    ]
    assert strange == []
