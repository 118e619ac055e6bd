"""``--tol``."""

import json
from pathlib import Path

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


class TestAbsolute:
    """``--atol``."""

    def test_it_reaches_the_result_and_is_counted(self, run, rows):
        arguments = (rows, *COMMANDS[0][1:], "--atol", "1e-3")
        result = run("score", *arguments, "--output", "r.zarr", "--json")
        found = json.loads(result.stdout)["rows"]
        stored = xr.open_zarr("r.zarr")
        assert json.loads(stored.attrs["provenance"])["score"]["atol"] == 1e-3
        assert [row["n_rows_at_atol"] for row in found] == stored.n_rows_at_atol.values.tolist()
        assert "within atol" in run("score", *arguments).stdout
        run("report", "r.zarr", "--output", "r.html")
        assert "or densities within 0.001" in Path("r.html").read_text()

    def test_without_it_nothing_is_said_of_it(self, run, rows):
        result = run("score", rows, *COMMANDS[0][1:], "--json")
        assert "atol" not in result.stdout

    @pytest.mark.parametrize("command", COMMANDS[1:3], ids=lambda command: command[0])
    def test_no_bandwidth_is_chosen_by_it(self, run, rows, command):
        name, *arguments = command
        result = run(name, rows, *arguments, "--atol", "1e-3", status=2)
        assert "No such option '--atol'" in result.stderr

    @pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[3]], ids=["score", "plan"])
    def test_what_is_no_density_is_refused(self, run, rows, command):
        name, *arguments = command
        result = run(name, rows, *arguments, "--atol", "-1", status=2)
        assert "atol is -1; it must be a finite density" in result.stderr
