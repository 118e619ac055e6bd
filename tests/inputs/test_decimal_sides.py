"""CSV with decimal commas as a side: the same numbers as with points, in every use of it."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde
from dkde.datasets.formats import csv
from dkde.errors import DkdeError, InputError

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.filterwarnings("ignore:weights 'w' apply")

RNG = np.random.default_rng(3)
FRAME = pd.DataFrame(RNG.normal(size=(60, 3)), columns=["a", "b", "c"])
FRAME["w"] = RNG.uniform(0.5, 2, 60)
FRAME["site"] = RNG.choice(["north", "south"], 60)
OPTIONS = {"features": ["a", "b"], "weights": "w", "where": "c > -0.75 and site == 'north'"}
TRAIN, QUERY = "train[:40]", "train[40:]"
WORDS = ["--features", "a,b", "--weights", "w", "--where", "c > -0.75 and site == 'north'"]


@pytest.fixture(params=["loaded", "streamed"])
def folder(request, tmp_path, monkeypatch):
    """A folder with the rows in both forms of text; it is the working directory."""
    monkeypatch.chdir(tmp_path)
    FRAME.to_csv("commas.csv", sep=";", decimal=",", index=False)
    FRAME.to_csv("points.csv", index=False)
    if request.param == "streamed":
        monkeypatch.setattr(csv, "_LOADED_BYTES", -1)
    return tmp_path


def test_in_python(folder):
    commas = dkde.Catalog("commas.csv", decimal=",")
    expected = dkde.score(QUERY, TRAIN, 0.5, source="points.csv", **OPTIONS)
    found = dkde.score(QUERY, TRAIN, 0.5, source=commas, **OPTIONS)
    np.testing.assert_array_equal(found.log_density, expected.log_density)
    # The mark is for text alone: the other side is Parquet.
    FRAME.to_parquet("rows.parquet")
    found = dkde.score("rows.parquet[40:]", TRAIN, 0.5, source=commas, **OPTIONS)
    np.testing.assert_array_equal(found.log_density, expected.log_density)
    described = dkde.describe("commas.csv", decimal=",")["splits"]["train"]["columns"]
    assert described == dkde.describe("points.csv")["splits"]["train"]["columns"]


@pytest.mark.slow
def test_on_the_command_line(folder):
    def told(command, file, *more):
        mark = ("--decimal", ",") if file == "commas.csv" else ()
        called = CliRunner().invoke(cli, [command, file, *WORDS, *more, *mark, "--json"])
        assert called.exit_code == 0, called.stderr
        found = json.loads(called.stdout)
        return {name: value for name, value in found.items() if name != "seconds"}

    for command, *more in (
        ("score", "--train", TRAIN, "--query", QUERY, "--bandwidth", "0.5"),
        ("sweep", "--train", TRAIN, "--valid", QUERY, "--bandwidths", "0.05,0.5,5"),
        ("cv", "--folds", "3", "--bandwidths", "0.05,0.5,5"),
    ):
        assert told(command, "commas.csv", *more) == told(command, "points.csv", *more)
    plans = [
        told("plan", f"{name}.csv", "--train", TRAIN, "--query", QUERY)
        for name in ("commas", "points")
    ]
    assert plans[0]["pairs"] == plans[1]["pairs"]
    info = CliRunner().invoke(cli, ["info", "commas.csv", "--decimal", ",", "--json"])
    assert json.loads(info.stdout)["splits"]["train"]["features"] == 4


@pytest.mark.slow
def test_a_run_is_made_again_verified_and_read_back(folder):
    words = ["score", "commas.csv", *WORDS, "--train", TRAIN, "--query", QUERY]
    words += ["--bandwidth", "0.5", "--decimal", ",", "--output", "r.zarr"]
    for _ in range(2):  # the second finds it complete
        called = CliRunner().invoke(cli, words)
        assert called.exit_code == 0, called.stderr
    dkde.verify("r.zarr")
    config = CliRunner().invoke(cli, ["status", "r.zarr", "--config"])
    assert 'decimal = ","' in config.stdout
    dkde.report("r.zarr", "r.html")
    assert "The rows themselves are not shown" not in (folder / "r.html").read_text()
    made = xr.open_zarr("r.zarr")
    expected = dkde.score(QUERY, TRAIN, 0.5, source="points.csv", **OPTIONS)
    np.testing.assert_array_equal(made.log_density, expected.log_density)
    # Read with points, the same file has other columns.
    with pytest.raises(DkdeError):
        dkde.score(QUERY, TRAIN, 0.5, source="commas.csv", output="r.zarr", **OPTIONS)


def test_what_is_refused():
    with pytest.raises(InputError, match="decimal is ';'; it must be a point or a comma"):
        dkde.Catalog("x.csv", decimal=";")
