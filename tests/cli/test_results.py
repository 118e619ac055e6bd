"""Results after the work: exported, compared, as a page; and sweeps by a protocol."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from dkde_cli.sweep import _PROTOCOLS

import dkde
from dkde.estimation.protocols import PROTOCOLS


@pytest.fixture
def stores(run, npz):
    """``a.zarr`` and ``b.zarr``: sweeps that differ in their training rows."""
    for name, train in (("a", "train"), ("b", "train[:40]")):
        arguments = ["--train", train, "--bandwidths", "0.1,0.5,0.8,9", "--output", f"{name}.zarr"]
        run("sweep", npz, *arguments)


class TestExport:
    @pytest.mark.slow
    def test_csv(self, run, stores):
        result = run("export", "a.zarr", "a.csv")
        assert result.stdout == ""
        assert result.stderr == "a.zarr is in a.csv\n"
        with Path("a.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 20 * 4 + 10
        stored = xr.open_zarr("a.zarr")
        values = [float(row["log_density"]) for row in rows[:80]]
        assert values == stored.log_density.values.T.ravel().tolist()

    @pytest.mark.slow
    def test_refused(self, run, refused, stores):
        Path("a.csv").write_text("mine")
        line = refused("export", "a.zarr", "a.csv")
        assert line.endswith("is there already; give another name, or replace it with --overwrite")
        assert "exported as .csv, .parquet, .nc files" in refused("export", "a.zarr", "a.xls")
        assert "is no result of dkde" in refused("export", "a.npz", "b.csv")
        run("export", "a.zarr", "a.csv", "--overwrite")


class TestCompare:
    @pytest.mark.slow
    def test_json(self, run, stores):
        printed = json.loads(run("compare", "a.zarr", "b.zarr", "--json").stdout)
        found = dkde.compare("a.zarr", "b.zarr")
        assert set(printed) == {
            "a", "b", "n", "mean_difference", "standard_error", "z", "interval_low",
            "interval_high",
            "mean_difference_error",
            "share_a", "share_b", "share_tied", "by", "classes",
        }  # fmt: skip
        assert printed["mean_difference"] == float(found.mean_difference)
        assert printed["standard_error"] == float(found.standard_error)
        assert printed["n"] == 10
        assert printed["a"]["split"] == "test"
        assert printed["a"]["mean_log_likelihood"] == pytest.approx(
            float(xr.open_zarr("a.zarr").test_mean_log_likelihood)
        )
        assert (printed["by"], printed["classes"]) == (None, [])

    @pytest.mark.slow
    def test_table(self, run, stores):
        lines = run("compare", "a.zarr", "b.zarr", "--bandwidth", "0.5,0.8").stdout.splitlines()
        assert lines[0].startswith("A  a.zarr: valid rows at 0.5, mean ")
        assert lines[1].startswith("B  b.zarr: valid rows at 0.8, mean ")
        found = dkde.compare("a.zarr", "b.zarr", bandwidth=(0.5, 0.8))
        row = next(line for line in lines if line.startswith("all")).split()
        assert row[1:4] == [
            "20", f"{float(found.mean_difference):.4f}", f"{float(found.standard_error):.4f}"
        ]  # fmt: skip
        assert "own error is at most " in lines[-1]

    def test_by_label(self, run, folder):
        for name, h in (("a", "1"), ("b", "2")):
            arguments = ["--query", "test", "--bandwidth", h, "--output", f"{name}.zarr"]
            run("score", "digits", *arguments)
        lines = run("compare", "a.zarr", "b.zarr").stdout.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("label"))
        assert [line.split()[0] for line in lines[start + 1 : start + 12]] == [
            "all", *map(str, range(10)),
        ]  # fmt: skip
        printed = json.loads(run("compare", "a.zarr", "b.zarr", "--json").stdout)
        assert [row["class"] for row in printed["classes"]] == list(range(10))
        assert sum(row["n"] for row in printed["classes"]) == printed["n"] == 360

    @pytest.mark.slow
    def test_refused(self, run, refused, stores, npz):
        run("score", npz, "--query", "test[:9]", "--bandwidth", "0.5", "--output", "c.zarr")
        line = refused("compare", "a.zarr", "c.zarr")
        assert "a has 10 test rows, and b 9 query rows" in line
        run("score", npz, "--query", "test", "--bandwidth", "0.5,0.6", "--output", "d.zarr")
        assert "name one with --bandwidth" in refused("compare", "a.zarr", "d.zarr")
        assert "write 0.2, or 0.2,0.17" in refused(
            "compare", "a.zarr", "b.zarr", "--bandwidth", "x"
        )

    @pytest.mark.slow
    def test_numbers_that_are_not_finite_are_null(self, run, folder):
        np.savez("t.npz", train=np.zeros((2, 1)), query=np.array([[0.0], [9.0]]))
        for name in "ab":
            arguments = ["--kernel", "tophat", "--bandwidth", "1", "--output", f"{name}.zarr"]
            run("score", "t.npz", "--query", "query", *arguments)
        printed = json.loads(run("compare", "a.zarr", "b.zarr", "--json").stdout)
        assert printed["mean_difference"] is None
        assert printed["share_tied"] == 1
        assert printed["a"]["n_zero_density"] == 1


class TestReport:
    @pytest.mark.slow
    def test_it_is_a_page(self, run, stores):
        result = run("report", "a.zarr", "-o", "a.html")
        assert result.stderr == "The report of a.zarr is in a.html\n"
        assert Path("a.html").read_text().startswith("<!DOCTYPE html>")

    def test_refused(self, run, refused, stores):
        assert "written as .html" in refused("report", "a.zarr", "-o", "a.pdf")
        assert "is no result of dkde" in refused("report", "a.npz", "-o", "a.html")


class TestProtocol:
    def test_the_names_are_dkdes(self):
        assert tuple(PROTOCOLS) == _PROTOCOLS

    def test_what_is_given_wins_and_is_said_once(self, run, npz):
        arguments = [
            "--protocol", "gan2014", "--train", "train[:50]", "--valid", "valid", "--test", "test",
            "--bandwidths", "0.1,0.5,9",
        ]  # fmt: skip
        result = run("sweep", npz, *arguments, "--json")
        said = [line for line in result.stderr.splitlines() if "protocol" in line]
        assert said == [
            "Warning: these differ from protocol gan2014: 50 rows of train, not 10000; valid "
            "valid, not valid[:1000]; bandwidths 0.1,0.5,9, not logspace:-1:0:10"
        ]
        plain = run(
            "sweep", npz, "--train", "train[:50]", "--bandwidths", "0.1,0.5,9", "--json"
        )  # fmt: skip
        rows = [json.loads(each.stdout)["valid"] for each in (result, plain)]
        assert rows[0] == rows[1]

    def test_refused(self, refused, npz):
        line = refused("sweep", npz, "--protocol", "gan2014", "--train", "train")
        assert "takes 10000 training rows, and a.npz::train has 60" in line
        line = refused("sweep", npz, "--protocol", "gan2014")
        assert "name them with --train" in line
        assert "name others with --train" in refused("sweep", npz, "--protocol", "scratch2019")
        assert "leave out --no-test" in refused(
            "sweep", npz, "--protocol", "scratch2019", "--no-test"
        )
