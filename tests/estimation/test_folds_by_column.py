"""Folds by the values of a column: of every container, of rows that a filter keeps, and stored."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde
from dkde.errors import DkdeError, InputError

N = 60
RNG = np.random.default_rng(4)
X = RNG.normal(size=(N, 2))
NAMES = np.array(["ant", "bee", "cat"])[RNG.integers(0, 3, N)]
_, CODES = np.unique(NAMES, return_inverse=True)
H = [0.1, 0.5, 2.0]


@pytest.fixture(scope="module")
def expected():
    return dkde.cross_validate(X, H, folds=CODES)


@pytest.fixture(scope="module")
def frame():
    return pd.DataFrame({"x": X[:, 0], "y": X[:, 1], "animal": NAMES})


@pytest.mark.parametrize("form", ["pandas", "categories", "polars", "arrow", "dataset"])
def test_of_containers(form, frame, expected):
    rows = frame
    if form == "categories":
        rows = frame.astype({"animal": "category"})
    elif form == "polars":
        rows = pytest.importorskip("polars").from_pandas(frame)
    elif form == "arrow":
        rows = pytest.importorskip("pyarrow").Table.from_pandas(frame)
    elif form == "dataset":
        rows = xr.Dataset(
            {"x": ("row", X[:, 0]), "y": ("row", X[:, 1])}, {"animal": ("row", NAMES)}
        )
    found = dkde.cross_validate(rows, H, folds="animal", features=["x", "y"])
    np.testing.assert_array_equal(found.log_density, expected.log_density)
    np.testing.assert_array_equal(found.held_out_in, CODES)
    assert found.fold_value.values.tolist() == ["ant", "bee", "cat"]
    assert (found.attrs["folds"], found.attrs["folds_by"]) == (3, "animal")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("suffix", ["csv", "parquet", "nc"])
def test_of_files_and_of_runs(suffix, frame, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if suffix == "csv":
        frame.to_csv("rows.csv", index=False)
    elif suffix == "parquet":
        frame.to_parquet("rows.parquet")
    else:
        xr.Dataset.from_dataframe(frame).to_netcdf("rows.nc")
    words = ["--features", "x,y", "--folds", "by:animal", "--bandwidths", "0.1,0.5,2"]
    done = CliRunner().invoke(cli, ["cv", f"rows.{suffix}", *words, "--output", "cv.zarr"])
    assert done.exit_code == 0, done.stderr
    found = xr.open_zarr("cv.zarr")
    np.testing.assert_allclose(found.log_density, expected.log_density, rtol=1e-12)
    assert found.fold_value.values.tolist() == ["ant", "bee", "cat"]
    dkde.verify("cv.zarr")
    config = CliRunner().invoke(cli, ["status", "cv.zarr", "--config"])
    assert 'folds = "by:animal"' in config.stdout


def test_of_rows_that_a_filter_keeps(frame):
    kept = frame[frame.x > -0.5]
    call = {"features": ["x", "y"], "folds": "animal"}
    found = dkde.cross_validate(frame, H, where="x > -0.5", **call)
    expected = dkde.cross_validate(kept, H, **call)
    np.testing.assert_array_equal(found.log_density, expected.log_density)


def test_of_numbers_and_of_labels(expected):
    rows = np.column_stack([X, 10.0 * CODES])
    found = dkde.cross_validate(
        pd.DataFrame(rows, columns=["x", "y", "site"]), H, folds="site", features=["x", "y"]
    )
    np.testing.assert_array_equal(found.log_density, expected.log_density)
    assert found.fold_value.values.tolist() == [0, 10, 20]
    digits = dkde.cross_validate("all", [3.0], source="digits", folds="label")
    assert digits.attrs["folds"] == 10


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("species", None, "has no .*'species'"),
        ("animal", ["ant"] * N, "all rows into one fold"),
        ("animal", [None, *NAMES[1:]], "misses the value of row 0"),
    ],
)
def test_what_is_refused(column, values, message, frame):
    rows = frame if values is None else frame.assign(animal=values)
    with pytest.raises(InputError, match=message):
        dkde.cross_validate(rows, H, folds=column, features=["x", "y"])


def test_of_a_bare_array():
    with pytest.raises(InputError, match=r"cv=pandas.factorize\(X\['animal'\]\)"):
        dkde.KernelDensityCV(bandwidths=H, cv="animal").fit(X)
    with pytest.raises(DkdeError, match="'animal'"):
        dkde.cross_validate(X, H, folds="animal")
