"""A result is there whole or not at all."""

import numpy as np
import pytest
import xarray as xr

from dkde.errors import DataSetError
from dkde.storage.results import check_free, write_result


@pytest.fixture
def result():
    return xr.Dataset({"log_density": ("sample", np.arange(3.0))}, attrs={"seconds": 1.0})


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
    with pytest.raises(DataSetError, match="is no Zarr store"):
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
