"""A result is there whole or not at all."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from dkde.errors import DataSetError
from dkde.storage.importing import import_dataset
from dkde.storage.results import RESULT_FORMAT, check_free, write_result


@pytest.fixture
def result():
    return xr.Dataset(
        {"log_density": ("sample", np.arange(3.0))}, attrs={"seconds": 1.0, **RESULT_FORMAT}
    )


def test_opens_with_plain_xarray_without_a_warning(tmp_path, result):
    write_result(result, tmp_path / "r.zarr")
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "r.zarr").load(), result)
    assert [path.name for path in tmp_path.iterdir()] == ["r.zarr"]


def test_an_existing_result_stays(tmp_path, result):
    write_result(result, tmp_path / "r.zarr")
    with pytest.raises(DataSetError, match="is there already"):
        write_result(result * 2, tmp_path / "r.zarr")
    write_result(result * 2, tmp_path / "r.zarr", overwrite=True)
    assert float(xr.open_zarr(tmp_path / "r.zarr").log_density[2]) == 4.0
    assert [path.name for path in tmp_path.iterdir()] == ["r.zarr"]


def test_a_foreign_folder_is_never_overwritten(tmp_path, result):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/thesis.tex").write_text("all of it")
    with pytest.raises(DataSetError, match="is no result of dkde"):
        write_result(result, tmp_path / "r", overwrite=True)
    assert (tmp_path / "r/thesis.tex").exists()


def test_a_failed_write_leaves_what_was_there(tmp_path, result, monkeypatch):
    write_result(result, tmp_path / "r.zarr")

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_zarr", full)
    with pytest.raises(DataSetError, match="No space left"):
        write_result(result * 2, tmp_path / "r.zarr", overwrite=True)
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "r.zarr").load(), result)
    assert [path.name for path in tmp_path.iterdir()] == ["r.zarr"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataSetError, match="there is no folder"):
        check_free(tmp_path / "no/r.zarr")


def test_a_result_is_marked_and_the_callers_is_not_touched(tmp_path):
    mine = xr.Dataset({"log_density": ("sample", np.arange(3.0))})
    write_result(mine, tmp_path / "r.zarr")
    assert xr.open_zarr(tmp_path / "r.zarr").attrs == RESULT_FORMAT
    assert mine.attrs == {}


@pytest.mark.parametrize("kind", ["data set", "array", "group", "link", "file"])
def test_no_other_store_is_overwritten(tmp_path, result, kind):
    target = tmp_path / "r.zarr"
    if kind == "data set":
        import_dataset("digits", target)
    elif kind == "array":
        zarr.create_array(target, shape=(3,), dtype="f8")[:] = 1
    elif kind == "group":
        zarr.create_group(target, attributes={"a": 1})
    elif kind == "link":
        target.symlink_to(tmp_path / "nothing")
    else:
        target.write_text("all of it")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataSetError, match=r"r\.zarr: is no result of dkde"):
        write_result(result, target, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_move_puts_the_old_result_back(tmp_path, result, monkeypatch):
    write_result(result, tmp_path / "r.zarr")
    replace = os.replace

    def failing(source, target):
        if Path(source).name == "result":
            raise OSError("no space")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(DataSetError, match="could not be written"):
        write_result(result * 2, tmp_path / "r.zarr", overwrite=True)
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "r.zarr").load(), result)


def test_what_zarr_cannot_store_is_a_data_set_error(tmp_path, result):
    odd = result.assign_attrs(model=object())
    with pytest.raises(DataSetError, match=r"r\.zarr: could not be written \(") as caught:
        write_result(odd, tmp_path / "r.zarr")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_text_coordinates_are_written_without_a_warning(tmp_path, result):
    named = result.assign_coords(sample=np.array(["a", "bb", "c"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_result(named, tmp_path / "r.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of reading it
        assert list(xr.open_zarr(tmp_path / "r.zarr").sample.values) == ["a", "bb", "c"]
