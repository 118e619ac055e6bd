"""A result says whether it is complete, and opens with plain xarray."""

import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

from dkde.errors import DataSetError
from dkde.inputs.importing import import_dataset
from dkde.runs.stages import PLAN, Stage, StageShape
from dkde.runs.store import RESULT_FORMAT, ResultStore
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
    ResultStore(records).start()
    records.put(PLAN, b"{}")
    Stage(records, "score", StageShape(4, 5, 10, 5, 2)).write(0, 1, np.zeros((5, 5)))


def complete(result, records):
    begin(records)
    ResultStore(records).write(result)
    ResultStore(records).mark_complete()


def test_it_is_not_complete_until_it_is(records, result):
    assert not ResultStore(records).look().is_result
    begin(records)
    assert ResultStore(records).look().is_result
    assert ResultStore(records).look().attributes["complete"] == 0
    ResultStore(records).write(result)
    assert ResultStore(records).look().attributes["complete"] == 0
    assert ResultStore(records).look().attributes["seconds"] == 1.0
    ResultStore(records).mark_complete()
    assert ResultStore(records).look().attributes["complete"] == 1
    assert records.keys("run") == []


def test_opens_with_plain_xarray_without_a_warning(tmp_path, records, result):
    complete(result, records)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = result.assign_attrs(complete=1)
        for opened in (
            xr.open_zarr(tmp_path / "r.zarr"),
            xr.open_datatree(tmp_path / "r.zarr", engine="zarr").to_dataset(),
            ResultStore(records).open(),
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
    ResultStore(records).write(result.isel(sample=slice(2)).assign(more=("x", np.ones(4))))
    ResultStore(records).write(result)
    ResultStore(records).mark_complete()
    ResultStore(records).mark_complete()
    xr.testing.assert_identical(
        xr.open_zarr(tmp_path / "r.zarr").load(), result.assign_attrs(complete=1)
    )


def test_the_run_and_the_mark_are_dropped(records, result):
    complete(result, records)
    records.put("run/score/partial/c/0/0/0", b"")
    records.put(PLAN, b"{}")
    ResultStore(records).drop_run()
    assert ResultStore(records).look().attributes == {**RESULT_FORMAT, "complete": 0}
    assert records.keys("run") == []
    complete(result.isel(sample=slice(2)), records)
    assert ResultStore(records).open().sizes["sample"] == 2


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
            ResultStore(records).drop_run()
    assert len(steps) == step + 1
    assert ResultStore(records).look().attributes["complete"] == 0
    blocks = [key for key in records.keys("run") if "/c/" in key]
    assert records.has(PLAN) or not blocks
    ResultStore(records).drop_run()
    assert records.keys("run") == []


def test_one_that_is_there_is_not_started_again(records):
    begin(records)
    keys = sorted(records.keys(""))
    ResultStore(records).start()
    assert sorted(records.keys("")) == keys


@pytest.mark.parametrize("change", [ResultStore.start, ResultStore.drop_run])
def test_what_came_meanwhile_and_is_no_result_stays(records, change):
    group = zarr.create_group(records.store, zarr_format=3, attributes={"dkde_format": "dataset/1"})
    group.create_array("x", data=np.arange(3))
    before = {key: records.get(key) for key in records.keys("")}
    with pytest.raises(DataSetError, match="another process meanwhile put something there"):
        change(ResultStore(records))
    assert {key: records.get(key) for key in records.keys("")} == before


def test_what_cannot_be_written_is_a_data_set_error(tmp_path, records, result, monkeypatch):
    begin(records)
    odd = result.assign_attrs(model=object())
    with pytest.raises(DataSetError, match=r"r\.zarr: could not be written \(") as caught:
        ResultStore(records).write(odd)
    assert "\n" not in str(caught.value)

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", full)
        with pytest.raises(DataSetError, match="No space left"):
            ResultStore(records).write(result)
    assert ResultStore(records).look().attributes["complete"] == 0
    assert records.has("run/score/partial/c/1/0/0")  # what is done is kept
    ResultStore(records).write(result)
    ResultStore(records).mark_complete()
    assert ResultStore(records).open().sizes["sample"] == 3


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
    assert ResultStore(records).open().attrs == {**RESULT_FORMAT, "complete": 1}


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
        assert not ResultStore(records).look().is_result


@pytest.mark.parametrize("key", ["log_density/c/0", "best_bandwidth/c", "n_zero_density/c/0"])
def test_a_missing_chunk_is_refused_and_not_read_as_fill_values(records, result, key):
    complete(result, records)
    records.delete(key)
    name, _, chunk = key.partition("/")
    message = rf"/{name}: chunk {chunk} is missing; the store is damaged, make the result again"
    with pytest.raises(DataSetError, match=message):
        ResultStore(records).open()[name].values  # noqa: B018


def test_a_result_without_its_variables_is_refused(records, result):
    complete(result.drop_vars("log_density"), records)
    with pytest.raises(DataSetError, match=r"r\.zarr: its list of variables is missing or damaged"):
        ResultStore(records).open()


def test_a_variable_that_is_gone_is_refused(records, result):
    complete(result, records)
    records.delete_all("log_density")
    with pytest.raises(DataSetError, match="log_density: chunk c/0 is missing"):
        ResultStore(records).open().load()


def test_stores_below_are_left(tmp_path, records, result):
    begin(records)
    ResultStore(records).write(result.assign(old=("x", np.ones(3))))
    import_dataset("digits", tmp_path / "d.zarr")
    (tmp_path / "d.zarr").rename(tmp_path / "r.zarr/d.zarr")
    records.put("notes.txt", b"precious")
    ResultStore(records).write(result)
    ResultStore(records).mark_complete()
    assert records.get("notes.txt") == b"precious"
    assert xr.open_zarr(tmp_path / "r.zarr/d.zarr", group="train").sizes["sample"] > 100
    assert records.keys("old") == []
    assert set(ResultStore(records).open().data_vars) == set(result.data_vars)
