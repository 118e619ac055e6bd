"""``--tol``."""

import json

import numpy as np
import pytest
import xarray as xr


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 2)))
    return "rows.npy"


COMMANDS = (
    ("score", "--query", "train[:20]", "--train", "train[20:]", "--bandwidth", "0.1,0.5,5"),
    ("sweep", "--valid", "train[:20]", "--train", "train[20:]", "--bandwidths", "0.1,0.5,5"),
    ("cv", "--train", "train", "--bandwidths", "0.1,0.5,5"),
    ("plan", "--query", "train", "--train", "train", "--bandwidths", "0.1,0.5,5"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_cannot_be_kept_is_refused(run, rows, command):
    name, *arguments = command
    result = run(name, rows, *arguments, "--tol", "1e-13", status=2)
    assert "tol 1e-13 is below what float64 can keep; give 1e-12 or more" in result.stderr


def test_it_reaches_the_result(run, rows):
    run("score", rows, *COMMANDS[0][1:], "--tol", "1e-6", "--output", "r.zarr")
    result = xr.open_zarr("r.zarr")
    assert json.loads(result.attrs["provenance"])["score"]["tol"] == 1e-6
    assert result.log_density_error.shape == (3, 20)
