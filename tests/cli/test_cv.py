"""``dkde cv``: figures of the library's cross-validation, printed and written."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import dkde

ROW = {
    "bandwidth", "n", "mean_log_likelihood", "standard_error", "bits_per_dimension",
    "n_zero_density", "mean_fold_log_likelihood",
}  # fmt: skip
H = ("--bandwidths", "0.1,0.7,9")


class TestPrinted:
    def test_the_digits_as_scikit_learn_has_them(self, run):
        arguments = ["--train", "all", "--pca", 15, "--bandwidths", "logspace:-1:1:20"]
        printed = json.loads(run("cv", "digits", *arguments, "--folds", 5, "--json").stdout)
        assert printed["best_bandwidth"] == 3.79269019073225

    def test_json(self, run, npz):
        printed = json.loads(run("cv", npz, *H, "--folds", 3, "--json").stdout)
        expected = dkde.cross_validate("train", [0.1, 0.7, 9], folds=3, source=npz)
        assert set(printed) == {"best_bandwidth", "seconds", "folds", "rows"}
        assert (printed["best_bandwidth"], printed["folds"]) == (0.7, 3)
        assert all(set(row) == ROW for row in printed["rows"])
        assert [row["n"] for row in printed["rows"]] == [60] * 3
        for name in ROW - {"n", "bandwidth"}:
            assert [row[name] for row in printed["rows"]] == expected[name].values.tolist()

    def test_table(self, run, npz):
        lines = run("cv", npz, *H).stdout.splitlines()
        assert lines[0].split("  ")[-1] == "fold total"
        assert [line.endswith("*") for line in lines[1:4]] == [False, True, False]
        assert lines[4:] == ["", "best bandwidth 0.7"]
        assert max(map(len, lines)) < 80

    def test_all_is_five_folds_unless_said(self, run, npz):
        printed = json.loads(run("cv", npz, "--train", "train+test", *H, "--json").stdout)
        assert printed["folds"] == 5
        assert printed["rows"][0]["n"] == 70

    def test_the_optimum_is_the_last_row(self, run, npz):
        lines = run("cv", npz, *H, "--refine").stdout.splitlines()
        assert [line.endswith("*") for line in lines[1:5]] == [False, False, False, True]
        printed = json.loads(run("cv", npz, *H, "--refine", "--json").stdout)
        bandwidths = [row["bandwidth"] for row in printed["rows"]]
        assert bandwidths == [0.1, 0.7, 9.0, printed["best_bandwidth"]]
        assert lines[-1] == f"best bandwidth {bandwidths[-1]:.12g}"

    def test_leave_one_out(self, run, npz):
        printed = json.loads(run("cv", npz, *H, "--folds", "loo", "--json").stdout)
        expected = dkde.cross_validate("train", [0.1, 0.7, 9], folds="loo", source=npz)
        assert printed["folds"] == "loo"
        means = [row["mean_log_likelihood"] for row in printed["rows"]]
        assert means == expected.mean_log_likelihood.values.tolist()

    def test_shuffled_the_same_way(self, run, npz):
        def rows(*arguments):
            return json.loads(run("cv", npz, *H, "--json", *arguments).stdout)["rows"]

        shuffled = rows("--shuffle", "--seed", 1)
        assert shuffled == rows("--shuffle", "--seed", 1)
        assert shuffled != rows()

    @pytest.mark.slow
    def test_density_options(self, run, npz):
        arguments = ["--kernel", "exponential", "--covariance", "full", "--pca", 2, "--json"]
        printed = json.loads(run("cv", npz, *H, *arguments).stdout)
        expected = dkde.cross_validate(
            "train", [0.1, 0.7, 9], pca=2, kernel="exponential", covariance="full", source=npz
        )
        means = [row["mean_log_likelihood"] for row in printed["rows"]]
        assert means == expected.mean_log_likelihood.values.tolist()

    def test_passes_are_named(self, run, npz, monkeypatch):
        stages = []
        monkeypatch.setattr(
            "dkde_cli.progress.Lines.__call__", lambda self, stage, *_: stages.append(stage)
        )
        run("cv", npz, *H)
        assert set(stages) == {"grid"}
        run("cv", npz, *H, "--refine")
        assert set(stages) == {"grid", "refining"}


class TestFiles:
    @pytest.mark.slow
    def test_all_of_them(self, run, npz):
        outputs = ["--csv", "s.csv", "--plot", "s.svg", "--output", "s.zarr"]
        result = run("cv", npz, *H, "--refine", *outputs)
        assert "The curve is in s.svg" in result.stderr
        stored = xr.open_zarr("s.zarr")
        with Path("s.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == [
            "split", "bandwidth", "n", "mean_log_likelihood", "standard_error",
            "bits_per_dimension", "n_zero_density", "mean_fold_log_likelihood",
        ]  # fmt: skip
        assert {row["split"] for row in rows} == {"train"}
        for name in ("bandwidth", "mean_log_likelihood", "mean_fold_log_likelihood"):
            assert [float(row[name]) for row in rows] == stored[name].values.tolist()
        assert Path("s.svg").read_text().startswith("<?xml")
        assert sorted(p.name for p in Path().iterdir()) == ["a.npz", "s.csv", "s.svg", "s.zarr"]

    def test_replaced_if_so_said(self, run, refused, npz):
        run("cv", npz, *H, "--output", "s.zarr")
        other = ("cv", npz, "--bandwidths", "0.2,0.7,9", "--output", "s.zarr")
        line = refused(*other)
        assert "was begun otherwise: grid bandwidths was [0.1, 0.7, 9.0] and is [0.2" in line
        assert "begin it anew with --restart" in line
        run(*other, "--restart")
        assert xr.open_zarr("s.zarr").bandwidth.values[0] == 0.2


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (
                ("--folds", "1"),
                "--folds is '1'; it must be a number of at least 2, loo, or by:NAME",
            ),
            (("--folds", "none"), "--folds is 'none'"),
            (("--folds", "61"), "there are 60 rows and 61 folds"),
            (("--seed", "1"), "--seed needs --shuffle"),
            (("--folds", "loo", "--shuffle"), "--shuffle changes nothing"),
            (("--pca", "4"), "pca is 4; 60 rows of 3 features have 1 to 3"),
            (("--pca", "0"), "'--pca'"),
            (("--train", "other"), "has no split 'other'"),
            (("--plot", "s.gif"), "s.gif: pictures are written as"),
            (("--csv", "s.png", "--plot", "s.png"), "--csv and --plot are one place"),
            (("--kernel", "tophat", "--bandwidths", "0.001"), "try larger ones"),
        ],
    )
    def test_options(self, refused, npz, arguments, words):
        assert words in refused("cv", npz, *H, *arguments)

    def test_nothing_is_computed_before_paths_are_checked(self, refused, npz, monkeypatch):
        monkeypatch.setattr("dkde.cross_validate", lambda *_, **__: pytest.fail("computed"))
        refused("cv", npz, *H, "--csv", "none/s.csv")

    def test_no_train_split(self, refused):
        np.savez("b.npz", one=np.eye(4), two=np.eye(4))
        assert "has no split train (it has one, two)" in refused("cv", "b.npz", *H)
