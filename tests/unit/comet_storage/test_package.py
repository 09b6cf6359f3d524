"""The package loads what is asked of it, when it is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

import comet_storage


def test_every_public_name_is_had_from_the_package() -> None:
    """By attribute and by `dir`, as if it had been imported at once; other names are none."""
    for name in comet_storage.__all__:
        assert getattr(comet_storage, name).__name__ == name
        assert name in dir(comet_storage)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = comet_storage.Nothing


def test_modules_are_had_from_the_package_too() -> None:
    """Whoever imported the package alone could always say `comet_storage.errors`."""
    code = "import comet_storage\nassert comet_storage.errors.CometError is comet_storage.CometError"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_the_package_loads_no_module_of_it() -> None:
    """An application that only names it in an `except` pays for it when it uses it."""
    code = "import sys, comet_storage\nprint(*(name for name in sys.modules if name.startswith('comet_storage')))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["comet_storage"]
