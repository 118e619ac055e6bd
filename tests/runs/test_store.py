"""A result says whether it is complete, and opens with plain xarray."""

import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

from dkde.errors import DataSetError
from dkde.inputs.importing import import_dataset
from dkde.runs.stages import PLAN, Stage, StageShape
from dkde.runs.store import (
    RESULT_FORMAT,
    drop_run,
    is_result,
    mark_complete,
    open_result,
    root_attributes,
    start_result,
    write_variables,
)
from dkde.stores.store import Records, open_store


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
def records(tmp_path):
    return Records(open_store(tmp_path / "r.zarr"), "r.zarr")


def begin(records):
    start_result(records)
    records.put(PLAN, b"{}")
    Stage(records, "score", StageShape(4, 5, 10, 5, 2)).write(0, 1, np.zeros((5, 5)))


def complete(result, records):
    begin(records)
    write_variables(result, records)
    mark_complete(records)


def test_it_is_not_complete_until_it_is(records, result):
    assert not is_result(records)
    begin(records)
    assert is_result(records)
    assert root_attributes(records)["complete"] == 0
    write_variables(result, records)
    assert root_attributes(records)["complete"] == 0
    assert root_attributes(records)["seconds"] == 1.0
    mark_complete(records)
    assert root_attributes(records)["complete"] == 1
    assert records.keys("run") == []


def test_opens_with_plain_xarray_without_a_warning(tmp_path, records, result):
    complete(result, records)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = result.assign_attrs(complete=1)
        for opened in (
            xr.open_zarr(tmp_path / "r.zarr"),
            xr.open_datatree(tmp_path / "r.zarr", engine="zarr").to_dataset(),
            open_result(records),
        ):
            xr.testing.assert_identical(opened.load(), expected)
        assert list(xr.open_datatree(tmp_path / "r.zarr", engine="zarr").children) == []


def test_every_chunk_is_there_and_has_its_checksum(tmp_path, records, result):
    complete(result, records)
    for _, array in zarr.open_group(tmp_path / "r.zarr", mode="r").arrays():
        assert array.nchunks_initialized == array.nchunks
        assert "Crc32cCodec" in [type(codec).__name__ for codec in array.metadata.codecs]


def test_writing_is_done_again_after_it_was_interrupted(tmp_path, records, result):
    begin(records)
    write_variables(result.isel(sample=slice(2)).assign(more=("x", np.ones(4))), records)
    write_variables(result, records)
    mark_complete(records)
    mark_complete(records)
    xr.testing.assert_identical(
        xr.open_zarr(tmp_path / "r.zarr").load(), result.assign_attrs(complete=1)
    )


def test_the_run_and_the_mark_are_dropped(records, result):
    complete(result, records)
    records.put("run/score/partial/c/0/0/0", b"")
    records.put(PLAN, b"{}")
    drop_run(records)
    assert root_attributes(records) == {**RESULT_FORMAT, "complete": 0}
    assert records.keys("run") == []
    complete(result.isel(sample=slice(2)), records)
    assert open_result(records).sizes["sample"] == 2


@pytest.mark.parametrize("step", range(4))
def test_no_block_is_left_without_its_plan(records, monkeypatch, step):
    """Whenever dropping a run is interrupted."""
    begin(records)
    Stage(records, "refine-1", StageShape(4, 5, 10, 5, 2)).write(0, 1, np.zeros((5, 5)))
    steps = []

    def interrupted(method):
        def call(self, key):
            steps.append(key)
            if len(steps) > step:
                raise KeyboardInterrupt
            method(self, key)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Records, "delete", interrupted(Records.delete))
        patch.setattr(Records, "delete_all", interrupted(Records.delete_all))
        with pytest.raises(KeyboardInterrupt):
            drop_run(records)
    assert len(steps) == step + 1
    assert root_attributes(records)["complete"] == 0
    blocks = [key for key in records.keys("run") if "/c/" in key]
    assert records.has(PLAN) or not blocks
    drop_run(records)
    assert records.keys("run") == []


def test_one_that_is_there_is_not_started_again(records):
    begin(records)
    keys = sorted(records.keys(""))
    start_result(records)
    assert sorted(records.keys("")) == keys


@pytest.mark.parametrize("change", [start_result, drop_run])
def test_what_came_meanwhile_and_is_no_result_stays(records, change):
    group = zarr.create_group(records.store, zarr_format=3, attributes={"dkde_format": "dataset/1"})
    group.create_array("x", data=np.arange(3))
    before = {key: records.get(key) for key in records.keys("")}
    with pytest.raises(DataSetError, match="no result of dkde was put there by another meanwhile"):
        change(records)
    assert {key: records.get(key) for key in records.keys("")} == before


def test_what_cannot_be_written_is_a_data_set_error(tmp_path, records, result, monkeypatch):
    begin(records)
    odd = result.assign_attrs(model=object())
    with pytest.raises(DataSetError, match=r"r\.zarr: could not be written \(") as caught:
        write_variables(odd, records)
    assert "\n" not in str(caught.value)

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", full)
        with pytest.raises(DataSetError, match="No space left"):
            write_variables(result, records)
    assert root_attributes(records)["complete"] == 0
    assert records.has("run/score/partial/c/1/0/0")  # what is done is kept
    write_variables(result, records)
    mark_complete(records)
    assert open_result(records).sizes["sample"] == 3


def test_text_coordinates_are_written_without_a_warning(tmp_path, records, result):
    named = result.assign_coords(sample=np.array(["a", "bb", "c"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        complete(named, records)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of reading it
        assert list(xr.open_zarr(tmp_path / "r.zarr").sample.values) == ["a", "bb", "c"]


def test_the_callers_result_is_not_touched(records):
    mine = xr.Dataset({"log_density": ("sample", np.arange(3.0))})
    complete(mine, records)
    assert mine.attrs == {}
    assert open_result(records).attrs == {**RESULT_FORMAT, "complete": 1}


class TestPlaces:
    @pytest.mark.parametrize("kind", ["data set", "array", "group", "nothing", "broken"])
    def test_other_stores_are_no_results(self, tmp_path, records, kind):
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
        assert not is_result(records)


@pytest.mark.parametrize("key", ["log_density/c/0", "best_bandwidth/c", "n_zero_density/c/0"])
def test_a_missing_chunk_is_refused_and_not_read_as_fill_values(records, result, key):
    complete(result, records)
    records.delete(key)
    name, _, chunk = key.partition("/")
    message = rf"/{name}: chunk {chunk} is missing; the store is damaged, make the result again"
    with pytest.raises(DataSetError, match=message):
        open_result(records)[name].values  # noqa: B018


def test_a_result_without_its_variables_is_refused(records, result):
    complete(result.drop_vars("log_density"), records)
    with pytest.raises(DataSetError, match=r"r\.zarr: does not list its variables; make the same"):
        open_result(records)


def test_a_variable_that_is_gone_is_refused(records, result):
    complete(result, records)
    records.delete_all("log_density")
    with pytest.raises(DataSetError, match="log_density: chunk c/0 is missing"):
        open_result(records).load()


def test_stores_below_are_left(tmp_path, records, result):
    begin(records)
    write_variables(result.assign(old=("x", np.ones(3))), records)
    import_dataset("digits", tmp_path / "d.zarr")
    (tmp_path / "d.zarr").rename(tmp_path / "r.zarr/d.zarr")
    records.put("notes.txt", b"precious")
    write_variables(result, records)
    mark_complete(records)
    assert records.get("notes.txt") == b"precious"
    assert xr.open_zarr(tmp_path / "r.zarr/d.zarr", group="train").sizes["sample"] > 100
    assert records.keys("old") == []
    assert set(open_result(records).data_vars) == set(result.data_vars)
