"""The import table: which layer may use what."""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import dkde

ROOT = Path(dkde.__file__).parents[1]
STANDARD = frozenset(sys.stdlib_module_names)

NUMERICS = {"numpy", "scipy", "numba", "llvmlite", "threadpoolctl", "dkde.errors", "dkde.numerics"}
STORAGE = {"numpy", "zarr", "xarray", "dkde.errors", "dkde.storage"}
ENGINE = {
    "numpy", "dask", "distributed", "threadpoolctl", "psutil",
    "dkde.errors", "dkde.numerics", "dkde.storage", "dkde.engine",
}  # fmt: skip
TOP = {
    "numpy", "xarray", "zarr", "dask", "distributed", "sklearn", "matplotlib", "lazy_loader",
    "dkde",
}  # fmt: skip
CLI = {"click", "rich", "dkde_cli", "dkde.errors", *(f"dkde.{name}" for name in dkde.__all__)}

# The longest prefix of a module's name decides: what it may import beside the standard library.
# A package is a prefix of its modules, and of every name in them.
TABLE: dict[str, set[str]] = {
    "dkde": TOP,
    "dkde.errors": set(),
    "dkde.numerics": NUMERICS,
    "dkde.storage": STORAGE,
    # Stores in the cloud: obstore, where it is installed.
    "dkde.storage.buckets": STORAGE | {"obstore"},
    # What HDF5 files refer to: h5py, where it is installed.
    "dkde.storage.linked": STORAGE | {"h5py"},
    # Importers: a format's own library.
    "dkde.storage.importers.digits": STORAGE | {"sklearn"},
    "dkde.storage.importers.arrow_values": STORAGE | {"pyarrow"},
    "dkde.storage.importers.csv_header": STORAGE | {"pyarrow"},
    "dkde.storage.importers.csv": STORAGE | {"pyarrow"},
    "dkde.storage.importers.labels": STORAGE | {"pyarrow"},
    "dkde.storage.importers.parquet": STORAGE | {"pyarrow"},
    "dkde.storage.importers.tables": STORAGE | {"pyarrow"},
    "dkde.storage.importers.pictures": STORAGE | {"PIL"},
    # Tables of other programs, and for them.
    "dkde.frame_columns": TOP | {"pandas", "pyarrow"},
    "dkde.frames": TOP | {"pandas", "pyarrow"},
    "dkde.exporting": TOP | {"pyarrow"},
    "dkde.engine": ENGINE,
    "dkde.engine.plan": set(),
    # Whether workers can see a store is a question about kinds of stores.
    "dkde.engine.fitness": ENGINE | {"zarr"},
    # Clusters of batch queues: dask-jobqueue, where it is installed.
    "dkde.engine.queues": ENGINE | {"dask_jobqueue"},
    "dkde_cli": CLI,
}
# Of the standard library, where the table says that as well.
STANDARD_ONLY = {"dkde.engine.plan": {"dataclasses", "math"}}


def sources() -> dict[str, str]:
    """Text of every module by its dotted name; a package's is its ``__init__``."""
    found = {}
    for top in (ROOT / "dkde", ROOT / "cli" / "dkde_cli"):
        for path in sorted(top.rglob("*.py")):
            parts = path.relative_to(top.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path.read_text(encoding="utf-8")
    return found


SOURCES = sources()


def imports(text: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it: ``from a.b import c`` is ``a.b.c``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            base = parts[: len(parts) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def is_under(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def violations(text: str, module: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module that the table does not allow."""
    layer = max((prefix for prefix in TABLE if is_under(module, [prefix])), key=len)
    standard = STANDARD_ONLY.get(layer, STANDARD)
    return [
        name
        for name in imports(text, module, is_package=is_package)
        if name != "__future__.annotations"
        and name.split(".")[0] not in standard
        and not is_under(name, TABLE[layer])
        # Of dkde as a whole, the cli gets its public names, by attribute.
        and not (layer == "dkde_cli" and name == "dkde")
    ]


def is_package(module: str) -> bool:
    return any(other.startswith(f"{module}.") for other in SOURCES)


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_what_its_layer_may(module: str) -> None:
    assert violations(SOURCES[module], module, is_package=is_package(module)) == []


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith("dkde_cli")])
def test_the_cli_uses_public_names_only(module: str) -> None:
    tree = ast.parse(SOURCES[module])
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "dkde"
    }
    assert used <= {*dkde.__all__, "errors", "__version__"}


def module_edges(texts: dict[str, str]) -> dict[str, set[str]]:
    """From each module to the modules of its own project that it imports."""
    packages = {name for name in texts if any(other.startswith(f"{name}.") for other in texts)}
    edges: dict[str, set[str]] = {}
    for module, text in texts.items():
        edges[module] = set()
        for name in imports(text, module, is_package=module in packages):
            # a.b.c is the module a.b.c, or the name c of the module a.b.
            known = next((n for n in (name, name.rpartition(".")[0]) if n in texts), None)
            if known is not None and known != module:
                edges[module].add(known)
    return edges


def find_cycle(edges: dict[str, set[str]]) -> list[str]:
    """A cycle, from a module to itself; empty if there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(edges.get(module, ())):
            cycle = visit(other, [*path, module])
            if cycle:
                return cycle
        done.add(module)
        return []

    return next((cycle for module in edges if (cycle := visit(module, []))), [])


def test_no_import_goes_in_a_circle() -> None:
    assert find_cycle(module_edges(SOURCES)) == []


def test_the_modules_are_found() -> None:
    expected = {"dkde", "dkde.numerics.tiles", "dkde.engine.plan", "dkde.storage.rows", "dkde_cli"}
    assert expected <= set(SOURCES)


@pytest.mark.parametrize(
    ("module", "text", "wrong"),
    [
        ("dkde.numerics.x", "from dkde.storage.rows import Rows", ["dkde.storage.rows.Rows"]),
        ("dkde.numerics.x", "import numpy\nimport dask.array as da", ["dask.array"]),
        ("dkde.numerics.x", "def f():\n    import zarr", ["zarr"]),
        ("dkde.numerics.x", "from ..engine import plan", ["dkde.engine.plan"]),
        ("dkde.numerics.x", "import numpydoc", ["numpydoc"]),
        ("dkde.storage.x", "from dkde.numerics import tiles", ["dkde.numerics.tiles"]),
        ("dkde.storage.x", "import dkde", ["dkde"]),
        ("dkde.storage.x", "from sklearn import datasets", ["sklearn.datasets"]),
        ("dkde.storage.importers.npz", "import sklearn", ["sklearn"]),
        ("dkde.engine.x", "from dkde import log_density", ["dkde.log_density"]),
        ("dkde.engine.x", "from dkde.scoring import sweep", ["dkde.scoring.sweep"]),
        ("dkde.engine.x", "import xarray as xr", ["xarray"]),
        ("dkde.engine.x", "import zarr", ["zarr"]),
        ("dkde.engine.plan", "import os", ["os"]),
        ("dkde.engine.plan", "import numpy as np", ["numpy"]),
        ("dkde.errors", "import numpy", ["numpy"]),
        ("dkde.scoring", "import pandas", ["pandas"]),
        ("dkde_cli.x", "from dkde.engine.run import run", ["dkde.engine.run.run"]), 
        ("dkde_cli.x", "from dkde import no_such_name", ["dkde.no_such_name"]),
        ("dkde_cli.x", "import numpy as np", ["numpy"]),
    ],
)  # fmt: skip
def test_a_break_of_the_table_is_seen(module: str, text: str, wrong: list[str]) -> None:
    assert violations(text, module) == wrong


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("dkde.numerics.x", "import os.path\nfrom scipy.special import logsumexp"),
        ("dkde.numerics.x", "from __future__ import annotations\nfrom . import frame"),
        ("dkde.storage.importers.digits", "from sklearn.datasets import load_digits"),
        ("dkde.engine.plan", "from dataclasses import dataclass\nfrom math import ceil"),
        ("dkde.scoring", "import xarray\nfrom dkde.engine.plan import Plan"),
        ("dkde_cli.x", "import dkde\nimport click\nfrom dkde.errors import DkdeError"),
    ],
)
def test_what_the_table_allows_is_allowed(module: str, text: str) -> None:
    assert violations(text, module) == []


def test_a_circle_is_seen() -> None:
    texts = {
        "a": "",
        "a.one": "from a import two",
        "a.two": "def f():\n    from .three import name",
        "a.three": "import a.one",
    }
    assert find_cycle(module_edges(texts)) == ["a.one", "a.two", "a.three", "a.one"]
    texts["a.three"] = "import math"
    assert find_cycle(module_edges(texts)) == []
