"""The commands do what they say, and print it where they should."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from dkde_cli.deliver import effort

import dkde

ROW = {
    "bandwidth", "n", "mean_log_likelihood", "standard_error", "bits_per_dimension",
    "n_zero_density",
}  # fmt: skip


class TestSweep:
    def test_json_has_every_digit(self, run, npz):
        printed = json.loads(run("sweep", npz, "--bandwidths", "0.3,0.7,2", "--json").stdout)
        expected = dkde.sweep(
            train="train", valid="valid", test="test", source=npz, bandwidths=[0.3, 0.7, 2]
        )
        assert set(printed) == {"best_bandwidth", "seconds", "valid", "test"}
        assert printed["best_bandwidth"] == float(expected.best_bandwidth)
        assert all(set(row) == ROW for row in [*printed["valid"], printed["test"]])
        means = [row["mean_log_likelihood"] for row in printed["valid"]]
        assert means == expected.mean_log_likelihood.values.tolist()
        assert [row["n"] for row in printed["valid"]] == [20, 20, 20]
        assert printed["test"]["n"] == 10
        assert printed["test"]["standard_error"] == float(expected.test_standard_error)

    def test_without_test_rows(self, run, folder):
        np.savez("b.npz", train=np.eye(4), valid=np.eye(4)[:1] + 0.1)
        printed = json.loads(run("sweep", "b.npz", "--bandwidths", "1,2,4", "--json").stdout)
        assert printed["test"] is None
        # One row has no standard error.
        assert printed["valid"][0]["standard_error"] is None

    def test_table_marks_the_best(self, run, npz):
        lines = run("sweep", npz, "--bandwidths", "0.1,0.7,9").stdout.splitlines()
        assert lines[0].split("  ")[0].strip() == "bandwidth"
        assert [line.endswith("*") for line in lines[1:4]] == [False, True, False]
        assert "best bandwidth 0.7" in lines
        assert lines[-1].startswith("test at 0.7: ")

    def test_files(self, run, npz):
        arguments = ["--bandwidths", "geomspace:0.2:2:4", "--csv", "s.csv", "--plot", "s.svg"]
        run("sweep", npz, *arguments, "--output", "s.zarr")
        with Path("s.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == [
            "split", "bandwidth", "n", "mean_log_likelihood", "standard_error",
            "bits_per_dimension", "n_zero_density",
        ]  # fmt: skip
        assert [row["split"] for row in rows] == ["valid"] * 4 + ["test"]
        stored = xr.open_zarr("s.zarr")
        assert [float(row["mean_log_likelihood"]) for row in rows[:4]] == list(
            stored.mean_log_likelihood.values
        )
        assert Path("s.svg").read_text().startswith("<?xml")
        # No draft of any of them is left.
        assert sorted(p.name for p in Path().iterdir()) == ["a.npz", "s.csv", "s.svg", "s.zarr"]

    def test_digits_come_with_a_picture(self, run, folder):
        result = run("sweep", "digits", "--bandwidths", "1,2,4")
        assert "digits-sweep.png" in result.stderr
        assert (folder / "digits-sweep.png").read_bytes().startswith(b"\x89PNG")

    def test_no_picture_where_it_is_not_wanted(self, run, npz, folder):
        run("sweep", "digits", "--bandwidths", "1,2,4", "--no-plot")
        run("sweep", npz, "--bandwidths", "0.1,0.7,9")
        assert not list(folder.glob("*.png"))

    def test_a_best_value_at_the_edge_is_a_warning_line(self, run, npz):
        result = run("sweep", npz, "--bandwidths", "0.001,0.7", "--json")
        assert result.stderr.splitlines()[0].startswith("Warning: the best bandwidth, 0.7, is the ")
        json.loads(result.stdout)

    @pytest.mark.slow
    def test_an_output_is_replaced_if_so_said(self, run, refused, npz):
        run("sweep", npz, "--bandwidths", "0.1,0.7,9", "--output", "s.zarr")
        assert "with --restart" in refused("sweep", npz, "--output", "s.zarr")
        run("sweep", npz, "--bandwidths", "0.2,0.7,9", "--output", "s.zarr", "--restart")
        assert xr.open_zarr("s.zarr").bandwidth.values[0] == 0.2

    def test_train_may_be_another_file(self, run, npz):
        np.save("generated.npy", np.random.default_rng(0).standard_normal((30, 3)))
        arguments = ["--train", "generated.npy", "--bandwidths", "0.1,0.7,9", "--json"]
        printed = json.loads(run("sweep", npz, *arguments).stdout)
        expected = dkde.score("valid", np.load("generated.npy"), 0.7, source=npz)
        assert printed["valid"][1]["mean_log_likelihood"] == expected.mean_log_likelihood.item()

    def test_bandwidths_stand_point_below_point(self, run, npz):
        lines = run("sweep", npz, "--bandwidths", "0.125,0.5,2,10").stdout.splitlines()
        cells = [line[: len("bandwidth")] for line in lines[1:5]]
        assert cells == ["    0.125", "    0.5  ", "    2    ", "   10    "]

    def test_huge_figures_are_short(self, run, npz):
        table = run("sweep", npz, "--bandwidths", "1e-9,0.7,2").stdout
        assert "e+1" in table.splitlines()[1]
        assert max(map(len, table.splitlines())) < 80


class TestScore:
    def test_one_bandwidth_is_one_row(self, run, npz):
        arguments = ["--query", "test", "--bandwidth", "0.5", "--output", "s.zarr", "--json"]
        printed = json.loads(run("score", npz, *arguments).stdout)
        assert set(printed) == ROW | {"seconds"}
        assert (
            xr.open_zarr("s.zarr").mean_log_likelihood.values[0] == printed["mean_log_likelihood"]
        )

    def test_several_are_rows(self, run, npz):
        arguments = ["--query", "test[:4]", "--bandwidth", "0.5,1", "--json", "--csv", "s.csv"]
        printed = json.loads(run("score", npz, *arguments).stdout)
        assert set(printed) == {"seconds", "rows"}
        assert [row["bandwidth"] for row in printed["rows"]] == [0.5, 1.0]
        assert Path("s.csv").read_text().splitlines()[1].startswith("test[:4],0.5,4,")

    def test_shared_rows_are_a_warning(self, run, npz):
        result = run("score", npz, "--query", "train[:5]", "--bandwidth", "0.5")
        assert result.stderr.startswith("Warning: train (a.npz::train) and query ")
        assert result.stderr.count("share rows") == 1


class TestEffort:
    @pytest.mark.slow
    def test_is_printed_where_it_is_less_than_all(self, run, folder):
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((9500, 100)) * np.geomspace(10, 0.01, 100)
        np.savez("far.npz", train=rows[500:], test=rows[:500], valid=rows[500:1000] + 0.01)
        done = run("score", "far.npz", "--query", "valid", "--bandwidth", "0.1")
        line = done.stderr.splitlines()[-2]
        assert re.fullmatch(r"pairs evaluated (\d\.\d|below 0\.1) %", line)
        shares = run("sweep", "far.npz", "--bandwidths", "0.1,0.2,0.3", "--test", "test").stderr
        assert "pairs evaluated " in shares
        assert "rows read" not in shares

    def test_all_is_not_worth_a_line(self, run, npz):
        assert "evaluated" not in run("score", npz, "--query", "test", "--bandwidth", "1").stderr
        assert "evaluated" not in run("cv", npz, "--bandwidths", "0.3,0.7,2").stderr

    def test_of_a_result_that_does_not_know(self, npz):
        result = dkde.score("test", "train", 1.0, source=npz)
        assert effort(result) == ""
        assert effort(result.drop_vars(["pairs_evaluated", "rows_read"])) == ""
        few = result.assign(
            pairs_evaluated=result.pairs_evaluated * 0, rows_read=("sample", [7] * 10)
        )
        assert effort(few) == "pairs evaluated 0 %, rows read 11.7 %"


class TestPlan:
    @pytest.mark.slow
    def test_json(self, run, npz, monkeypatch):
        monkeypatch.setattr("dkde.estimation.cost.measure_baseline", lambda precision: 10**8)
        arguments = ["--bandwidths", "1,2", "--json", "--workers", "3", "--threads-per-worker", "2"]
        cost = json.loads(run("plan", npz, *arguments).stdout)
        assert cost["pairs"] == 60 * 20
        assert cost["threads"] == 6
        added = 2 * cost["block_bytes"] + cost["resident_bytes"]
        assert cost["peak_bytes_per_worker"] == 10**8 + added

    def test_in_words(self, run, npz, monkeypatch):
        monkeypatch.setattr("dkde.estimation.cost.measure_baseline", lambda precision: 10**8)
        text = run("plan", npz, "--query", "test").stdout
        assert "pairs               600, at 16 bandwidths" in text
        assert "at rest           95.4 MiB" in text
        assert "\nread                nothing; both sides are in memory\nmemory of" in text
        assert "\nmethod              pairs of near leaves, about 100.0% of all pairs\n" in text
        assert max(map(len, text.splitlines())) < 80

    def test_code_of_openblas_for_an_older_processor_is_a_line(self, run, npz, monkeypatch):
        monkeypatch.setattr("dkde.estimation.cost.measure_baseline", lambda precision: 10**8)
        monkeypatch.setattr("dkde.estimation.cost.older_kernels", lambda: None)
        assert "linear algebra" not in run("plan", npz, "--query", "test").stdout
        monkeypatch.setattr("dkde.estimation.cost.older_kernels", lambda: "code for Nehalem")
        text = run("plan", npz, "--query", "test").stdout
        assert text.endswith("\nlinear algebra      code for Nehalem\n")

    def test_over_the_limit(self, refused, npz, monkeypatch):
        monkeypatch.setattr("dkde.estimation.cost.measure_baseline", lambda precision: 10**8)
        assert "pauses at 80%" in refused("plan", npz, "--memory-limit", "100MB")


class TestData:
    @pytest.mark.slow
    def test_import_info_show(self, run, folder):
        result = run("import", "digits", "d.zarr", "--shuffle-seed", 3)
        assert result.stdout == ""
        assert "d.zarr::valid: 359 rows of 64" in result.stderr
        described = json.loads(run("info", "d.zarr", "--json").stdout)
        assert described["import_options"]["shuffle_seed"] == 3
        text = run("info", "d.zarr").stdout
        assert "shuffle_seed 3" in text
        assert described["splits"]["train"]["checksum"] in text
        result = run("show", "d.zarr", "--rows", 2, "--columns", 3, "-o", "d.png")
        assert result.stderr == "6 pictures in d.png\n"
        assert Path("d.png").read_bytes().startswith(b"\x89PNG")

    def test_import_options(self, run, folder):
        np.save("x.npy", np.arange(24, dtype=np.uint8).reshape(2, 12))
        run(
            "import", "x.npy", "x.zarr", "--split", "mine", "--scale", 0.5, "--offset", -1,
            "--image-shape", "3x2x2", "--layout", "CHW", "--format", "npy",
        )  # fmt: skip
        split = dkde.describe("x.zarr")["splits"]["mine"]
        assert (split["scale"], split["offset"]) == (0.5, -1.0)
        assert (split["image_shape"], split["layout"]) == ([3, 2, 2], "CHW")

    def test_a_split_cannot_name_what_has_names(self, refused, npz):
        assert "has names of its own: train, valid, test" in refused(
            "import", npz, "x.zarr", "--split", "foo"
        )

    @pytest.mark.slow
    def test_info_of_pictures_fits_80_columns(self, run, folder):
        rng = np.random.default_rng(0)
        rows = rng.integers(0, 256, (1000, 28, 28), dtype=np.uint8)
        np.savez(
            "m.npz", x_train=rows, y_train=rows[:, 0, 0] % 10,
            x_valid=rows, y_valid=rows[:, 0, 0] % 10, x_test=rows, y_test=rows[:, 0, 0] % 10,
        )  # fmt: skip
        run("import", "m.npz", "m.zarr", "--scale", 1 / 255, "--shuffle-seed", 1)
        for name in ("m.npz", "m.zarr"):
            text = run("info", name).stdout
            assert max(map(len, text.splitlines())) <= 80
            assert "28x28" in text
        assert "offset" not in text
        assert "0.00392157" in text

    @pytest.mark.parametrize("text", ["28", "28xx28", "a x b", "0x3"])
    def test_image_shapes_that_are_none(self, refused, text):
        np.save("x.npy", np.zeros((2, 12)))
        assert "image" in refused("import", "x.npy", "x.zarr", "--image-shape", text)


class TestOptionsByRole:
    @pytest.fixture
    def tables(self, folder):
        rows = np.random.default_rng(3).normal(size=(20, 2))
        np.savetxt("train.csv", rows, delimiter=",", header="a,b", comments="")
        np.savetxt("query.csv", rows[:5, ::-1] + 0.1, delimiter=",", header="y,x", comments="")
        return "train.csv", "--train", "train.csv", "--query", "query.csv", "--bandwidth", "0.5"

    def test_features_of_each_side(self, run, tables):
        words = ["score", *tables, "--features", "train:a,b", "--features", "query:x,y"]
        printed = json.loads(run(*words, "--json", "--output", "out.zarr").stdout)
        rows = np.loadtxt("train.csv", delimiter=",", skiprows=1)
        expected = dkde.log_density(rows[:5] + 0.1, rows, 0.5).mean()
        assert printed["mean_log_likelihood"] == pytest.approx(expected, rel=1e-9)
        # The record has them, so that the same call finds its result, and another is refused.
        again = json.loads(run(*words, "--json", "--output", "out.zarr").stdout)
        assert again["mean_log_likelihood"] == printed["mean_log_likelihood"]
        assert "the same to the last bit" in run("verify", "out.zarr").stdout
        call = json.loads(xr.open_zarr("out.zarr").attrs["provenance"])
        assert call["score"]["query"]["parts"][0]["names"] == ["a", "b"]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--features", "valid:a"], "features is given for the side 'valid', and the sides "
             "are: train, query"),
            (["--features", "a", "--features", "query:x"], "give one for all sides, or one for "),
            (["--lat", "a", "--lat", "b"], "'b' is given beside 'a'"),
        ],
    )  # fmt: skip
    def test_those_that_cannot_be(self, run, tables, words, message):
        found = run("score", *tables, *words, status=2)
        assert message in found.stderr
