"""Dependencies point one way: shipper -> wire-level helpers of comet_otel -> comet_storage, and downwards inside it.

The command `comet` stands above all three, and nobody imports it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.architecture.source_tree import Module, imports, inside, module_names, modules

# The layers of the engine, lowest first. A module may import from lower layers, and from its own folder; modules that
# share a layer but not a folder may not import each other, except in the lowest and in the topmost layer.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "config", "types", "names", "statistics", "index", "quantities", "_settings"),
    ("_format",),
    ("_os",),
    ("_segment",),
    ("_shard",),
    ("_groups", "_log"),
    ("_retention",),
    ("_upkeep",),
    ("_engine",),
    ("_reporting",),
    ("client", "consumer", "lanes"),
)
RANKS = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}
SOCIABLE_RANKS = frozenset({0, len(LAYERS) - 1})

# Checksums come from a SIMD library, compression from zstd; everything else in the engine is the standard library's.
THIRD_PARTY_OF_STORAGE = frozenset({"isal", "zstandard"})

FORBIDDEN_TO_SHIPPER = (
    "comet_otel.span_exporter",
    "comet_otel.log_exporter",
    "comet_otel.metric_exporter",
    "comet_otel.span_processor",
    "comet_otel.log_processor",
    "opentelemetry.sdk",
)


def _unit(name: str) -> str:
    """Name the part of the engine that a module belongs to: its folder, or itself; the package itself is ''."""
    return [*name.split("."), ""][1]


def storage_violations(module: Module, known: frozenset[str]) -> Iterable[str]:
    """Give every import of one engine module that points up, sideways, or out of the engine."""
    unit = _unit(module.name)
    if unit and unit not in RANKS:
        yield f"{module.name} has no layer: give {unit!r} its place in LAYERS"
        return
    for item in imports(module):
        where = f"{module.name}:{item.line}"
        top_level = item.target.partition(".")[0]
        if top_level != "comet_storage":
            if top_level not in sys.stdlib_module_names and top_level not in THIRD_PARTY_OF_STORAGE:
                yield f"{where} imports {item.target}, but the engine rests on isal, zstandard and the standard library"
            continue
        target = item.module(known)
        other = _unit(target)
        if not unit or other == unit:
            continue
        if not other:
            yield f"{where} imports from comet_storage itself, which stands above every layer"
        elif other not in RANKS:
            yield f"{where} imports {target}, which has no layer"
        elif RANKS[other] > RANKS[unit]:
            yield f"{where} imports {target}, which is a higher layer"
        elif RANKS[other] == RANKS[unit] and RANKS[unit] not in SOCIABLE_RANKS:
            yield f"{where} imports {target}, which is a neighbour in the same layer"


def otel_violations(module: Module, known: frozenset[str]) -> Iterable[str]:
    """Give every import of one comet_otel module that points at the shipper or behind the engine's public names."""
    for item in imports(module):
        target = item.module(known)
        if inside(target, "shipper"):
            yield f"{module.name}:{item.line} imports {target}, but comet_otel knows no shipper"
        if reaches_behind(target, item.name):
            yield f"{module.name}:{item.line} imports {target}, which is private to the engine"


def shipper_violations(module: Module, known: frozenset[str]) -> Iterable[str]:
    """Give every import of one shipper module that would bring an exporter, or the SDK, into the daemon."""
    for item in imports(module):
        target = item.module(known)
        where = f"{module.name}:{item.line}"
        full = target if item.name is None or target.endswith(f".{item.name}") else f"{target}.{item.name}"
        if target == "comet_otel":
            yield f"{where} imports from comet_otel itself, whose public names are the exporters"
        elif any(inside(full, forbidden) for forbidden in FORBIDDEN_TO_SHIPPER):
            yield f"{where} imports {full}, but the shipper forwards bytes and knows no exporter and no SDK"
        if reaches_behind(target, item.name):
            yield f"{where} imports {target}, which is private to the engine"


def command_violations(module: Module, known: frozenset[str]) -> Iterable[str]:
    """Give every import of one module of the command that is private to the engine."""
    for item in imports(module):
        if reaches_behind(target := item.module(known), item.name):
            yield f"{module.name}:{item.line} imports {target}, which is private to the engine"


def reaches_behind(target: str, name: str | None) -> bool:
    """Tell whether an import from outside the engine takes something whose name begins with an underscore."""
    parts = [*target.split("."), *([name] if name else [])]
    return parts[0] == "comet_storage" and any(part.startswith("_") and part != "__version__" for part in parts)


def test_the_engine_imports_only_downwards() -> None:
    """Every module of comet_storage imports only lower layers, the standard library and the checksum library."""
    known = module_names()
    assert [found for module in modules("comet_storage") for found in storage_violations(module, known)] == []


def test_the_exporters_know_no_shipper_and_only_the_public_engine() -> None:
    """No module of comet_otel imports the shipper, or a private name of comet_storage."""
    known = module_names()
    assert [found for module in modules("comet_otel") for found in otel_violations(module, known)] == []


def test_the_shipper_knows_no_exporter_and_no_sdk() -> None:
    """No module of the shipper imports an exporter, a processor, the SDK, or a private name of comet_storage."""
    known = module_names()
    assert [found for module in modules("shipper") for found in shipper_violations(module, known)] == []


def test_the_command_uses_the_public_engine_and_nobody_uses_the_command() -> None:
    """No module of comet_cli imports a private name of comet_storage; no module of the others imports comet_cli."""
    known = module_names()
    assert [found for module in modules("comet_cli") for found in command_violations(module, known)] == []
    below = [module for package in ("comet_storage", "comet_otel", "shipper") for module in modules(package)]
    assert [m.name for m in below for item in imports(m) if inside(item.module(known), "comet_cli")] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        pytest.param("comet_storage", ("opentelemetry", "comet_otel", "shipper"), id="engine"),
        pytest.param("comet_otel", ("shipper",), id="exporters"),
        pytest.param("shipper.cli", ("opentelemetry.sdk", *FORBIDDEN_TO_SHIPPER[:-1]), id="shipper"),
        pytest.param("comet_cli.cli", ("opentelemetry.sdk", "grpc"), id="command"),
    ],
)
def test_the_direction_holds_in_a_running_interpreter_too(imported, absent) -> None:
    """Importing a package does not load, however indirectly, what it must not know."""
    program = f"import sys, {imported}; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert [name for name in loaded if any(inside(name, unwanted) for unwanted in absent)] == []


KNOWN = frozenset(
    {
        "comet_storage",
        "comet_storage.client",
        "comet_storage.errors",
        "comet_storage.config",
        "comet_storage._format",
        "comet_storage._format.frame",
        "comet_storage._os",
        "comet_storage._os.files",
        "comet_storage._groups",
        "comet_storage._log",
        "comet_otel",
        "comet_otel.wire",
        "comet_otel.span_exporter",
        "shipper",
        "shipper.cli",
    }
)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        pytest.param("comet_storage._format.frame", "from comet_storage._os import files", id="upwards"),
        pytest.param("comet_storage._format.frame", "from .._os.files import read", id="upwards, relative"),
        pytest.param("comet_storage._os.files", "def f():\n    import comet_storage.client", id="inside a function"),
        pytest.param(
            "comet_storage._os.files",
            "if TYPE_CHECKING:\n    from comet_storage.client import Client",
            id="for the type checker only",
        ),
        pytest.param("comet_storage.errors", "from comet_storage._format import frame", id="out of the lowest layer"),
        pytest.param("comet_storage._groups.group", "from comet_storage._log import catalog", id="sideways"),
        pytest.param("comet_storage._os.files", "from comet_storage import Client", id="from the package itself"),
        pytest.param("comet_storage._os.files", "import comet_storage.unheard", id="a target without a layer"),
        pytest.param("comet_storage.unheard", "", id="a module without a layer"),
        pytest.param("comet_storage.client", "from opentelemetry import trace", id="OpenTelemetry"),
        pytest.param("comet_storage.client", "import comet_otel.wire", id="the exporters"),
        pytest.param("comet_storage", "import shipper", id="the shipper"),
        pytest.param("comet_storage._os.files", "import numpy", id="another library"),
    ],
)
def test_a_wrong_import_inside_the_engine_is_found(name, source) -> None:
    """The rule for the engine fails on each kind of import that it forbids."""
    assert len(list(storage_violations(Module(name, source), KNOWN))) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        pytest.param("comet_storage._os.files", "import os\nfrom comet_storage._format import frame", id="downwards"),
        pytest.param(
            "comet_storage._format.frame", "from . import lengths\nfrom isal import isal_zlib", id="same folder"
        ),
        pytest.param("comet_storage.errors", "from comet_storage.config import X", id="inside the lowest layer"),
        pytest.param("comet_storage._os.files", "from comet_storage import errors", id="a module by its package"),
        pytest.param("comet_storage.client", "from comet_storage.consumer import Consumer", id="inside the top layer"),
    ],
)
def test_a_right_import_inside_the_engine_is_allowed(name, source) -> None:
    """The rule for the engine accepts what the layers are for."""
    assert list(storage_violations(Module(name, source), KNOWN)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import shipper",
        "from shipper.cli import main",
        "from comet_storage._os import files",
        "import comet_storage._os",
    ],
)
def test_a_wrong_import_in_the_exporters_is_found(source) -> None:
    """The rule for comet_otel fails on the shipper and on the engine's private parts."""
    assert len(list(otel_violations(Module("comet_otel.wire", source), KNOWN))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import comet_otel",
        "from comet_otel import CometSpanExporter",
        "from comet_otel import span_exporter",
        "from comet_otel.span_exporter import CometSpanExporter",
        "import opentelemetry.sdk.trace",
        "from opentelemetry import sdk",
        "from opentelemetry.sdk.trace.export import SpanExporter",
        "from comet_storage._format import frame",
    ],
)
def test_a_wrong_import_in_the_shipper_is_found(source) -> None:
    """The rule for the shipper fails on every way to an exporter, to the SDK, and behind the engine's public names."""
    assert len(list(shipper_violations(Module("shipper.cli", source), KNOWN))) == 1


def test_the_shipper_may_use_wire_level_helpers() -> None:
    """The rule for the shipper accepts comet_otel's wire-level helpers, the protocol messages and the public engine."""
    source = (
        "from comet_otel import wire\n"
        "from comet_otel.wire import join\n"
        "from comet_storage import Client\n"
        "from opentelemetry.proto.trace.v1 import trace_pb2\n"
    )
    assert list(shipper_violations(Module("shipper.cli", source), KNOWN)) == []
