"""What a package lists in `__all__` is what it offers: nothing is public by accident, nothing is promised in vain."""

from __future__ import annotations
import __future__

import importlib
import types

import pytest

from tests.architecture.source_tree import PACKAGES, ROOT, modules

PUBLIC_MODULES = [
    module.name
    for package in PACKAGES
    for module in modules(package)
    if not any(part.startswith("_") for part in module.name.split("."))
]


def public_namespace(module: types.ModuleType) -> set[str]:
    """Give the names that a reader of the module would take for public."""
    return {name for name in dir(module) if not name.startswith("_") and not _incidental(module, name)}


def _incidental(module: types.ModuleType, name: str) -> bool:
    value = getattr(module, name)
    # Importing a submodule anywhere makes it an attribute of its package; `annotations` is how __future__ works.
    is_submodule = isinstance(value, types.ModuleType) and value.__name__ == f"{module.__name__}.{name}"
    return is_submodule or isinstance(value, __future__._Feature)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_namespace_of_a_package_is_its_all(package) -> None:
    """Every name without an underscore in a package's namespace is in `__all__`, and the other way round."""
    module = importlib.import_module(package)
    assert public_namespace(module) == set(module.__all__) - {"__version__"}


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_every_name_in_all_exists_once(name) -> None:
    """What a public module promises in `__all__` can be had from it, and is listed once."""
    module = importlib.import_module(name)
    promised = list(getattr(module, "__all__", []))
    assert [missing for missing in promised if not hasattr(module, missing)] == []
    assert len(promised) == len(set(promised))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_tells_type_checkers_that_it_is_typed(package) -> None:
    """Each package carries `py.typed`, so that its users' type checkers read its annotations."""
    assert (ROOT / package / "py.typed").is_file()


def _made_up(source: str) -> types.ModuleType:
    module = types.ModuleType("made_up")
    exec(source, module.__dict__)  # noqa: S102 - the source is the literal in the test below
    return module


def test_a_name_that_is_public_by_accident_is_found() -> None:
    """The rule sees a helper without underscore, and a library's module that an import left behind."""
    module = _made_up("from __future__ import annotations\nimport os\ndef helper(): ...\n_private = 1\n")
    assert public_namespace(module) == {"helper", "os"}


def test_a_submodule_is_not_a_public_name() -> None:
    """The rule does not count the packages' own modules, which every import of them leaves in the namespace."""
    module = _made_up("")
    vars(module)["part"] = types.ModuleType("made_up.part")
    assert public_namespace(module) == set()
