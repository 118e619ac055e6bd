"""dkde extend, as it is typed."""

import json
import os

import numpy as np
import pytest


@pytest.fixture
def scored(run, tmp_path, monkeypatch):
    """A finished score in the working directory, and rows to add."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, n_rows in {"t": 40, "q": 9, "more": 12, "asked": 5}.items():
        np.save(f"{name}.npy", rng.normal(size=(n_rows, 2)))
    run("score", "t.npy", "--train", "t.npy", "--query", "q.npy", "--bandwidth", "scott",
        "--output", "R.zarr")  # fmt: skip
    return "R.zarr"


@pytest.mark.slow
def test_figures_of_all_rows_are_printed(run, scored):
    found = run("extend", scored, "--train", "more.npy", "--query", "asked.npy", "--json")
    assert json.loads(found.stdout)["n"] == 14
    line = "bandwidth (scott) stays as it was derived from the first 40 training rows"
    assert line in found.stderr
    verified = run("verify", scored)
    words = "1 block computed again and within the bounds on errors; rows were added to this result"
    assert f"{words} later\n" in verified.stdout
    assert json.loads(run("status", scored, "--json").stdout)["complete"]


def test_its_help_names_no_option_that_it_lacks(run):
    text = " ".join(run("extend", "--help").stdout.split())
    assert "SOURCE is by default the data that STORE was made of." in text
    assert "Of a Zarr store or NetCDF file that xarray opens its groups are its splits." in text
    assert "--features" not in text


def test_it_names_its_own_options(refused, scored):
    assert refused("extend", scored) == "Error: no rows to add are named; give --train or --query"
    said = refused("extend", scored, "--train", "more.npy", "--derived", "refuse")
    assert "keep it as it is with --derived keep, or make the result anew of all rows" in said
    assert "--output" in refused("extend", "s3://bucket/R.zarr", "--train", "more.npy")


@pytest.fixture
def stopped(run, scored, monkeypatch):
    """The result, and S.zarr, with extensions that were interrupted when their blocks were done."""

    def fails(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dkde.estimation.added_rows.mixed", fails)
        for output in ([], ["--output", "S.zarr"]):
            run("extend", scored, "--train", "more.npy", *output, status=130)
    return scored


def test_the_call_of_an_unfinished_one_is_not_known_yet(run, refused, stopped):
    words = (
        "Error: R.zarr: rows are being added to it by dkde extend, which is not finished; finish "
        "that call first, then --config writes the call of all rows"
    )
    assert refused("status", "R.zarr", "--config") == words


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["R.zarr", "S.zarr"])
@pytest.mark.parametrize("command", [["finish"], ["run-part", "--part", 0, "--parts", 1]])
def test_an_unfinished_one_is_not_finished_in_parts(refused, stopped, name, command):
    assert refused(*command[:1], name, *command[1:]) == (
        f"Error: {name}: rows are being added to it, which is not finished; give the same command "
        "of extend again, or begin it anew with --restart"
    )


def test_the_status_of_an_unfinished_one(run, stopped):
    first, second = (run("status", name).stdout.splitlines() for name in ("R.zarr", "S.zarr"))
    assert first[0].split(maxsplit=1) == ["state", "stopped; the result before it is complete"]
    assert second[0].split() == ["state", "stopped"]
    for lines in (first, second):
        found = map(os.path.basename, lines[lines.index("data") + 1 :])
        assert sorted(found) == ["more.npy", "q.npy", "t.npy"]


@pytest.mark.slow
@pytest.mark.parametrize("output", ["A.zarr", "A.nc"])
def test_the_status_of_one_begun_anew_beside_its_result(run, scored, output):
    call = (
        "score",
        "t.npy",
        "--train",
        "t.npy",
        "--query",
        "q.npy",
        "--bandwidth",
        1,
        "--output",
        output,
    )
    run(*call)
    assert not json.loads(run("status", output, "--json").stdout)["replaces"]
    run(*call, "--restart", "--init-only")
    assert "stopped; the result before it is complete" in run("status", output).stdout
    run(*call)
    assert json.loads(run("status", output, "--json").stdout)["complete"]


@pytest.mark.slow
def test_another_output(run, scored):
    run("extend", scored, "--query", "asked.npy", "--output", "S.zarr")
    assert json.loads(run("extend", "S.zarr", "--train", "more.npy", "--json").stdout)["n"] == 14
    config = run("status", "S.zarr", "--config")
    assert "S.zarr" in config.stdout
    assert "derived from the first 40 of them; this file derives it from all" in config.stdout
    assert "has no option" not in config.stderr
