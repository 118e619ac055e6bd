"""Metadata that are malformed: a store is opened, or refused by an error of dkde in one line."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import dkde
from dkde.runs.opened import opened_result

X = np.random.default_rng(0).normal(size=(20, 3))
QUERY = 0.9 * X
NAMES = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
# What stands where something else should.
VALUES = [
    None, 0, 1, -1, 2, 0.5, float("nan"), "", "x", "NaN", "bytes", "float64", "<f8", "|O", True,
    [], {}, [0], [-1], [3], [1, 1], [0, 0], [0, 3], [20, 0], [None], ["a"], {"name": "x"},
    [{"name": "bytes"}],
]  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a result, and stores of others of both versions, with names and without."""
    folder = tmp_path_factory.mktemp("stores")
    np.savez(folder / "x.npz", train=X, train_label=np.arange(20) % 3)
    dkde.import_dataset(folder / "x.npz", folder / "dataset")
    np.save(folder / "query.npy", QUERY)
    dkde.score(f"{folder}/query.npy", f"{folder}/dataset::train", [0.5], output=folder / "result")
    variables = {"a": ("row", X[:, 0]), "b": ("row", X[:, 1], {"units": "m"})}
    packed = {"a": {"dtype": "i2", "scale_factor": 0.01, "_FillValue": -9, "chunks": (8,)}}
    for version in (2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that version 3 does not know what xarray writes
            xr.Dataset(variables, {"row": np.arange(20)}).to_zarr(
                folder / f"foreign{version}", zarr_format=version, encoding=packed
            )
        array = zarr.create_array(
            folder / f"bare{version}", shape=X.shape, chunks=(8, 3), dtype="f8",
            zarr_format=version,
        )  # fmt: skip
        array[:] = X
    return folder


def look(store: Path) -> None:
    """Open a store as commands do, and read the first of its rows."""
    kind = store.name
    if kind == "result":
        opened_result(store)
        dkde.status(store)
        dkde.export(store, store.with_suffix(".csv"))
        return
    dkde.describe(store)
    if kind == "dataset":
        dkde.open_dataset(store)
    catalog = dkde.Catalog(None, ["a", "b"] if "foreign" in kind else None)
    rows = catalog.rows(f"{store}::train" if kind == "dataset" else str(store))
    rows.read(0, min(2, rows.n_rows), decode=True)


def paths(document: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value of a document is."""
    inner = document.items() if isinstance(document, dict) else ()
    for key, value in enumerate(document) if isinstance(document, list) else inner:
        yield (*above, key)
        yield from paths(value, (*above, key))


def damage(store: Path, chance: random.Random) -> str:
    """Change one or two values in a file of metadata, take them out, or cut it off; say what."""
    files = sorted(path for path in store.rglob("*") if path.name in NAMES)
    file, said = chance.choice(files), []
    text = file.read_text()
    if chance.random() < 0.05:
        file.write_text(text[: chance.randrange(len(text))])
        return f"{file} was cut off"
    document = json.loads(text)
    for _ in range(chance.choice([1, 1, 2])):
        *above, key = chance.choice(list(paths(document)) or [("x",)])
        place = document
        for each in above:
            place = place[each]
        if chance.random() < 0.25 and (isinstance(place, list) or key in place):
            del place[key]
            said.append(f"without {above} {key}")
        else:
            place[key] = deepcopy(chance.choice(VALUES))
            said.append(f"{above} {key} = {place[key]!r}")
    file.write_text(json.dumps(document))
    if chance.random() < 0.5:  # what is consolidated may hide it
        (store / ".zmetadata").unlink(missing_ok=True)
        root = store / "zarr.json"
        if root.exists() and isinstance(found := json.loads(root.read_text()), dict):
            found.pop("consolidated_metadata", None)
            root.write_text(json.dumps(found))
    return f"{file.relative_to(store)}: {', '.join(said)}"


def check(stores: Path, folder: Path, kind: str, seed: int) -> None:
    chance = random.Random(f"{kind} {seed}")
    store = folder / kind
    shutil.copytree(stores / kind, store)
    done = damage(store, chance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            look(store)
        except dkde.DkdeError as error:
            if "\n" in str(error):
                pytest.fail(f"seed {seed}: {done}: more than a line: {error}")
        except Exception as error:
            pytest.fail(f"seed {seed}: {done}: {error!r}")
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


KINDS = ["dataset", "result", "foreign2", "foreign3", "bare2", "bare3"]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_opened_or_refused(stores, tmp_path, kind):
    look(shutil.copytree(stores / kind, tmp_path / "whole" / kind))
    shutil.rmtree(tmp_path / "whole")
    for seed in range(6 if "bare" in kind or "foreign" in kind else 2):
        check(stores, tmp_path, kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_opened_or_refused_many_times(stores, tmp_path, kind):
    for seed in range(6, 200):
        check(stores, tmp_path, kind, seed)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("chunks", [[0, 3], [8, 0], [0, 0]])
def test_chunks_of_no_length_are_refused(stores, tmp_path, version, chunks):
    store = shutil.copytree(stores / f"bare{version}", tmp_path / "x.zarr")
    file = store / (".zarray" if version == 2 else "zarr.json")
    document = json.loads(file.read_text())
    if version == 2:
        document["chunks"] = chunks
    else:
        document["chunk_grid"]["configuration"]["chunk_shape"] = chunks
    file.write_text(json.dumps(document))
    message = r"x\.zarr: is of shape \(20, 3\) in chunks .*, and no chunk is of length 0"
    for side in (str(store), zarr.open_array(store, mode="r")):
        with pytest.raises(dkde.DataSetError, match=message):
            dkde.score(QUERY, side, 0.5)
    with pytest.raises(dkde.DataSetError, match=message):
        dkde.import_dataset(store, tmp_path / "i.zarr")


@pytest.mark.parametrize("dim", [1, None, 0.5])
def test_dims_that_are_no_text(stores, tmp_path, dim):
    """They are named by the text of them."""
    store = shutil.copytree(stores / "foreign2", tmp_path / "x.zarr")
    (store / ".zmetadata").unlink()
    shutil.rmtree(store / "row")
    for name in "ab":
        file = store / name / ".zattrs"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"_ARRAY_DIMENSIONS": [dim]}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is consolidated
        assert dkde.describe(store)["variables"]["b"]["value_range"] == [
            X[:, 1].min(), X[:, 1].max(),
        ]  # fmt: skip
        found = dkde.score(
            QUERY[:, :2], str(store), 0.5, source=dkde.Catalog(None, ["a", "b"])
        ).log_density
    values = np.stack([np.round(X[:, 0], 2), X[:, 1]], axis=1)
    np.testing.assert_allclose(found, dkde.score(QUERY[:, :2], values, 0.5).log_density, rtol=1e-9)


def test_dims_of_a_dataset_that_are_numbers():
    rows = xr.Dataset({"a": ((1,), X[:, 0]), "b": ((1,), X[:, 1])})
    found = dkde.score(QUERY[:, :2], rows, 0.5).log_density
    np.testing.assert_array_equal(found, dkde.score(QUERY[:, :2], X[:, :2], 0.5).log_density)


def test_a_damaged_array_beside_groups(stores, tmp_path):
    store = shutil.copytree(stores / "foreign3", tmp_path / "x.zarr")
    (store / "b" / "zarr.json").write_text("{")
    root = json.loads((store / "zarr.json").read_text())
    del root["consolidated_metadata"]
    (store / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(dkde.DataSetError, match="could not be opened by xarray"):
        dkde.Catalog(None, ["a", "b"]).rows(str(store))
