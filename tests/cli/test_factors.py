"""Products of kernels, and a bandwidth for each feature, on the command line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import dkde

KERNEL = "lat,lon=vonmises_fisher,depth=gaussian"
BANDWIDTH = "lat,lon=800km,depth=10"


@pytest.fixture
def quakes(run):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "lat": rng.uniform(-60, 60, 80),
            "depth": rng.gamma(2, 15, 80),
            "lon": rng.uniform(-180, 180, 80),
        }
    )
    rows.to_parquet("quakes.parquet")
    return rows


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:train and query share rows")
def test_a_score_and_the_file_that_makes_it_again(run, quakes):
    on = ("quakes.parquet", "--train", "quakes.parquet", "--query", "quakes.parquet")
    arguments = ("--kernel", KERNEL, "--support", "depth=0:", "--output", "r.zarr", "--json")
    printed = json.loads(run("score", *on, "--bandwidth", BANDWIDTH, *arguments).stdout)
    expected = dkde.score(
        quakes, quakes, {("lat", "lon"): "800km", "depth": 10}, support={"depth": (0, None)},
        kernel={("lat", "lon"): "vonmises_fisher", "depth": "gaussian"},
    )  # fmt: skip
    assert printed["mean_log_likelihood"] == float(expected.mean_log_likelihood[0])
    assert "the same to the last bit" in run("verify", "r.zarr").stdout
    text = run("status", "r.zarr", "--config").stdout
    Path("again.toml").write_text(text.replace("r.zarr", "again.zarr"))
    run("run", "again.toml")
    again, first = (xr.open_zarr(name) for name in ("again.zarr", "r.zarr"))
    np.testing.assert_array_equal(again.log_density, first.log_density)


@pytest.mark.filterwarnings("ignore:the best bandwidth")
def test_a_bandwidth_for_each_feature(run, quakes):
    on = ("quakes.parquet", "--train", "quakes.parquet", "--kernel", KERNEL)
    call = ("cv", *on, "--covariance", BANDWIDTH, "--bandwidths", "1,2,4", "--per-feature")
    lines = run(*call).stdout.splitlines()
    printed = json.loads(run(*call, "--json").stdout)
    expected = dkde.cross_validate(
        quakes, [1, 2, 4], per_feature=True, covariance={"lat,lon": "800km", "depth": 10},
        kernel={"lat,lon": "vonmises_fisher", "depth": "gaussian"},
    )  # fmt: skip
    found = dict(zip(("lat,lon", "depth"), expected.feature_bandwidth.values, strict=True))
    assert printed["features"] == found
    assert lines[-1].startswith(f"best for each feature: lat,lon={found['lat,lon']:.6g}km, depth=")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kernel", "lat,lon=vonmises_fisher"), "leave it out with --features"),
        (("--kernel", "lat,lon=vonmises_fisher,depth"), "'depth' is not NAME=KERNEL"),
        (("--kernel", "lat,lon=vonmises_fisher,depth=tophat"), "cannot be in a product"),
        (("--bandwidth", "lat,lon=800km,depth"), "'depth' is not NAME=NUMBER"),
        (("--bandwidth", "2"), "give these by name as --bandwidth, or as --covariance"),
        (("--bandwidth", "lat,lon=800km"), "the bandwidth of depth is missing"),
        (("--bandwidth", "lat,lon=8miles,depth=1"), "'lat,lon=8miles' is not NAME=NUMBER"),
        (("--bandwidth", "depth=2,depth=1"), "depth is given twice"),
    ],
)
def test_what_cannot_be(refused, quakes, arguments, words):
    on = ("quakes.parquet", "--train", "quakes.parquet", "--query", "quakes.parquet")
    given = {"--kernel": KERNEL, "--bandwidth": BANDWIDTH, **dict([arguments])}
    assert words in refused("score", *on, *(word for pair in given.items() for word in pair))
