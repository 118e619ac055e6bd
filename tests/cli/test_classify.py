"""``dkde classify``: rows by one density for each class."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import dkde


@pytest.fixture
def arguments(folder):
    rng = np.random.default_rng(3)
    kinds = rng.choice(["T", "B"], 90)
    rows = rng.normal(size=(90, 2)) + 2 * (kinds == "T")[:, None]
    frame = pd.DataFrame(rows, columns=["a", "b"]).assign(kind=kinds)
    frame[:60].to_parquet("train.parquet")
    frame[60:].to_parquet("query.parquet")
    return (
        "train.parquet",
        "--query",
        "query.parquet",
        "--by",
        "kind",
        "--bandwidth",
        "0.05,0.6,3",
    )


@pytest.mark.slow
def test_the_figures_are_those_of_the_result(run, arguments):
    result = run("classify", *arguments, "--output", "r.zarr", "--plot", "c.png", "--json")
    found, stored = json.loads(result.stdout), xr.open_zarr("r.zarr")
    assert found["classes"] == ["B", "T"]
    for name in ("accuracy", "log_loss", "brier", "choice_log_loss"):
        assert [row[name] for row in found["rows"]] == stored[name].values.tolist()
    best = stored.sel(bandwidth=found["best_bandwidth"])
    assert found["best_bandwidth"] == float(stored.best_bandwidth)
    assert found["confusion"] == best.confusion.values.tolist()
    assert sum(each["rows"] for each in found["calibration"]) == 30
    assert Path("c.png").stat().st_size > 1000
    shown = run("classify", *arguments).stdout
    assert f"{found['rows'][0]['accuracy']:.4f}" in shown
    assert "true classes down, predicted classes across" in shown


def test_priors_are_by_class(run, arguments):
    run("classify", *arguments, "--priors", "T=0.9,B=0.1", "--output", "r.zarr")
    stored = xr.open_zarr("r.zarr")
    np.testing.assert_allclose(np.exp(stored.log_prior), [0.1, 0.9])
    expected = dkde.classify(
        "query.parquet", "train.parquet", [0.05, 0.6, 3], by="kind", priors={"T": 0.9, "B": 0.1}
    )
    np.testing.assert_array_equal(stored.log_posterior, expected.log_posterior)


@pytest.mark.parametrize(
    ("priors", "words"),
    [
        ("T=0.7,T=0.3", "T is given twice"),
        ("T", "'T' is not CLASS=NUMBER"),
        ("T=x", "'T=x' is not CLASS=NUMBER"),
        ("T=1", "priors lack the classes B"),
    ],
)
def test_priors_that_cannot_be_read_are_refused(run, arguments, priors, words):
    result = run("classify", *arguments, "--priors", priors, status=2)
    assert words in result.stderr
