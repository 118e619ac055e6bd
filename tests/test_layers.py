"""The law of the wings: which may import which, and which libraries."""

import ast
import runpy
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import dkde

ROOT = Path(dkde.__file__).parents[1]
STANDARD = frozenset(sys.stdlib_module_names)

# Wings from the ground up: each imports those before it, and itself.
WINGS = (
    "errors", "typing", "progress", "version", "numerics", "stores", "rows", "datasets", "inputs",
    "engine", "workers", "runs", "drawing", "estimation", "results",
)  # fmt: skip
# Wings that do not know each other, though one comes before the other.
STRANGERS = {("runs", "workers")}
# What a wing may import beside the standard library and other wings.
LIBRARIES: dict[str, set[str]] = {
    "errors": set(),
    "typing": {"numpy"},
    "progress": {"IPython"},
    "version": set(),
    "numerics": {"numpy", "scipy", "numba", "llvmlite", "threadpoolctl"},
    "stores": {"numpy", "zarr"},
    "rows": {"numpy", "zarr", "xarray"},
    "datasets": {"numpy", "zarr", "xarray"},
    "inputs": {"numpy", "zarr", "xarray", "dask"},
    "engine": {"numpy", "dask", "distributed", "threadpoolctl"},
    "workers": {"numpy", "dask", "distributed", "psutil"},
    "runs": {"numpy", "zarr", "xarray", "psutil", "msgspec"},
    "drawing": {"numpy", "xarray", "matplotlib"},
    "estimation": {"numpy", "zarr", "xarray", "dask", "sklearn"},
    "results": {"numpy", "xarray", "dask", "matplotlib"},
}
# Of single modules, beside what their wing may: a format's own library, or an optional one.
OWN_LIBRARIES: dict[str, set[str]] = {
    "dkde.stores.buckets": {"obstore"},
    "dkde.stores.child": {"numcodecs"},
    "dkde.stores.snapshots": {"icechunk"},
    "dkde.runs.repository_publication": {"icechunk"},
    "dkde.stores.linked": {"h5py"},
    "dkde.rows.arrow_values": {"pyarrow"},
    "dkde.rows.csv_blocks": {"pyarrow"},
    "dkde.rows.csv_layout": {"pyarrow"},
    "dkde.rows.csv_reading": {"pyarrow"},
    "dkde.rows.csv_survey": {"pyarrow"},
    "dkde.rows.dask_source": {"dask"},
    "dkde.rows.filter_arrow": {"pyarrow"},
    "dkde.rows.parquet_filter": {"pyarrow"},
    "dkde.rows.row_filter": {"pyarrow"},
    "dkde.rows.hdf5_chunks": {"h5py"},
    "dkde.rows.parquet_files": {"pyarrow"},
    "dkde.rows.parquet_source": {"pyarrow"},
    "dkde.rows.partitions": {"pyarrow"},
    "dkde.rows.on_cluster": {"dask", "distributed"},
    "dkde.rows.tensor_file": {"safetensors", "ml_dtypes"},
    "dkde.datasets.formats.digits": {"sklearn"},
    "dkde.datasets.formats.arrow_labels": {"pyarrow"},
    "dkde.datasets.formats.csv": {"pyarrow"},
    "dkde.datasets.formats.parquet": {"pyarrow"},
    "dkde.datasets.formats.tables": {"pyarrow"},
    "dkde.datasets.sample_files": {"pyarrow"},
    "dkde.datasets.formats.pictures": {"PIL"},
    "dkde.inputs.as_frames": {"pandas", "polars", "pyarrow"},
    "dkde.inputs.dask_frames": {"pandas"},
    "dkde.rows.frame_values": {"pandas", "pyarrow"},
    "dkde.inputs.named_features": {"pandas"},
    "dkde.rows.points": {"pyarrow"},
    "dkde.rows.point_columns": {"pyarrow"},
    "dkde.inputs.arrow_tables": {"pandas", "pyarrow"},
    "dkde.inputs.frame": {"pandas"},
    "dkde.inputs.frame_choice": {"pandas"},
    "dkde.inputs.frame_columns": {"pandas", "pyarrow"},
    "dkde.inputs.frames": {"pandas"},
    # Whether workers can see a store is a question about kinds of stores.
    "dkde.workers.cluster": {"zarr"},
    # Whether a map fits in memory, and a template that is a GeoTIFF.
    "dkde.estimation.map_axes": {"psutil"},
    "dkde.estimation.map_template": {"rioxarray"},
    "dkde.workers.batch_queues": {"dask_jobqueue"},
    "dkde.runs.geotiff": {"rioxarray", "rasterio"},
    "dkde.runs.result_files": {"pyarrow", "rasterio"},
    "dkde.results.exporting": {"pyarrow"},
    "dkde.drawing.contours": {"contourpy"},
    "dkde.drawing.pages": {"jinja2"},
}
CLI = {"click", "rich", "dkde_cli", "dkde.errors", "dkde.progress", "dkde.__version__"}
CLI |= {f"dkde.{name}" for name in dkde.__all__}
# Modules of integers only, and what they may import at all.
_INTEGERS = {"dataclasses", "math"}
_SIZES, _LEAVES = "dkde.engine.side_size", "dkde.engine.leaf_plan"
ALONE = {
    _SIZES: _INTEGERS,
    _LEAVES: _INTEGERS | {_SIZES},
    "dkde.engine.block_plan": _INTEGERS | {_SIZES, _LEAVES},
}


def allowed(module: str) -> set[str]:
    """Prefixes of the names that a module may import."""
    if module in ALONE:
        return ALONE[module]
    if is_under(module, ["dkde_cli"]):
        return CLI | STANDARD
    if module == "dkde":
        return {"lazy_loader", "dkde.version"}
    if module == "dkde.__main__":
        return {"dkde_cli.main"}
    wing = module.split(".")[1]
    known = {
        f"dkde.{other}"
        for other in WINGS[: WINGS.index(wing) + 1]
        if (wing, other) not in STRANGERS
    }
    return known | LIBRARIES[wing] | OWN_LIBRARIES.get(module, set()) | STANDARD


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
    """The imports of a module that the law does not allow."""
    may = allowed(module)
    return [
        name
        for name in imports(text, module, is_package=is_package)
        if name != "__future__.annotations"
        and not is_under(name, may)
        # Of dkde as a whole, the cli gets its public names, by attribute.
        and not (module.startswith("dkde_cli") and name == "dkde")
    ]


def is_package(module: str) -> bool:
    return any(other.startswith(f"{module}.") for other in SOURCES)


def test_every_module_keeps_the_law() -> None:
    found = {
        module: wrong
        for module, text in SOURCES.items()
        if (wrong := violations(text, module, is_package=is_package(module)))
    }
    assert found == {}


def test_every_folder_is_a_wing() -> None:
    folders = {name.split(".")[1] for name in SOURCES if name.count(".") and name[:5] == "dkde."}
    assert folders == {*WINGS, "__main__"}


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
    expected = {
        "dkde",
        "dkde.numerics.tiles",
        "dkde.engine.block_plan",
        "dkde.rows.side",
        "dkde_cli",
    }
    assert expected <= set(SOURCES)


@pytest.mark.parametrize(
    ("module", "text", "wrong"),
    [
        ("dkde.numerics.x", "from dkde.rows.side import Rows", ["dkde.rows.side.Rows"]),
        ("dkde.numerics.x", "import numpy\nimport dask.array as da", ["dask.array"]),
        ("dkde.numerics.x", "def f():\n    import zarr", ["zarr"]),
        ("dkde.numerics.x", "from ..engine import block_plan", ["dkde.engine.block_plan"]),
        ("dkde.numerics.x", "import numpydoc", ["numpydoc"]),
        ("dkde.rows.x", "from dkde.inputs import sides", ["dkde.inputs.sides"]),
        ("dkde.runs.x", "from dkde.workers import cluster", ["dkde.workers.cluster"]),
        ("dkde.rows.x", "import dkde", ["dkde"]),
        ("dkde.rows.x", "from sklearn import datasets", ["sklearn.datasets"]),
        ("dkde.datasets.formats.npz", "import sklearn", ["sklearn"]),
        ("dkde.engine.x", "from dkde import log_density", ["dkde.log_density"]),
        (
            "dkde.engine.x",
            "from dkde.estimation.scoring import sweep",
            ["dkde.estimation.scoring.sweep"],
        ),
        ("dkde.engine.x", "import xarray as xr", ["xarray"]),
        ("dkde.engine.x", "import zarr", ["zarr"]),
        ("dkde.engine.block_plan", "import os", ["os"]),
        ("dkde.engine.block_plan", "import numpy as np", ["numpy"]),
        ("dkde.errors", "import numpy", ["numpy"]),
        ("dkde.estimation.scoring", "import pandas", ["pandas"]),
        ("dkde_cli.x", "from dkde.engine.eager_run import run", ["dkde.engine.eager_run.run"]), 
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
        ("dkde.datasets.formats.digits", "from sklearn.datasets import load_digits"),
        ("dkde.engine.block_plan", "from dataclasses import dataclass\nfrom math import ceil"),
        ("dkde.estimation.scoring", "import xarray\nfrom dkde.engine.block_plan import Plan"),
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


def test_the_figure_is_of_these_wings() -> None:
    figure = ROOT / "docs/figures/wings.py"
    drawn = runpy.run_path(str(figure))
    names = [
        name
        for floor in reversed(drawn["FLOORS"])
        for names, _ in floor
        for name in names.split(", ")
    ]
    assert sorted(names) == sorted([*WINGS, "cli/dkde_cli"])
    low = [wing for wing in names if wing not in ("workers", "runs", "cli/dkde_cli")]
    assert low == [wing for wing in WINGS if wing not in ("workers", "runs")]
    assert figure.with_suffix(".svg").read_text(encoding="utf-8") == drawn["drawn"]()
