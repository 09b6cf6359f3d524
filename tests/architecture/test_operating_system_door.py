"""One door to the operating system: in the engine only `comet_storage/_os` opens, maps, syncs or deletes files.

Everything that tests want to fail, tear, delay or kill goes through that door; a call beside it would be a call that
no test reaches. What `os` offers is forbidden unless listed here, so that a new function of it is forbidden from the
start.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source_tree import Module, imports, inside, modules

DOOR = "comet_storage._os"

# These parts of `os` compute or ask about the process; none of them reaches a file.
ALLOWED_OF_OS = frozenset(
    {
        "PathLike",
        "cpu_count",
        "environ",
        "fsdecode",
        "fsencode",
        "fspath",
        "getenv",
        "getpid",
        "path",
        "register_at_fork",
        "sep",
        "strerror",
        "urandom",
    }
)
# Of `os.path` only the arithmetic on names; the rest of it asks the filesystem.
ALLOWED_OF_OS_PATH = frozenset(
    {"basename", "commonpath", "commonprefix", "dirname", "isabs", "join", "normpath", "split", "splitext"}
)
# Whole modules that exist to reach files, maps, locks, or the C library behind them.
FORBIDDEN_MODULES = frozenset(
    {
        "_io",
        "ctypes",
        "dbm",
        "fcntl",
        "fileinput",
        "glob",
        "mmap",
        "nt",
        "posix",
        "shelve",
        "shutil",
        "sqlite3",
        "tempfile",
    }
)
FORBIDDEN_FUNCTIONS = {
    "builtins": frozenset({"open"}),
    "codecs": frozenset({"open"}),
    "io": frozenset({"FileIO", "open", "open_code"}),
    # The door's clocks are the ones that a test can turn.
    "time": frozenset(
        {
            "clock_gettime",
            "clock_gettime_ns",
            "monotonic",
            "monotonic_ns",
            "perf_counter",
            "perf_counter_ns",
            "sleep",
            "time",
            "time_ns",
        }
    ),
}
# Methods of pathlib that no other type of the standard library has: forbidden on whatever they are called.
METHODS_OF_PATHS_ALONE = frozenset(
    {
        "expanduser",
        "hardlink_to",
        "is_block_device",
        "is_char_device",
        "is_dir",
        "is_fifo",
        "is_file",
        "is_mount",
        "is_socket",
        "is_symlink",
        "iterdir",
        "lchmod",
        "read_bytes",
        "read_text",
        "readlink",
        "rglob",
        "samefile",
        "symlink_to",
        "touch",
        "write_bytes",
        "write_text",
    }
)
# Methods that other types have as well, the door's own among them: forbidden on what the module says is a path.
METHODS_OF_PATHS = frozenset(
    {
        "absolute",
        "chmod",
        "exists",
        "glob",
        "group",
        "lstat",
        "mkdir",
        "open",
        "owner",
        "rename",
        "replace",
        "resolve",
        "rmdir",
        "stat",
        "unlink",
        "walk",
    }
)


def violations(module: Module) -> Iterator[str]:
    """Give every place where an engine module goes to the operating system beside the door."""
    if not inside(module.name, DOOR):
        yield from (f"{module.name}:{line} {what}" for line, what in sorted(_beside_the_door(module)))


def _beside_the_door(module: Module) -> Iterator[tuple[int, str]]:
    for item in imports(module):
        top_level = item.target.partition(".")[0]
        if top_level in FORBIDDEN_MODULES:
            yield item.line, f"imports {top_level}"
        elif item.name is not None and _is_forbidden(item.target, item.name):
            yield item.line, f"imports {item.name} from {item.target}"
    aliases = _aliases(module.tree)
    paths = _names_of_paths(module.tree)
    bases = {node.value for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name):
            if node.id in {"open", "__import__"}:
                yield node.lineno, f"uses the builtin {node.id}"
            elif aliases.get(node.id) in {"os", "os.path"} and node not in bases:
                # A module that is handed on can be asked for anything, out of this rule's sight.
                yield node.lineno, f"hands {node.id} on whole"
        elif isinstance(node, ast.Attribute):
            owner = _dotted(node.value, aliases)
            if owner is not None and _is_forbidden(owner, node.attr):
                yield node.lineno, f"uses {owner}.{node.attr}"
            elif node.attr in METHODS_OF_PATHS_ALONE or (node.attr in METHODS_OF_PATHS and _is_path(node.value, paths)):
                yield node.lineno, f"uses a path's {node.attr}"


def _is_forbidden(owner: str, name: str) -> bool:
    if owner == "os":
        return name not in ALLOWED_OF_OS
    if owner in {"os.path", "posixpath"}:
        return name not in ALLOWED_OF_OS_PATH
    return name in FORBIDDEN_FUNCTIONS.get(owner, ())


def _aliases(tree: ast.Module) -> dict[str, str]:
    """Map each name that an import binds to the module that it stands for."""
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top_level = alias.name.partition(".")[0]
                aliases[alias.asname or top_level] = alias.name if alias.asname else top_level
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            aliases.update({alias.asname or alias.name: "os.path" for alias in node.names if alias.name == "path"})
    return aliases


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str | None:
    """Give the module that an expression names, such as `os` or `os.path`, if it names an imported one."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, aliases)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


def _names_of_paths(tree: ast.Module) -> frozenset[str]:
    """Collect the names, attributes included, that the module annotates as paths or fills with them."""
    found = {"Path"}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and _mentions_path(node.annotation):
            found.add(node.arg)
        elif isinstance(node, ast.AnnAssign) and _mentions_path(node.annotation):
            found.add(_last_name(node.target))
        elif isinstance(node, ast.FunctionDef) and _mentions_path(node.returns):
            found.add(node.name)
        elif isinstance(node, ast.Assign) and _is_path(node.value, frozenset(found)):
            found.update(_last_name(target) for target in node.targets)
    return frozenset(found) - {""}


def _mentions_path(annotation: ast.expr | None) -> bool:
    if annotation is None:
        return False
    names = {_last_name(node) for node in ast.walk(annotation)}
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        names.update(annotation.value.replace("|", " ").replace(".", " ").split())
    return "Path" in names


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _is_path(node: ast.expr, paths: frozenset[str]) -> bool:
    if isinstance(node, ast.Call):
        return _is_path(node.func, paths)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _is_path(node.left, paths) or _is_path(node.right, paths)
    return _last_name(node) in paths or (isinstance(node, ast.Attribute) and node.attr in {"parent", "parents"})


def test_only_the_door_reaches_the_operating_system() -> None:
    """No module of comet_storage outside `_os` opens, maps, syncs, deletes or locks a file, or asks a clock."""
    assert [found for module in modules("comet_storage") for found in violations(module)] == []


@pytest.mark.parametrize(
    "source",
    [
        "open('x')",
        "opener = open",
        "import builtins\nbuiltins.open('x')",
        "import io\nio.open('x')",
        "from io import FileIO",
        "import os\nos.open('x', 0)",
        "import os\nos.pread(3, 1, 0)",
        "import os\nos.fdatasync(3)",
        "import os\nos.replace('a', 'b')",
        "import os\nos.posix_fallocate(3, 0, 1)",
        "import os\nos.scandir('x')",
        "import os\nos.stat('x')",
        "import os as system\nsystem.unlink('x')",
        "import os\nremove = os.unlink",
        "import os\ngetattr(os, 'unlink')('x')",
        "from os import fsync",
        "from os import open as door",
        "import os\nos.path.exists('x')",
        "import os.path\nos.path.getsize('x')",
        "from os.path import isfile",
        "from os import path\npath.exists('x')",
        "import os.path as names\nnames.exists('x')",
        "import os\nos.a_function_of_tomorrow()",
        "import mmap",
        "def f():\n    import fcntl",
        "from mmap import mmap",
        "from shutil import rmtree",
        "import tempfile",
        "import ctypes.util",
        "__import__('mmap')",
        "from pathlib import Path\nPath('x').read_bytes()",
        "from pathlib import Path\nPath('x').unlink()",
        "from pathlib import Path\nplace = Path('x')\nplace.mkdir()",
        "from pathlib import Path\n(Path('x') / 'y').open()",
        "def f(place: Path):\n    place.rename('y')",
        "def f(place: Path | None):\n    place.stat()",
        "def f(place: 'Path | None'):\n    place.stat()",
        "class A:\n    root: pathlib.Path\n    def f(self):\n        self.root.exists()",
        "class A:\n    def __init__(self, root: Path):\n        self.root = root\n        self.root.exists()",
        "def f(place):\n    place.write_text('x')",
        "def f(place):\n    place.parent.mkdir()",
        "import time\ntime.monotonic()",
        "from time import sleep",
    ],
)
def test_a_way_beside_the_door_is_found(source) -> None:
    """The rule sees each way to a file or a clock, under whatever name it was imported."""
    assert len(list(violations(Module("comet_storage._shard.engine", source)))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.path.join('a', os.fspath('b'))",
        "import os\nos.environ.get('X')",
        "import os\nos.getpid()",
        "from os import PathLike, fspath",
        "import io\nio.BytesIO()",
        "import datetime\n'a'.replace('a', 'b')\ndataclasses.replace(x, y=1)",
        "def f(files):\n    files.open('x')\n    files.unlink('x')",
        "from comet_storage._os import files\nfiles.mkdir('x')",
        "class Segment:\n    @classmethod\n    def open(cls): ...\nSegment.open()",
        "from pathlib import Path\nPath('x') / 'y'\nPath('x').name",
        "import time\ntime.struct_time",
    ],
)
def test_what_reaches_no_file_is_allowed(source) -> None:
    """The rule leaves names, the environment, and the door's own methods alone."""
    assert list(violations(Module("comet_storage._shard.engine", source))) == []


def test_the_door_itself_may_do_all_of_it() -> None:
    """The rule does not apply inside `_os`, and nowhere else does it not apply."""
    source = "import mmap, os\nos.open('x', 0)"
    assert list(violations(Module("comet_storage._os.files", source))) == []
    assert len(list(violations(Module("comet_storage._osmosis", source)))) == 2
