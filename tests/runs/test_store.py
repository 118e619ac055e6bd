"""A result says whether it is complete, and opens with plain xarray."""

import json
import os
import warnings
from uuid import uuid4

import numpy as np
import pytest
import xarray as xr
import zarr

from dkde.errors import DataSetError, InputError
from dkde.inputs.importing import import_dataset
from dkde.runs.publication import publish_store
from dkde.runs.store import RESULT_FORMAT, ResultStore


@pytest.fixture
def result():
    return xr.Dataset(
        {
            "log_density": ("sample", np.arange(3.0)),
            "n_zero_density": ("bandwidth", np.zeros(2, int)),
            "best_bandwidth": ((), 0.5),
        },
        attrs={"seconds": 1.0, **RESULT_FORMAT},
    )


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ResultStore.at("r.zarr")


def begin(store, after=0):
    """Begin a run, and return its id."""
    plan = {"id": uuid4().hex, "asked": {}, "machine": {}, "call": None}
    assert store.run.begin(plan, after)
    return plan["id"]


def complete(result, store, replaces=False, **attributes):
    present = store.run.look()
    run = begin(store, 0 if present is None else present.number)
    publish_store(result.assign_attrs(complete=1, **attributes), store, run, replaces=replaces)
    store.run.finish(run)
    return run


def ran(run):
    """The record of a finished run, as its result keeps it."""
    return json.dumps({"id": run, "asked": {}, "machine": {}, "call": None, "sessions": []})


class TestStates:
    def test_nothing_then_a_run_then_a_result(self, tmp_path, store, result):
        assert not store.look().is_result
        with pytest.raises(DataSetError, match=r"r\.zarr: is no result of dkde; there is no file"):
            ResultStore.found("r.zarr")
        run = begin(store)
        state = store.look()
        assert (state.is_result, state.holds_result, state.is_complete) == (True, False, False)
        assert state.plan["id"] == state.present.id == run
        assert not (tmp_path / "r.zarr").exists()
        with pytest.raises(DataSetError, match=r"r\.zarr: is not complete; dkde status says how"):
            ResultStore.finished("r.zarr")
        publish_store(result.assign_attrs(complete=1, run=ran(run)), store, run, replaces=False)
        # It appears before its run goes.
        state = store.look()
        assert state.is_complete
        assert state.plan["sessions"] == []
        store.run.finish(run)
        assert store.look().is_complete
        assert os.listdir(tmp_path) == ["r.zarr"]

    @pytest.mark.parametrize("path", ["r.zarr", "r.zarr.run", "r.zarr.run/"])
    def test_a_run_is_found_by_its_own_name_too(self, store, path):
        run = begin(store)
        found, state = ResultStore.found(path)
        assert state.plan["id"] == run
        assert found.name == "r.zarr"

    def test_a_result_that_is_made_anew_is_not_complete_but_finished(self, store, result):
        first = complete(result, store, run=ran("0" * 32))
        second = begin(store)
        assert first != second
        state = store.look()
        assert (state.holds_result, state.is_complete) == (True, False)
        assert state.plan["id"] == second
        _, state = ResultStore.finished("r.zarr")
        assert state.plan["id"] == "0" * 32

    def test_an_unfinished_run_of_an_earlier_version_is_refused_in_one_line(self, tmp_path, store):
        zarr.create_group(tmp_path / "r.zarr", attributes={**RESULT_FORMAT, "complete": 0})
        (tmp_path / "r.zarr/run").mkdir()
        (tmp_path / "r.zarr/run/plan.json").write_text('{"asked": {}, "machine": {}, "call": null}')
        state = store.look()
        assert state.is_result
        with pytest.raises(
            DataSetError,
            match=r"^r\.zarr: was begun by an earlier version of dkde, .*it anew \(restart\)$",
        ):
            state.plan  # noqa: B018

    @pytest.mark.parametrize("plan", [b"", b"{}", b'{"asked": {}}', b"[]"])
    def test_a_damaged_plan_is_raised_by_those_who_need_it(self, tmp_path, store, plan):
        run = begin(store)
        for path in ("dkde-run-1.json", f"{run}/plan.json"):
            (tmp_path / "r.zarr.run" / path).write_bytes(plan)
        state = store.look()
        assert state.is_result
        assert not state.is_complete
        with pytest.raises(DataSetError, match=r"was begun.* is damaged; begin it anew"):
            state.plan  # noqa: B018

    def test_a_record_that_is_damaged_in_a_result_is_none(self, store, result):
        complete(result, store, run="{")
        state = store.look()
        assert state.is_complete
        with pytest.raises(DataSetError, match=r"is damaged \(.*\); begin it anew"):
            state.plan  # noqa: B018

    @pytest.mark.parametrize("kind", ["data set", "array", "group", "nothing", "broken"])
    def test_other_stores_are_no_results(self, tmp_path, store, kind):
        target = tmp_path / "r.zarr"
        if kind == "data set":
            import_dataset("digits", target)
        elif kind == "array":
            zarr.create_array(target, shape=(3,), dtype="f8")[:] = 1
        elif kind == "group":
            zarr.create_group(target, attributes={"a": 1})
        elif kind == "broken":
            target.mkdir()
            (target / "zarr.json").write_text("{")
        assert not store.look().is_result


def test_a_variable_of_the_environment_that_is_wrong_makes_no_result_of_another_kind(
    store, result, monkeypatch
):
    publish_store(result, store, begin(store), replaces=False)
    monkeypatch.setenv("DKDE_UNPACK_LIMIT", "much")
    with pytest.raises(InputError, match="DKDE_UNPACK_LIMIT: 'much' is no size"):
        store.look()


def test_opens_with_plain_xarray_without_a_warning(tmp_path, store, result):
    complete(result, store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = result.assign_attrs(complete=1)
        for opened in (
            xr.open_zarr(tmp_path / "r.zarr"),
            xr.open_datatree(tmp_path / "r.zarr", engine="zarr").to_dataset(),
            store.open(),
        ):
            xr.testing.assert_identical(opened.load(), expected)
        assert list(xr.open_datatree(tmp_path / "r.zarr", engine="zarr").children) == []


def test_every_chunk_is_there_and_has_its_checksum(tmp_path, store, result):
    complete(result, store)
    for _, array in zarr.open_group(tmp_path / "r.zarr", mode="r").arrays():
        assert array.nchunks_initialized == array.nchunks
        assert "Crc32cCodec" in [type(codec).__name__ for codec in array.metadata.codecs]


def test_what_cannot_be_written_is_a_data_set_error(tmp_path, store, result, monkeypatch):
    run = begin(store)
    odd = result.assign_attrs(model=object())
    with pytest.raises(DataSetError, match=r"r\.zarr: could not be written \(") as caught:
        publish_store(odd, store, run, replaces=False)
    assert "\n" not in str(caught.value)

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", full)
        with pytest.raises(DataSetError, match="No space left"):
            publish_store(result, store, run, replaces=False)
    with monkeypatch.context() as patch:
        patch.setattr("dkde.runs.publication.sync_tree", full)
        with pytest.raises(DataSetError, match=r"No space left.*make room and start the same run"):
            publish_store(result, store, run, replaces=False)
    assert not (tmp_path / "r.zarr").exists()
    assert os.listdir(tmp_path / "r.zarr.run" / run) == ["plan.json"]  # no half is left
    publish_store(result, store, run, replaces=False)
    assert store.open().sizes["sample"] == 3


def test_text_coordinates_are_written_without_a_warning(tmp_path, store, result):
    named = result.assign_coords(sample=np.array(["a", "bb", "c"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        complete(named, store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of reading it
        assert list(xr.open_zarr(tmp_path / "r.zarr").sample.values) == ["a", "bb", "c"]


def test_the_callers_result_is_not_touched(store):
    mine = xr.Dataset({"log_density": ("sample", np.arange(3.0))})
    complete(mine.assign_attrs(**RESULT_FORMAT), store)
    assert mine.attrs == {}
    assert store.open().attrs == {**RESULT_FORMAT, "complete": 1}


@pytest.mark.parametrize("key", ["log_density/c/0", "best_bandwidth/c", "n_zero_density/c/0"])
def test_a_missing_chunk_is_refused_and_not_read_as_fill_values(store, result, key):
    complete(result, store)
    store.records.delete(key)
    name, _, chunk = key.partition("/")
    message = rf"/{name}: chunk {chunk} is missing; the store is damaged, make the result again"
    with pytest.raises(DataSetError, match=message):
        store.open()[name].values  # noqa: B018


def test_a_result_without_its_variables_is_refused(store, result):
    complete(result.drop_vars("log_density"), store)
    with pytest.raises(DataSetError, match=r"r\.zarr: its list of variables is missing or damaged"):
        store.open()


def test_a_variable_that_is_gone_is_refused(store, result):
    complete(result, store)
    store.records.delete_all("log_density")
    with pytest.raises(DataSetError, match="log_density: chunk c/0 is missing"):
        store.open().load()
