"""``--nan``, and places on the sphere, on the command line."""

import json

import numpy as np
import pytest
import xarray as xr

import dkde


@pytest.fixture
def holes(folder):
    """``a.npz`` with missing values, and what is left of its splits."""
    rng = np.random.default_rng(0)
    sides = {"train": rng.normal(size=(80, 2)), "valid": rng.normal(size=(30, 2))}
    sides["train"][3, 1] = sides["train"][7, 0] = sides["valid"][5, 1] = np.nan
    np.savez(folder / "a.npz", **sides)
    return {name: rows[~np.isnan(rows).any(axis=1)] for name, rows in sides.items()}


@pytest.fixture
def world(folder):
    """``w.npy``: latitudes and longitudes."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.uniform(40, 60, 90), rng.uniform(170, 190, 90)])
    np.save(folder / "w.npy", rows)
    return rows


def test_score_says_what_was_left_out(run, holes):
    result = run("score", "a.npz", "--query", "valid", "--bandwidth", "0.5", "--nan", "drop")
    line = "left out for missing values: 1 of the rows to be scored, 2 of the training rows"
    assert line in result.stderr.splitlines()
    shown = run(
        "score", "a.npz", "--query", "valid", "--bandwidth", "0.5", "--nan", "drop", "--json"
    )
    found = json.loads(shown.stdout)
    expected = dkde.log_density(holes["valid"], holes["train"], 0.5)
    assert found["mean_log_likelihood"] == pytest.approx(expected.mean())
    assert (found["n"], found["n_missing"], found["n_missing_train"]) == (29, 1, 2)


def test_sweep_cv_plan_and_sample(run, holes):
    grid = ["--bandwidths", "0.1,0.4,3"]
    found = json.loads(run("sweep", "a.npz", *grid, "--nan", "drop", "--json").stdout)
    assert (found["valid"][0]["n"], found["n_missing_train"]) == (29, 2)
    found = json.loads(run("cv", "a.npz", *grid, "--nan", "drop", "--json").stdout)
    assert (found["rows"][0]["n"], found["n_missing"]) == (78, 2)
    run("plan", "a.npz", "--nan", "drop")
    run("sample", "a.npz", "--bandwidth", "0.1", "--nan", "drop", "-o", "s.zarr")
    assert np.isfinite(dkde.Catalog("s.zarr").rows("samples").read(0, 44, decode=True)).all()


def test_nothing_is_said_where_nothing_is_missing(run, npz):
    result = run("sweep", npz, "--nan", "drop", "--bandwidths", "0.5,1", "--no-test")
    assert "left out for missing" not in result.stderr


def test_missing_values_are_refused_with_a_word(refused, holes):
    line = refused("score", "a.npz", "--query", "valid", "--bandwidth", "0.5")
    assert line == (
        "Error: a.npz::train: row 3, column 1 is nan; densities need finite values: leave such "
        "rows out (--nan drop) or fill them"
    )


@pytest.fixture
def sea(folder):
    """``sst.nc``: a grid with land in it, where nothing has a value, not even the area."""
    rng = np.random.default_rng(0)
    names = ("sst", "chl", "area")
    grid = xr.Dataset({name: (("lat", "lon"), rng.uniform(1, 2, (12, 15))) for name in names})
    grid = grid.where(rng.uniform(size=(12, 15)) > 0.3)
    grid.to_netcdf(folder / "sst.nc", engine="h5netcdf")
    return grid


def test_weights_that_are_missing_with_the_features(run, refused, sea):
    call = ["score", "sst.nc", "--features", "sst,chl", "--query", "sst.nc", "--bandwidth", "1"]
    call += ["--weights", "area"]
    found = json.loads(run(*call, "--nan", "drop", "--json").stdout)
    rows = np.stack([sea[name].values.ravel() for name in sea], axis=1)
    rows = rows[~np.isnan(rows).any(axis=1)]
    features, weights = rows[:, :2], rows[:, 2]
    expected = dkde.log_density(features, features, 1.0, weights=weights)
    assert found["mean_log_likelihood"] == pytest.approx(np.average(expected, weights=weights))
    row = int(np.isnan(sea.sst.values.ravel()).argmax())
    assert refused(*call) == (
        f"Error: sst.nc: the weight of row {row} (lat {row // 15}, lon {row % 15}), area, is nan; "
        "weights must be finite and not negative: give rows that are not to count the weight 0, or "
        "leave rows without a weight out (--nan drop)"
    )


@pytest.mark.slow
def test_weights_that_are_missing_without_the_features(run, refused, sea, folder):
    row, lon = next((i, i % 15) for i in range(180) if sea.sst.values.flat[i] > 0)
    sea.area[row // 15, lon] = np.nan
    sea.to_netcdf(folder / "other.nc", engine="h5netcdf")
    filled = sea.fillna({"sst": 1.5, "chl": 1.5})
    filled.to_netcdf(folder / "filled.nc", engine="h5netcdf")
    call = ["--features", "sst,chl", "--bandwidth", "1", "--weights", "area"]
    row = int(np.isnan(sea.area.values.ravel()).argmax())
    assert refused("score", "filled.nc", "--query", "filled.nc", *call) == (
        f"Error: filled.nc: the weight of row {row} (lat {row // 15}, lon {row % 15}), area, is "
        "nan; weights must be finite and not negative: give rows that are not to count the weight "
        "0, or leave rows without a weight out (--nan drop)"
    )
    call += ["--nan", "drop", "--json"]
    found = json.loads(run("score", "other.nc", "--query", "other.nc", *call).stdout)
    rows = np.stack([sea[name].values.ravel() for name in sea], axis=1)
    rows = rows[~np.isnan(rows).any(axis=1)]
    expected = dkde.log_density(rows[:, :2], rows[:, :2], 1.0, weights=rows[:, 2])
    mean = np.average(expected, weights=rows[:, 2])
    assert found["mean_log_likelihood"] == pytest.approx(mean)
    assert (found["n"], found["n_missing"]) == (len(rows), 180 - len(rows))


def test_places(run, world):
    sides = ["w.npy", "--train", "w.npy[:60]"]
    place = ["--kernel", "vonmises_fisher"]
    scored = run("score", *sides, "--query", "w.npy[60:]", *place, "--bandwidth", "250km", "--json")
    found = json.loads(scored.stdout)
    expected = dkde.log_density(world[60:], world[:60], "250km", kernel="vonmises_fisher")
    assert found["mean_log_likelihood"] == pytest.approx(expected.mean())
    assert (found["bandwidth"], found["bandwidth_unit"]) == (250, "km")
    grid = ["--bandwidths", "50km,300km,5000km"]
    chosen = run("cv", *sides, *place, *grid, "--json")
    assert json.loads(chosen.stdout)["best_bandwidth"] == 300
    valid = ["--valid", "w.npy[60:]", "--bandwidths", "geomspace:50km:5000km:5"]
    swept = run("sweep", *sides, *valid, *place, "--json")
    assert json.loads(swept.stdout)["valid"][0]["bandwidth"] == 50
    run("sample", *sides, *place, "--bandwidth", "100km", "-o", "s.zarr")
    drawn = dkde.Catalog("s.zarr").rows("samples").read(0, 44, decode=True)
    assert drawn[:, 1].max() > 180  # as the training rows have it


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bandwidth", "5km"], "length on the Earth"),
        (["--kernel", "vonmises_fisher", "--bandwidth", "5mi"], "--bandwidth: bandwidths '5mi'"),
        (["--kernel", "vonmises_fisher", "--bandwidth", "geomspace:5:9km:3"], "geomspace:50km"),
        (["--kernel", "vonmises_fisher", "--bandwidth", "scott"], "rule for distances in space"),
    ],
)
def test_bandwidths_that_are_refused(refused, world, options, said):
    assert said in refused("score", "w.npy", "--train", "w.npy", "--query", "w.npy", *options)
