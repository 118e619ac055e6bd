"""What an extension of a result refuses, in one line; and what it takes all the same."""

import json
import os
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import dkde
from dkde.engine import task
from dkde.errors import DataSetError, DkdeError
from dkde.estimation.extend_job import ExtendJob
from dkde.runs import run
from dkde.runs.opened import opened_result
from dkde.runs.plan_schema import call_fault


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    """Tables t, q, more and asked in the working directory, as arrays."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    found = {}
    for name, n_rows in {"t": 50, "q": 20, "more": 30, "asked": 15}.items():
        found[name] = rng.normal(size=(n_rows, 2))
        np.save(f"{name}.npy", found[name])
        table = pd.DataFrame(found[name], columns=["x", "y"])
        table.assign(w=1.0, g=np.arange(n_rows) % 2).to_csv(f"{name}.csv", index=False)
    return found


@pytest.fixture
def scored(rows):
    return dkde.score("q.npy", "t.npy", [0.5, 1.0], output="R.zarr")


def refused(words, result="R.zarr", error=DkdeError, **options):
    options = options or {"train": "more.npy"}
    with pytest.raises(error, match=words) as caught:
        dkde.extend(result, **options)
    assert "\n" not in str(caught.value)


def added_to(output):
    """Add a variable to a result, as a user does with xarray."""
    with opened_result(output) as found:
        mine = found.assign(mine=("sample", np.arange(20.0)))[["mine"]].load()
    mine = mine.drop_encoding()
    if output.endswith(".zarr"):
        mine.to_zarr(output, mode="a")
        return
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(output))
    session = repository.writable_session("main")
    mine.to_zarr(session.store, mode="a", consolidated=False)
    session.commit("mine")


@pytest.fixture
def stopped(monkeypatch):
    """Return a function that interrupts an extension of R.zarr when its blocks are done."""

    def fails(*_, **__):
        raise RuntimeError("stop")

    def begin(**options):
        with monkeypatch.context() as patched:
            patched.setattr("dkde.estimation.added_rows.mixed", fails)
            with pytest.raises(RuntimeError):
                dkde.extend("R.zarr", **options)

    return begin


class TestRows:
    @pytest.mark.slow
    def test_of_other_features(self, scored, rows):
        np.save("wide.npy", np.ones((4, 3)))
        refused("features differ: .*has 2.*has 3", train="wide.npy")
        refused(r"features differ: .*has 2.*has 64$", train="digits::train")  # no word of moves
        pd.DataFrame(rows["t"], columns=["x", "z"]).to_csv("z.csv", index=False)
        table = {"source": None, "features": ["x", "y"]}
        dkde.score("q.csv", "t.csv", 1.0, **table, output="T.zarr")
        refused("y", "T.zarr", train="z.csv")

    def test_in_other_units(self, rows):
        for name, unit in (("t", "m"), ("q", "m"), ("more", "km")):
            variables = {
                each: ("sample", column, {"units": unit})
                for each, column in zip("xy", rows[name].T, strict=True)
            }
            xr.Dataset(variables).to_netcdf(f"{name}.nc")
        dkde.score("q.nc", "t.nc", 1.0, features=["x", "y"], output="U.zarr")
        refused("more.nc.*: x is in km, and in the rows of U.zarr in m", "U.zarr", train="more.nc")

    @pytest.mark.slow
    def test_that_are_there(self, scored):
        shutil.copy("t.npy", "copy.npy")
        words = r"R.zarr: rows of .*{} are among its {} rows already \(.*{}\); name other rows"
        refused(words.format("t.npy", "train", "t.npy"), train="t.npy")
        same = "t.npy, which has the same content"
        refused(words.format("copy.npy", "train", same), train="copy.npy")
        refused(words.format(r"t.npy\[40:50\]", "train", "t.npy"), train="t.npy[40:]")
        refused(words.format(r"q.npy\[3:4\]", "query", "q.npy"), query="q.npy[3:4]")
        dkde.extend("R.zarr", train="more.npy[:20]")
        there = r".*more.npy\[0:20\]"
        refused(words.format(r"more.npy\[19:30\]", "train", there), train="more.npy[19:]")
        found = dkde.extend("R.zarr", train="more.npy[20:]")
        assert dkde.verify("R.zarr", blocks="all")["reason"] is None
        assert json.loads(found.attrs["provenance"])["score"]["train"]["rows"] == 80

    def test_that_are_named_twice(self, scored):
        shutil.copy("more.npy", "copy.npy")
        refused("has rows of .*more.npy, which are to be added", train="more.npy+more.npy")
        words = "copy.npy: has rows of .*more.npy, which has the same content, which are to be"
        refused(words, train="more.npy+copy.npy")

    @pytest.mark.slow
    def test_are_refused_before_anything_is_warned_of(self, rows):
        dkde.score("t.npy[:20]", "t.npy[20:40]", 1.0, output="R.zarr")
        refused("are among its train rows already", train="t.npy[:30]")
        refused("is below what float64 can keep", train="t.npy[:20]", tol=1e-14)
        with pytest.warns(UserWarning, match="share rows") as warned:
            dkde.extend("R.zarr", train="t.npy[:20]")
        assert len(warned) == 1
        assert warned[0].filename == __file__

    @pytest.mark.slow
    def test_other_splits_of_the_same_file_are_other_rows(self, rows):
        dkde.score("digits::test", "digits::train", 3.0, output="D.zarr")
        found = dkde.extend("D.zarr", train="digits::valid")
        whole = dkde.score("digits::test", "digits::train+digits::valid", 3.0)
        off = np.abs(found.log_density - whole.log_density)
        assert (off <= found.log_density_error + whole.log_density_error).all()
        refused("already", "D.zarr", train="digits::valid")
        assert dkde.status("D.zarr")["sources"] == {}  # which could be moved

    def test_of_a_result_that_is_a_file(self, rows):
        dkde.score("q.npy", "t.npy", 1.0, output="R.nc")
        refused("R.nc: is a file; rows are added to a result in a store", "R.nc")

    def test_that_are_not_there_or_no_selectors(self, scored, rows):
        refused("no rows to add", train=None)
        refused("nothing.npy: is not there", train="nothing.npy")
        refused("train is a ndarray; rows are added by selectors", train=rows["more"])

    def test_whose_weights_are_missing_or_zero(self, rows):
        # The weights of a variable that is in the training rows alone.
        dkde.score("q.npy", "t.csv", 1.0, features={"train": ["x", "y"]}, weights="w",
                   output="W.zarr")  # fmt: skip
        refused("has no variable 'w'|w", "W.zarr", train="more.npy")
        pd.read_csv("more.csv").assign(w=0.0).to_csv("zero.csv", index=False)
        refused("weight", "W.zarr", train="zero.csv")

    @pytest.mark.slow
    def test_of_a_grid(self, rows):
        axis = np.linspace(-1, 1, 5)
        grid = xr.Dataset({"x": ("a", axis), "y": ("b", axis)}).broadcast_like(
            xr.Dataset(coords={"a": axis, "b": axis})
        )
        grid = xr.broadcast(grid["x"], grid["y"])
        xr.Dataset({"x": grid[0], "y": grid[1]}).to_netcdf("grid.nc")
        dkde.score("grid.nc", "t.csv", 1.0, features=["x", "y"], output="G.zarr")
        refused("lie along 2 dims", "G.zarr", query="asked.csv")
        found = dkde.extend("G.zarr", train="more.csv")
        assert found.log_density.dims == ("bandwidth", "a", "b")


class TestResults:
    def test_that_are_none_or_not_complete(self, rows):
        refused("no result")
        with dkde.init_only():
            dkde.score("q.npy", "t.npy", 1.0, output="R.zarr")
        refused("is not complete")

    @pytest.mark.sampled(4)
    @pytest.mark.filterwarnings("ignore:Consolidated metadata")
    @pytest.mark.parametrize("output", ["R.zarr", "R.icechunk"])
    @pytest.mark.parametrize("noted", [True, False])
    def test_with_a_variable_of_a_user(self, rows, output, noted, monkeypatch):
        if output == "R.icechunk":
            pytest.importorskip("icechunk").set_logs_filter("error")
        if not noted:  # as in results of versions that did not note their variables
            monkeypatch.setattr("dkde.runs.run.VARIABLES", "x")
        first = dkde.score("q.npy", "t.npy", 1.0, output=output)
        added_to(output)
        words = rf"{output}: holds what is no part of the result \(mine\), which would be lost"
        with monkeypatch.context() as patched:
            patched.setattr("dkde.runs.run.computed", None)  # before any work
            refused(words, output)
            with pytest.raises(DataSetError, match=words):
                dkde.score("q.npy", "t.npy", 2.0, output=output, restart=True)
        assert "mine" in opened_result(output)
        assert not os.path.exists(f"{output}.run")
        found = dkde.extend(output, train="more.npy", output="S.zarr")
        assert "mine" not in found
        xr.testing.assert_equal(opened_result(output).log_density.load(), first.log_density)

    def test_of_arrays(self, rows):
        result = dkde.score(rows["q"], rows["t"], 1.0)
        refused("in memory alone", result)
        dkde.score(rows["q"], rows["t"], 1.0, output="R.zarr")
        refused("does not hold the call")

    def test_of_another_engine(self, scored, monkeypatch):
        monkeypatch.setattr(task, "REVISION", task.REVISION + 1)
        refused("made by engine revision")

    def test_whose_data_have_changed(self, scored, rows):
        np.save("t.npy", rows["t"] + 1)
        refused("was begun otherwise")

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"atol": 1e-9}, "atol"),
            ({"adaptive": 0.5}, "adaptive"),
            ({"contamination": 0.1}, "contamination"),
            ({"by": "g"}, "by"),
        ],
    )
    def test_of_more_than_log_densities(self, options, words):
        dkde.score("q.csv", "t.csv", 1.0, features=["x", "y"], **options, output="R.zarr")
        refused(f"cannot be extended, as {words}", train="more.csv")

    @pytest.mark.sampled(3)
    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, "folds are others"),
            ({"folds": "loo", "refine": True}, "refine"),
            ({"folds": "loo", "criterion": "least_squares"}, "criterion"),
        ],
    )
    def test_of_cross_validations(self, options, words):
        dkde.cross_validate("t.npy", [0.5, 1.0, 2.0], **options, output="R.zarr")
        refused(f"cannot be extended, as .*{words}")

    def test_of_cross_validations_score_their_training_rows(self):
        dkde.cross_validate("t.npy", [0.5, 1.0, 2.0], folds="loo", output="R.zarr")
        refused("cross-validation scores its training rows", query="asked.npy")

    def test_of_maps_and_classes(self):
        dkde.density_map("t.csv", 1.0, features=["x", "y"], cells=4, output="R.zarr")
        refused("a result of density_map")

    def test_in_a_bucket(self):
        refused("lies in a bucket", "s3://bucket/R.zarr")


class TestTwoAtOnce:
    """One extension runs to its end while another has read the same result."""

    WORDS = "rows were added by another process meanwhile; make the same call again"

    @pytest.fixture
    def overtaken(self, monkeypatch):
        """Let other rows be added while the rows of a first call are read."""

        def overtake(output):
            made = ExtendJob.of

            def late(*arguments, **options):
                job = made(*arguments, **options)
                monkeypatch.setattr(ExtendJob, "of", made)
                dkde.extend(output, query="asked.npy")
                return job

            monkeypatch.setattr(ExtendJob, "of", late)

        return overtake

    @pytest.mark.slow
    @pytest.mark.parametrize("output", ["R.zarr", "R.icechunk"])
    def test_no_rows_are_lost(self, rows, overtaken, output):
        if output == "R.icechunk":
            pytest.importorskip("icechunk").set_logs_filter("error")
        dkde.score("q.npy", "t.npy", 1.0, output=output)
        overtaken(output)
        refused(self.WORDS, output, train="more.npy")
        assert not os.path.exists(f"{output}.run")
        assert dkde.extend(output, train="more.npy").sizes["sample"] == 35
        found = json.loads(opened_result(output).attrs["provenance"])["score"]
        assert (found["query"]["rows"], found["train"]["rows"]) == (35, 80)

    @pytest.mark.slow
    def test_the_first_output_of_two_is_kept_as_it_is_replaced(self, scored, monkeypatch):
        publish = run.publish_store

        def late(*arguments, **options):
            monkeypatch.setattr(run, "publish_store", publish)
            dkde.extend("R.zarr", query="asked.npy", output="S.zarr")
            shutil.rmtree("R.zarr")
            shutil.move("S.zarr", "R.zarr")
            publish(*arguments, **options)

        monkeypatch.setattr(run, "publish_store", late)
        refused(self.WORDS, train="more.npy")
        assert opened_result("R.zarr").sizes["sample"] == 35


class TestWhatIsAsked:
    @pytest.mark.slow
    def test_what_is_derived_is_kept_or_refused(self, rows):
        dkde.score("q.npy", "t.npy", "scott", covariance="full", output="R.zarr")
        refused("bandwidth .scott., covariance .full. was derived", train="more.npy",
                derived="refuse")  # fmt: skip
        refused("derived is 'no'", train="more.npy", derived="no")
        dkde.extend("R.zarr", query="asked.npy", derived="refuse")  # nothing is derived anew
        with pytest.warns(UserWarning, match="stays as it was derived from the first 50"):
            found = dkde.extend("R.zarr", train="more.npy")
        said = json.loads(found.attrs["provenance"])["extended"]
        assert said["derived"] == {"bandwidth": "scott", "covariance": "full"}
        assert said["derived_from"] == 50
        frozen = np.cov(rows["t"].T)
        whole = dkde.score(
            np.concatenate([rows["q"], rows["asked"]]),
            np.concatenate([rows["t"], rows["more"]]),
            float(found.bandwidth[0]), covariance=frozen,
        )  # fmt: skip
        np.testing.assert_allclose(found.log_density, whole.log_density, rtol=1e-9)

    @pytest.mark.slow
    def test_a_tolerance_that_is_spent_is_refused(self, rows):
        dkde.score("q.npy", "t.npy", 1.0, tol=1e-4, output="R.zarr")
        refused("bounds on its errors are up to .* above the tolerance of 1e-12", tol=1e-12,
                train="more.npy")  # fmt: skip
        found = dkde.extend("R.zarr", train="more.npy", tol=1e-3)
        provenance = json.loads(found.attrs["provenance"])
        assert provenance["score"]["tol"] == 1e-3
        assert 0 < provenance["extended"]["tolerance_spent"] <= 1e-3

    @pytest.mark.slow
    def test_another_output_leaves_the_first_as_it_is(self, scored):
        found = dkde.extend("R.zarr", train="more.npy", output="S.zarr")
        assert os.path.isdir("R.zarr")
        again = dkde.extend("R.zarr", train="more.npy", output="S.zarr")  # complete already
        xr.testing.assert_identical(found.log_density, again.log_density)
        np.testing.assert_array_equal(
            xr.open_zarr("R.zarr").log_density.values, scored.log_density.values
        )
        refused("was begun otherwise", train="asked.npy", output="S.zarr")
        assert sorted(os.listdir()) == sorted({*os.listdir(), "R.zarr", "S.zarr"})

    @pytest.mark.slow
    def test_a_file_as_output_is_returned_by_the_same_call(self, scored):
        found = dkde.extend("R.zarr", train="more.npy", output="S.nc")
        with dkde.extend("R.zarr", train="more.npy", output="S.nc") as again:
            xr.testing.assert_identical(found.log_density, again.log_density.load())
        refused("S.nc: was begun otherwise", train="asked.npy", output="S.nc")

    @pytest.mark.slow
    def test_another_run_at_the_place_is_named(self, scored):
        with dkde.init_only():
            dkde.score("q.npy", "t.npy", 3.0, output="R.zarr", restart=True)
        refused("R.zarr: a run of score is not finished there; finish it by its own call")
        assert dkde.extend("R.zarr", train="more.npy", restart=True).sizes["sample"] == 20

    @pytest.mark.slow
    def test_an_extension_of_a_result_that_is_another_now_is_not_finished(self, scored, stopped):
        stopped(train="more.npy", output="S.zarr")
        dkde.extend("R.zarr", train="more.npy")
        words = (
            "S.zarr: an extension of R.zarr is not finished there, and R.zarr is another result "
            "since; .* anew in its place .restart., or remove S.zarr.run"
        )
        for train in ("more.npy", "asked.npy"):
            refused(words, train=train, output="S.zarr")
        found = dkde.extend("R.zarr", query="asked.npy", output="S.zarr", restart=True)
        assert found.sizes["sample"] == 35

    @pytest.mark.slow
    def test_a_call_of_other_rows_does_not_go_on_with_an_extension(self, scored, stopped):
        stopped(train="more.npy")
        words = "rows are being added to R.zarr .train rows .*more.npy., which is not finished"
        refused(words, train="asked.npy")
        with pytest.raises(DataSetError, match=words):
            dkde.score("q.npy", "t.npy", [0.5, 1.0], output="R.zarr")  # the call that made it
        words = "R.zarr: rows are being added to it, which is not finished; make the same call of "
        for call in (dkde.finish, partial(dkde.run_part, part=0, parts=1)):
            with pytest.raises(DkdeError, match=f"{words}extend again, or begin it anew"):
                call("R.zarr")
        assert not dkde.status("R.zarr")["complete"]
        dkde.extend("R.zarr", train="asked.npy", restart=True)
        assert dkde.status("R.zarr")["complete"]

    @pytest.mark.slow
    def test_a_result_may_be_given_as_it_was_returned(self, scored):
        dkde.extend(scored, train="more.npy")
        with xr.open_zarr("R.zarr") as opened:
            found = dkde.extend(opened, query="asked.npy")
        assert found.sizes["sample"] == 35

    @pytest.mark.slow
    def test_the_first_call_does_not_return_the_extended_result(self, scored):
        dkde.extend("R.zarr", train="more.npy")
        with pytest.raises(DataSetError, match="was begun otherwise"):
            dkde.score("q.npy", "t.npy", [0.5, 1.0], output="R.zarr")

    @pytest.mark.slow
    def test_a_result_that_was_moved_with_its_data(self, scored, tmp_path, monkeypatch):
        for folder in ("study", "elsewhere"):
            (tmp_path / folder).mkdir()
        for name in ("R.zarr", "t.npy", "q.npy"):
            shutil.move(name, f"study/{name}")
        shutil.move("study", "elsewhere/study")
        found = dkde.extend("elsewhere/study/R.zarr", train="more.npy")
        again = dkde.extend("elsewhere/study/R.zarr", query="asked.npy")
        assert again.sizes["sample"] == found.sizes["sample"] + 15


@pytest.mark.sampled(8)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [
        {"nan": "drop"},
        {"where": "x > -1"},
        {"bandwidth_scale": "s"},
        {"support": {"x": (0, None)}, "outside": "drop"},
        {"kernel": "vonmises_fisher", "lat": "x", "lon": "y", "features": None},
        {"kernel": {"x": "gaussian", "y": "gaussian"}, "bandwidth": {"x": 0.5, "y": 1.0}},
        {"precision": "float32"},
        {"metric": "manhattan", "kernel": "univariate_gaussian", "weights": "s"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_options_of_scores(rows, options):
    rng = np.random.default_rng(8)
    for name, values in rows.items():
        table = pd.DataFrame(values, columns=["x", "y"])
        table["s"] = rng.uniform(0.5, 2.0, len(table))
        if "nan" in options:
            table.loc[rng.random(len(table)) < 0.2, "y"] = np.nan
        table.to_csv(f"{name}.csv", index=False)
    options = {"features": ["x", "y"], "bandwidth": 0.5, **options}
    dkde.score("q.csv", "t.csv", **options, output="R.zarr")
    found = dkde.extend("R.zarr", train="more.csv", query="asked.csv")
    whole = dkde.score("q.csv+asked.csv", "t.csv+more.csv", **options)
    bounds = found.log_density_error.values + whole.log_density_error.values
    off = np.abs(found.log_density.values - whole.log_density.values)
    assert ((off <= bounds) | np.isnan(off)).all()
    np.testing.assert_array_equal(np.isnan(found.log_density), np.isnan(whole.log_density))
    for name in ("n_missing", "n_missing_train", "n_outside", "n_outside_train"):
        assert (name in found) == (name in whole)
        assert name not in whole or int(found[name]) == int(whole[name])
    assert dkde.verify("R.zarr", blocks="all")["reason"] is None


def test_a_record_of_added_rows_is_of_what_can_be_extended():
    call = {"function": "density_map", "arguments": {"train": "t.npy", "bandwidth": 1.0},
            "folder": "/", "source": None}  # fmt: skip
    assert call_fault(call) is None
    assert "no rows are added" in call_fault({**call, "derived_from": 5})
    assert call_fault({**call, "derived_from": 0}) is not None
