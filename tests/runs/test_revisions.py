"""Runs and results that another revision of the engine began: other bits, and other blocks."""

import json

import numpy as np
import pytest
import xarray as xr
import zarr

import dkde
from dkde.engine import block_plan, leaf_plan, task
from dkde.errors import Remedy
from dkde.rows.side import Rows
from dkde.runs.store import ResultStore

H = [0.3, 0.6, 1.2]
ROWS = 240


class Stopped(BaseException):
    """As Ctrl-C: no kind of Exception."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Arrays in files, and an engine that cuts them into a few blocks by default."""
    rng = np.random.default_rng(8)
    np.save(tmp_path / "x.npy", rng.normal(size=(ROWS, 3)))
    np.save(tmp_path / "q.npy", rng.normal(size=(60, 3)))
    monkeypatch.chdir(tmp_path)
    # Panels are whole reads, which of such small data would be all rows.
    monkeypatch.setattr(Rows, "read_rows", property(lambda self: 40))
    cut_by_default(monkeypatch, 20, 80)
    return tmp_path


def cut_by_default(monkeypatch, query_rows, panel_rows):
    """Let plans choose so many rows."""
    monkeypatch.setattr(block_plan, "LEAVES_QUERY_ROWS", query_rows)
    monkeypatch.setattr(leaf_plan, "READ_PANEL", (panel_rows, 2**28))
    monkeypatch.setattr(leaf_plan, "RESIDENT_PANEL", (panel_rows, 2**28))


@pytest.fixture
def later(monkeypatch):
    """Make the engine another one from now on: of another revision, with other blocks."""

    def become(by=1):
        monkeypatch.setattr(task, "REVISION", task.REVISION + by)
        cut_by_default(monkeypatch, 30, 120)

    return become


def score(**keywords):
    return dkde.score("q.npy", "x.npy", H, **keywords)


def sweep(**keywords):
    return dkde.sweep(
        train="x.npy[:180]", valid="x.npy[180:]", test="q.npy", bandwidths=H, **keywords
    )


def validate(**keywords):
    return dkde.cross_validate("x.npy", H, folds=3, refine=True, **keywords)


CALLS = {"score": score, "sweep": sweep, "cross_validate": validate}


@pytest.fixture(params=["score", "sweep", pytest.param("cross_validate", marks=pytest.mark.slow)])
def call(request):
    return CALLS[request.param]


def stop_after(count):
    calls = []

    def progress(done, total):
        calls.append(done)
        if len(calls) == count:
            raise Stopped

    return progress


def stopped(call, count, **keywords):
    with pytest.raises(Stopped):
        call(output="r.zarr", progress=stop_after(count), **keywords)


def assert_within(found, expected):
    for name in ("log_density", "test_log_density"):
        if name in expected:
            bounds = found[f"{name}_error"] + expected[f"{name}_error"]
            assert (np.abs(found[name] - expected[name]) <= bounds).all()


def recorded():
    """The plan of the run, finished or not."""
    return ResultStore.at("r.zarr").look().plan


def cut_of(result, name):
    plan = json.loads(result.attrs["provenance"])[name]["plan"]
    return plan["query_rows"], plan["panel_rows"]


class TestRecords:
    def test_the_first_revision_is_recorded_by_nothing(self, folder, monkeypatch):
        monkeypatch.setattr(task, "REVISION", 1)
        result = score(output="r.zarr")
        assert "engine" not in result.attrs["provenance"]
        assert "engine" not in recorded()["machine"]

    def test_others_are_in_results_and_plans(self, folder, monkeypatch):
        monkeypatch.setattr(task, "REVISION", 7)
        result = score(output="r.zarr")
        assert json.loads(result.attrs["provenance"])["score"]["engine"] == 7
        assert recorded()["machine"]["engine"] == 7
        assert "engine" not in recorded()["asked"]["score"]
        assert dkde.verify("r.zarr")["exact"]

    def test_the_other_engine_of_these_tests_has_other_blocks(self, folder, later):
        assert cut_of(score(), "score") == (20, 80)
        later()
        assert cut_of(score(), "score") == (30, 120)


class TestFinished:
    @pytest.mark.slow
    def test_a_result_opens_with_the_same_call(self, folder, later, call):
        expected = call(output="r.zarr")
        later()
        found = call(output="r.zarr")
        xr.testing.assert_identical(
            found.load().drop_attrs(), xr.open_zarr("r.zarr").load().drop_attrs()
        )
        assert_within(found, expected)

    @pytest.mark.slow
    def test_it_is_held_to_its_bounds_and_not_to_the_bit(self, folder, later, call):
        call(output="r.zarr")
        array = zarr.open_array("r.zarr/log_density", mode="r+")
        then = array[...]
        array[...] = np.nextafter(then, 0)
        with pytest.raises(dkde.DataSetError, match="within the bounds"):
            dkde.verify("r.zarr")
        later()
        found = dkde.verify("r.zarr")
        assert found["blocks"] > 0
        assert not found["exact"]
        before = task.REVISION - 1
        assert found["elsewhere"] == f"engine was {before} and is {before + 1}"
        array[...] = then + 1e-6
        with pytest.raises(dkde.DataSetError, match=r"beyond the bounds .*\(engine was"):
            dkde.verify("r.zarr")

    def test_other_blocks_are_no_other_data_after_a_move(self, folder, later, monkeypatch):
        """Data that were moved are only taken where nothing differs, the cut included."""
        (folder / "first").mkdir()
        for name in ("x.npy", "q.npy"):
            (folder / name).rename(folder / "first" / name)
        dkde.score("first/q.npy", "first/x.npy", H, output="first/r.zarr")
        (folder / "first").rename(folder / "second")
        later()
        assert dkde.verify("second/r.zarr")["blocks"] > 0

    def test_another_call_is_refused_as_ever(self, folder, later):
        score(output="r.zarr")
        later()
        with pytest.raises(dkde.DataSetError, match="begun otherwise: score kernel was"):
            score(output="r.zarr", kernel="tophat")


class TestUnfinished:
    @pytest.mark.parametrize(("by", "word"), [(1, "an earlier"), (-1, "a later")])
    def test_it_is_refused_in_one_line(self, folder, later, by, word, monkeypatch):
        monkeypatch.setattr(task, "REVISION", 5)
        stopped(score, 3)
        later(by)
        with pytest.raises(
            dkde.DataSetError, match=rf"r\.zarr: was begun by {word} engine of dkde; .*\(restart\)$"
        ) as said:
            score(output="r.zarr")
        assert "\n" not in str(said.value)
        parts = said.value.message.parts
        assert Remedy("anywhere") in parts
        assert Remedy("restart") in parts
        with pytest.raises(dkde.DataSetError, match=f"{word} engine"):
            dkde.run_part("r.zarr", 0, 2)

    @pytest.mark.slow
    def test_it_is_begun_anew_with_other_blocks(self, folder, later, call):
        stopped(call, 3)
        later()
        result = call(output="r.zarr", restart=True)
        name = {score: "score", sweep: "valid", validate: "cross_validate"}[call]
        assert cut_of(result, name) == (30, 120)
        assert recorded()["machine"]["engine"] == task.REVISION
        assert dkde.verify("r.zarr")["exact"]

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize("stage", ["first", "last"])
    def test_it_goes_on_in_the_blocks_that_it_recorded(self, folder, later, call, stage):
        """Stopped in its first stage or in the last, whose blocks are cut already."""
        calls = []
        expected = call(progress=lambda done, total: calls.append(done))
        stopped(call, 2 if stage == "first" else len(calls) - 1)
        then = task.REVISION
        later()
        result = call(output="r.zarr", anywhere=True)
        assert_within(result, expected)
        name = {score: "score", sweep: "valid", validate: "cross_validate"}[call]
        assert cut_of(result, name) == cut_of(expected, name)
        assert recorded()["machine"].get("engine", 1) == then
        found = dkde.verify("r.zarr")
        assert found["blocks"] > 0
        assert "engine was" in found["elsewhere"]

    @pytest.mark.slow
    def test_the_test_rows_of_a_sweep_are_cut_as_recorded(self, folder, later):
        expected = sweep()
        with dkde.init_only():
            sweep(output="r.zarr")
        later()
        for part in range(3):
            dkde.run_part("r.zarr", part, 3, anywhere=True)
        result = dkde.finish("r.zarr", anywhere=True)
        for name in ("valid", "test"):
            assert cut_of(result, name) == cut_of(expected, name)
        assert_within(result, expected)

    @pytest.mark.slow
    def test_one_that_was_begun_in_parts_is_done_in_parts(self, folder, later, call):
        expected = call()
        with dkde.init_only():
            call(output="r.zarr")
        dkde.run_part("r.zarr", 0, 2)
        later()
        dkde.run_part("r.zarr", 1, 2, anywhere=True)
        assert dkde.status("r.zarr")["stages"][next(iter(recorded()["asked"]))]["failed"] == []
        assert_within(dkde.finish("r.zarr", anywhere=True), expected)

    def test_what_the_call_asked_for_stays(self, folder, later):
        stopped(score, 2, block_rows=15)
        later()
        with pytest.raises(dkde.DataSetError, match="score block_rows was 15 and is 12"):
            score(output="r.zarr", block_rows=12, anywhere=True)
        result = score(output="r.zarr", block_rows=15, anywhere=True)
        assert cut_of(result, "score") == (15, 80)

    def test_arrays_in_memory_go_on_too(self, folder, later):
        query, train = np.load("q.npy"), np.load("x.npy")
        expected = dkde.score(query, train, H)
        stopped(lambda **k: dkde.score(query, train, H, **k), 4)
        later()
        result = dkde.score(query, train, H, output="r.zarr", anywhere=True)
        assert cut_of(result, "score") == (20, 80)
        assert_within(result, expected)

    def test_other_blocks_of_the_same_engine_are_refused(self, folder, monkeypatch):
        """The same revision with other blocks: no release does that, and data may be others."""
        stopped(score, 2)
        cut_by_default(monkeypatch, 30, 120)
        with pytest.raises(dkde.DataSetError, match="score block_rows was 20 and is 30"):
            score(output="r.zarr", anywhere=True)
