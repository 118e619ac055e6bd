"""``dkde score --flag``: unusual rows."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr


@pytest.fixture
def arguments(folder):
    rows = np.random.default_rng(0).normal(size=(80, 2))
    rows[:3] += 6
    np.save("rows.npy", rows)
    return ("rows.npy", "--query", "train[:20]", "--train", "train[20:]", "--bandwidth", "0.5,1")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("share", ["5%", "0.05", "5 %"])
def test_rows_are_flagged_counted_and_kept(run, arguments, share):
    result = run("score", *arguments, "--flag", share, "--output", "r.zarr", "--json")
    rows = json.loads(result.stdout)["rows"]
    stored = xr.open_zarr("r.zarr")
    assert stored.unusual[:, :3].all()
    assert [row["n_unusual"] for row in rows] == stored.unusual.sum("sample").values.tolist()
    assert [row["unusual_below"] for row in rows] == stored.unusual_below.values.tolist()
    first = stored.isel(bandwidth=0)
    words = f"Unusual rows: {int(first.n_unusual)} below {float(first.unusual_below):.6g}, "
    assert words in result.stderr
    assert "where 5 % of the training rows are, each under all others" in result.stderr


def test_tables_have_a_column(run, arguments):
    result = run("score", *arguments, "--flag", "5%", "--output", "r.csv", "--csv", "figures.csv")
    assert "unusual below" in result.stdout
    table, figures = pd.read_csv("r.csv"), pd.read_csv("figures.csv")
    counts = table.groupby("bandwidth")["unusual"].sum()
    assert counts.tolist() == figures["n_unusual"].tolist()


def test_a_file_of_options_names_it(run, arguments):
    run("score", *arguments, "--flag", "5%", "--output", "r.zarr")
    assert "flag = 0.05" in run("status", "r.zarr", "--config").stdout


def test_without_it_nothing_is_said_of_it(run, arguments):
    result = run("score", *arguments, "--output", "r.zarr", "--json")
    assert "nusual" not in result.output
    assert "unusual" not in xr.open_zarr("r.zarr")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--flag", "few"], "--flag is 'few'; write a share such as 1% or 0.01"),
        (["--flag", "70%"], "--flag is 0.7; it must be a share of the training rows above 0"),
        (["--flag", "1%", "--atol", "1e-3"], "--flag compares log-densities"),
    ],
)
def test_what_cannot_be_is_refused(refused, arguments, more, words):
    assert words in refused("score", *arguments, *more)
