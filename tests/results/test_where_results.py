"""Results of filtered rows: recorded, resumed, opened again and compared; the command line."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde
from dkde.errors import InputError
from dkde.results.rereading import read_back
from dkde.runs.scored_rows import scored_rows

N = 50
RNG = np.random.default_rng(8)
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(size=N),
        "y": RNG.normal(size=N),
        "year": RNG.integers(2018, 2022, N),
        "kind": RNG.choice(["fox", "owl"], N),
    }
)
KEEP = ((FRAME.kind == "fox") & (FRAME.year > 2018)).to_numpy()
XY = ["x", "y"]


@pytest.fixture(params=["data set", "zarr", "csv", "parquet"])
def place(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAME.to_csv("obs.csv", index=False)
    if request.param == "data set":
        dkde.import_dataset("obs.csv", "set.zarr", label="kind")
        return "set.zarr::train", "label == 'fox' and year > 2018"
    if request.param == "zarr":
        held = {name: ("row", FRAME[name].to_numpy()) for name in FRAME}
        xr.Dataset(held).to_zarr("obs.zarr", consolidated=False)
    if request.param == "parquet":
        FRAME.to_parquet("obs.parquet")
    return f"obs.{request.param}", "kind == 'fox' and year > 2018"


@pytest.mark.sampled(4)
def test_a_run_records_its_filter_resumes_by_it_and_reads_its_rows_again(place):
    name, where = place
    call = {"query": name, "train": name, "bandwidth": 0.5, "features": XY, "output": "r.zarr"}
    with pytest.warns(UserWarning, match="share rows"):
        result = dkde.score(**call, where=where)
    rows = FRAME[XY].to_numpy()[KEEP]
    expected = dkde.log_density(rows, rows, 0.5)
    np.testing.assert_allclose(result["log_density"][0], expected, rtol=1e-12)
    provenance = json.loads(result.attrs["provenance"])
    (part,) = provenance["score"]["query"]["parts"]
    assert (part["start"], part["stop"]) == (0, N)
    assert part["where"]["text"] == where
    assert part["where"]["rows"] == KEEP.sum()
    # The same call is done; one with another filter is another call.
    with pytest.warns(UserWarning, match="share rows"):
        assert dkde.score(**call, where=f"{where} ").attrs["complete"]
    with (
        pytest.warns(UserWarning, match="share rows"),
        pytest.raises(dkde.DkdeError, match=r"r\.zarr"),
    ):
        dkde.score(**call, where="year > 2018")
    again, why = read_back(scored_rows(result)[0])
    assert why == ""
    np.testing.assert_array_equal(again.read(0, again.n_rows, decode=True), rows)


@pytest.mark.sampled(4)
def test_the_command_line_filters_rows(place):
    name, where = place
    found = CliRunner().invoke(
        cli,
        ["score", name.partition("::")[0], "--train", name, "--query", name, "--bandwidth", "0.5",
         "--features", "x,y", "--where", where, "--output", "cli.zarr", "--json"],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["n"] == KEEP.sum()
    wrong = CliRunner().invoke(
        cli,
        ["score", name.partition("::")[0], "--train", name, "--query", name, "--bandwidth", "0.5",
         "--features", "x,y", "--where", "__import__('os')"],
    )  # fmt: skip
    assert wrong.exit_code != 0
    assert "--where: a call is not allowed, at character 1" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1


def test_sides_that_share_no_row_after_their_filters_are_apart(place):
    name, _ = place
    call = {"train": name, "valid": name, "bandwidths": [0.1, 0.7, 5.0], "features": XY}
    dkde.sweep(**call, where={"train": "year < 2020", "valid": "year >= 2020"})
    with pytest.raises(InputError, match="share rows"):
        dkde.sweep(**call, where={"train": "year < 2020", "valid": "year >= 2019"})
    with pytest.raises(InputError, match="share rows"):
        dkde.sweep(**call, where={"valid": "year >= 2019"})


def test_ranges_count_rows_before_the_filter_and_terms_are_filtered_alike(place):
    name, where = place
    split = (
        name if "::" in name else f"{name}::{'train' if name.endswith(('csv', 'parquet')) else ''}"
    )
    if split.endswith("::"):
        pytest.skip("the root of a store takes no range")
    both = f"{split}[30:50] + {split}[:10]"
    found = dkde.score(
        query=both, train=FRAME[XY], bandwidth=0.5, features=XY, where={"query": where}
    )
    rows = np.r_[30:50, 0:10]
    rows = rows[KEEP[rows]]
    np.testing.assert_array_equal(found["source_row"], rows)
    expected = dkde.log_density(FRAME[XY].to_numpy()[rows], FRAME[XY], 0.5)
    np.testing.assert_allclose(found["log_density"][0], expected, rtol=1e-12)


def test_a_catalog_gives_the_rows_that_it_keeps_and_a_protocol_takes_its_own(place):
    name, where = place
    rows = dkde.Catalog(features=XY, where=where).rows(name)
    np.testing.assert_array_equal(
        rows.read(0, rows.n_rows, decode=True), FRAME[XY].to_numpy()[KEEP]
    )
    with pytest.raises(InputError, match="says which rows it takes; leave out where"):
        dkde.follow_protocol("gan2014", train=name, where=where)
