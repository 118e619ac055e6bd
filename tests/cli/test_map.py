"""``dkde map``."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr


@pytest.fixture
def points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(size=(80, 2)) * [2, 1] + [5, 40]
    pd.DataFrame(values, columns=["x", "y"]).assign(w=2.0).to_parquet("points.parquet")
    return ["map", "points.parquet", "--features", "x,y"]


@pytest.mark.slow
def test_it_prints_the_levels_and_writes_everything(run, points):
    done = run(
        *points, "--bandwidth", "0.5", "--cell", "0.25", "--levels", "50,95", "--expected",
        "--weights", "w", "-o", "map.nc", "--plot", "map.png", "--contours", "map.geojson",
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["bandwidth", "0.5"]
    assert "expected counts  160 in all" in lines
    assert [line.split()[:2] for line in lines[-2:]] == [["50", "%"], ["95", "%"]]
    with xr.open_dataset("map.nc") as found:
        assert float(found.expected_count.sum()) == pytest.approx(160, rel=1e-6)
        areas = found.level_area.values.tolist()
    assert [float(line.split()[-1]) for line in lines[-2:]] == areas
    with open("map.geojson", encoding="utf-8") as file:
        assert [each["properties"]["area"] for each in json.load(file)["features"]] == areas
    with open("map.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"


def test_json_and_the_rule(run, points):
    done = run(*points, "--cells", "40x30", "--box", "x=0:10", "--json")
    assert "Silverman's rule makes it" in done.stderr
    found = json.loads(done.stdout)
    assert found["cells"] == {"y": 30, "x": 40}
    assert found["levels"] == []
    assert found["expected_count"] is None


@pytest.mark.slow
def test_a_map_is_set_up_and_done_in_parts(run, points):
    run(*points, "--bandwidth", "0.5", "--cells", "20", "--levels", "95", "-o", "m.zarr",
        "--init-only")  # fmt: skip
    run("run-part", "m.zarr", "--part", 0, "--parts", 1)
    done = run("finish", "m.zarr")
    again = run(*points, "--bandwidth", "0.5", "--cells", "20", "--levels", "95", "-o", "m.zarr")
    assert done.stdout == again.stdout
    assert "was complete already" in again.stderr
    assert "1 block computed again and the same" in run("verify", "m.zarr").stdout


@pytest.mark.slow
def test_a_geotiff_is_made_of_parts(run, points):
    pytest.importorskip("rioxarray", reason='needs rioxarray: pip install "dkde[geo]"')
    run(*points, "--bandwidth", "0.5", "--cells", "20", "-o", "m.tif", "--init-only")
    run("run-part", "m.tif", "--part", 0, "--parts", 1)
    done = run("finish", "m.tif")
    assert "mass within" in done.stdout
    again = run(*points, "--bandwidth", "0.5", "--cells", "20", "-o", "m.tif", "--plot", "m.png")
    assert again.stdout == done.stdout
    assert "m.tif was complete already" in again.stderr
    with open("m.tif", "rb") as file:
        assert file.read(2) == b"II"


@pytest.mark.slow
def test_like_a_template(run, points):
    xr.Dataset(coords={"y": [38.0, 39, 40, 41], "x": [4.0, 5, 6]}).to_netcdf("like.nc")
    run(*points, "--bandwidth", "0.5", "--like", "like.nc", "-o", "m.zarr")
    found = xr.open_zarr("m.zarr", consolidated=False)
    assert found.density.shape == (4, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--levels", "50,101"], "--levels: 101.0 is no level"),
        (["--levels", "half"], "--levels 'half' cannot be read; write 50,95"),
        (["--cell", "1", "--cells", "3"], "--cell and --cells both say where cells are"),
        (["--cells", "3x"], "--cells '3x' cannot be read; write 1280x960"),
        (["--cells", "3x4x5"], "or one for each of x, y"),
        (["--box", "x"], "is not NAME=LOW:HIGH"),
        (["--box", "x=1:2,x=2:3"], "x is given twice"),
        (["--box", "lon=1:2"], "--box names lon; the features are x, y"),
        (["--like", "no.nc"], "no.nc: cannot be opened as a template"),
        (["--contours", "a.geojson"], "--contours needs --levels"),
        (["--contours", "a.txt", "--levels", "50"], "a.txt is no .geojson file"),
        (["--contours", "no/a.geojson", "--levels", "50"], "no/a.geojson: there is no folder"),
        (
            ["--contours", "a.geojson", "--levels", "50", "-o", "a.zarr", "--init-only"],
            "--contours: a run that is only set up has none",
        ),
        (["-o", "a.csv"], "a map is no table"),
        (["--cell", "1e-9"], "GB are free: make cells larger, or the box smaller"),
        (["--bandwidth", "1,2"], "--bandwidth '1,2' is not one number"),
    ],
)
def test_what_cannot_be_is_one_line(run, points, options, words):
    if "--bandwidth" not in options:
        options = ["--bandwidth", "0.5", *options]
    done = run(*points, *options, status=2)
    assert words in done.stderr
    (_line,) = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert done.stdout == ""


def test_bounds_and_periods(run, points):
    done = run(
        *points, "--bandwidth", "0.5", "--cell", "0.25", "--expected", "--support", "x=-20:",
        "--support", "y=periodic:100:0",
    )  # fmt: skip
    assert "expected counts" in done.stdout
    bounded = [*points, "--bandwidth", "0.5", "--cell", "1", "--support", "x=5:"]
    assert json.loads(run(*bounded, "--outside", "drop", "--json").stdout)["n_outside_train"] > 9
    done = run(*bounded, status=2)
    assert "(--outside drop)" in done.stderr


def test_a_plan_says_cells_and_cost_and_writes_nothing(run, points, tmp_path):
    asked = [*points, "--bandwidth", "0.5", "--cells", "40x30", "--levels", "50"]
    there = sorted(tmp_path.iterdir())
    done = run(
        *asked, "--levels-from", "sample", "--plan", "-o", "m.nc", "--plot", "m.png",
        "--contours", "m.geojson",
    )  # fmt: skip
    assert sorted(tmp_path.iterdir()) == there
    lines = dict(re.split(" {2,}", line.strip(), maxsplit=1) for line in done.stdout.splitlines())
    assert lines["cells"] == "30 along y × 40 along x, 1,200 in all"
    assert "bandwidths)" in lines["width of a cell"]
    assert lines["time"].endswith("for --levels-from sample")
    assert "memory of a worker" in lines
    cost = json.loads(run(*asked, "--plan", "--json", "--workers", "3").stdout)
    assert cost["cells"] == {"y": 30, "x": 40}
    assert cost["threads"] == 3
    assert cost["pairs"] == 1200 * 80
