"""Reads the packages' source as syntax trees, so that a rule about the code needs neither its import nor its run."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("comet_storage", "comet_otel", "shipper", "comet_cli")


@dataclass(frozen=True)
class Module:
    """One module of the project, or, in a self-check, one that only the test made up."""

    name: str
    source: str
    is_package: bool = False

    @functools.cached_property
    def tree(self) -> ast.Module:
        """The module's syntax tree."""
        return ast.parse(self.source, filename=self.name)


@dataclass(frozen=True)
class Import:
    """One imported name: `from a.b import c` gives the target `a.b` and the name `c`, `import a.b` only the target."""

    target: str
    name: str | None
    line: int

    def module(self, known: frozenset[str]) -> str:
        """Name the module that is meant: `a.b.c` if that is a module of the project, otherwise `a.b`."""
        longest = self.target if self.name is None else f"{self.target}.{self.name}"
        return longest if longest in known else self.target


@functools.cache
def modules(package: str) -> tuple[Module, ...]:
    """Read every module of one package; a package that is not there fails, because an empty rule would always hold."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        found.append(Module(name, path.read_text(encoding="utf-8"), is_package))
    if not found:
        message = f"no modules found in {ROOT / package}"
        raise LookupError(message)
    return tuple(found)


@functools.cache
def module_names() -> frozenset[str]:
    """Name every module of the project."""
    return frozenset(module.name for package in PACKAGES for module in modules(package))


def imports(module: Module) -> Iterator[Import]:
    """Give every import of a module: also those inside functions and behind TYPE_CHECKING, relative ones resolved."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            target = _absolute(module, node)
            for alias in node.names:
                yield Import(target, alias.name, node.lineno)


def inside(name: str, package: str) -> bool:
    """Tell whether a dotted name is the package or something in it."""
    return name == package or name.startswith(f"{package}.")


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    # One dot means the package that holds the module, which for a package is itself.
    parts = module.name.split(".")
    base = parts[: len(parts) - node.level + (1 if module.is_package else 0)]
    return ".".join([*base, *([node.module] if node.module else [])])
