"""Results for other programs read back as they are, to the last digit."""

import os
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from packaging.version import Version

import dkde
from dkde.runs import result_files


@pytest.fixture
def swept(tmp_path):
    """A sweep of the digits, kept in a store."""
    store = tmp_path / "r.zarr"
    dkde.sweep(
        train="train", valid="valid[:40]", test="test[:30]", source="digits",
        bandwidths=[1.0, 2.0, 4.0], output=store,
    )  # fmt: skip
    return store


def read(path):
    if str(path).endswith(".parquet"):
        return pd.read_parquet(path)
    # From then on floats are read to the last digit without being told so.
    exact = {} if Version(pd.__version__) >= Version("3.1") else {"float_precision": "round_trip"}
    return pd.read_csv(path, **exact)


def gridded():
    """Log-densities along two dims, of which one has a coordinate, with what numbers may be."""
    values = np.random.default_rng(0).standard_normal((2, 3, 4)) * 1e3
    values[0, 0, :2] = -np.inf, np.nan
    return xr.Dataset(
        {"log_density": (("bandwidth", "lat", "x"), values)},
        {
            "bandwidth": [0.1, 0.2],
            "lat": np.array([-1.5, 0.1, 2.5]),
            "name": (("lat", "x"), np.array([f'a, "{i}"\n' for i in range(12)]).reshape(3, 4)),
            "time": ("lat", np.array(["2020-01-01", "2020-01-02", "2020-01-03T04"], "M8[ns]")),
        },
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
class TestTable:
    @pytest.mark.slow
    def test_of_a_sweep(self, swept, tmp_path, suffix):
        path = tmp_path / f"o.{suffix}"
        dkde.export(swept, path)
        table, result = read(path), xr.open_zarr(swept)
        assert list(table) == [
            "split", "sample", "label", "bandwidth", "log_density", "log_density_error",
            "pairs_evaluated", "rows_read",
        ]  # fmt: skip
        valid, test = table[table.split == "valid"], table[table.split == "test"]
        assert len(valid) == 40 * 3
        assert len(test) == 30
        assert np.array_equal(valid.log_density, result.log_density.values.T.ravel())
        assert np.array_equal(valid.log_density_error, result.log_density_error.values.T.ravel())
        assert np.array_equal(valid["sample"], np.repeat(np.arange(40), 3))
        assert np.array_equal(valid.bandwidth, np.tile([1.0, 2.0, 4.0], 40))
        assert np.array_equal(valid.label, np.repeat(result.label.values, 3))
        assert np.array_equal(test.log_density, result.test_log_density.values)
        assert np.array_equal(test.label, result.test_label.values)
        assert (test.bandwidth == float(result.best_bandwidth)).all()
        assert sorted(os.listdir(tmp_path)) == sorted([path.name, "r.zarr"])

    @pytest.mark.parametrize("values", [4, 7, 10**6])
    def test_pieces_do_not_show(self, tmp_path, monkeypatch, suffix, values):
        monkeypatch.setattr(result_files, "_READ_VALUES", 2 * values)
        monkeypatch.setattr(result_files, "_TABLE_VALUES", values)
        result, path = gridded(), tmp_path / f"o.{suffix}"
        dkde.export(result.chunk(lat=2, x=3), path)
        table = read(path)
        expected = result.transpose("lat", "x", "bandwidth")
        assert np.array_equal(
            table.log_density, expected.log_density.values.ravel(), equal_nan=True
        )
        assert np.isneginf(table.log_density[0])
        assert np.array_equal(table.lat, np.repeat(result.lat.values, 8))
        assert np.array_equal(table.x, np.tile(np.repeat(np.arange(4), 2), 3))
        assert list(table.name) == list(np.repeat(result.name.values.ravel(), 2))
        times = pd.to_datetime(table.time, format="mixed")
        assert np.array_equal(times.to_numpy("M8[ns]"), np.repeat(result.time.values, 8))

    def test_what_one_split_lacks_is_empty(self, tmp_path, suffix):
        rng = np.random.default_rng(1)
        rows = xr.DataArray(
            rng.standard_normal((5, 2)), dims=("sample", "feature"),
            coords={"kind": ("sample", np.arange(5))},
        )  # fmt: skip
        result = dkde.sweep(
            train=rng.standard_normal((20, 2)), valid=rows, bandwidths=[0.1, 0.5, 5.0],
            test=rng.standard_normal((3, 2)),
        )  # fmt: skip
        path = tmp_path / f"o.{suffix}"
        dkde.export(result, path)
        table = read(path)
        assert np.array_equal(table.kind[:15], np.repeat(np.arange(5), 3))
        assert table.kind[15:].isna().all()
        assert len(table) == 18

    @pytest.mark.slow
    def test_of_a_cross_validation_and_of_lazy_log_densities(self, tmp_path, suffix):
        path = tmp_path / f"o.{suffix}"
        result = dkde.cross_validate("all", [1.0, 3.0, 9.0], source="digits", folds=3, pca=15)
        dkde.export(result, path)
        table = read(path)
        assert set(table.split) == {"train"}
        assert np.array_equal(table.held_out_in, np.repeat(result.held_out_in.values, 3))
        rows = xr.DataArray(
            np.eye(4), dims=("sample", "feature"), coords={"label": ("sample", [1] * 4)}
        )
        lazy = dkde.log_density(rows.chunk(sample=2), np.eye(4) + 1, 0.5)
        dkde.export(lazy, path, overwrite=True)
        table = read(path)
        assert list(table) == ["split", "sample", "label", "bandwidth", "log_density"]
        assert np.array_equal(table.log_density, lazy.compute().values)


@pytest.mark.slow
def test_netcdf_holds_all_of_it(swept, tmp_path):
    path = tmp_path / "o.nc"
    dkde.export(swept, path)
    with xr.open_dataset(path, engine="h5netcdf") as found, xr.open_zarr(swept) as stored:
        xr.testing.assert_identical(found.load(), stored.load())


def test_netcdf_holds_long_attributes(tmp_path):
    result = dkde.score(np.eye(3), np.eye(3) + 0.5, 1.0)
    result.attrs["provenance"] = "x" * 200_000
    dkde.export(result, tmp_path / "o.nc")
    with xr.open_dataset(tmp_path / "o.nc", engine="h5netcdf") as found:
        assert found.attrs["provenance"] == result.attrs["provenance"]


class TestRefused:
    def test_unknown_suffixes(self, swept, tmp_path):
        with pytest.raises(
            dkde.InputError, match=r"o\.xlsx: results are exported as \.csv, \.parq"
        ):
            dkde.export(swept, tmp_path / "o.xlsx")

    def test_a_file_that_is_there(self, swept, tmp_path):
        path = tmp_path / "o.csv"
        path.write_text("mine")
        with pytest.raises(dkde.DataSetError, match="there already"):
            dkde.export(swept, path)
        assert path.read_text() == "mine"
        dkde.export(swept, path, overwrite=True)
        assert path.read_text().startswith("split,")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("suffix", "package", "extra"), [("parquet", "pyarrow", "tables"), ("nc", "h5py", "netcdf")]
    )
    def test_missing_packages(self, swept, tmp_path, monkeypatch, suffix, package, extra):
        monkeypatch.setattr(
            result_files, "find_spec", lambda name: None if name == package else object()
        )
        with pytest.raises(dkde.InputError, match=rf'needs {package}; .*"dkde\[{extra}\]"'):
            dkde.export(swept, tmp_path / f"o.{suffix}")

    def test_what_is_no_result(self, tmp_path):
        with pytest.raises(dkde.InputError, match="no result of dkde"):
            dkde.export(xr.Dataset(), tmp_path / "o.csv")
        with pytest.raises(dkde.DataSetError, match="no result of dkde"):
            dkde.export(tmp_path / "none.zarr", tmp_path / "o.csv")

    def test_a_run_that_is_not_complete(self, tmp_path):
        store = tmp_path / "r.zarr"
        with dkde.init_only():
            dkde.score("test", "train", 1.0, source="digits", output=store)
        with pytest.raises(dkde.DataSetError, match="not complete"):
            dkde.export(store, tmp_path / "o.csv")

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("suffix", ["csv", "parquet", "nc"])
    def test_nothing_is_left_of_a_failure(self, swept, tmp_path, suffix):
        (swept / "test_log_density" / "c" / "0").unlink()
        path = tmp_path / f"o.{suffix}"
        path.write_text("mine")
        with pytest.raises(dkde.DkdeError, match="missing"):
            dkde.export(swept, path, overwrite=True)
        assert path.read_text() == "mine"
        assert sorted(os.listdir(tmp_path)) == sorted([path.name, "r.zarr"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_result(tmp_path):
    def peak(n):
        values = np.random.default_rng(0).standard_normal((4, n))
        result = xr.Dataset(
            {"log_density": (("bandwidth", "sample"), values)}, {"bandwidth": [1.0, 2, 3, 4]}
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            result.assign_attrs(dkde_format="result/1", complete=1).to_zarr(
                tmp_path / f"{n}.zarr", zarr_format=3, consolidated=True
            )
        del values, result
        tracemalloc.start()
        dkde.export(tmp_path / f"{n}.zarr", tmp_path / f"{n}.parquet")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    dkde.export(gridded(), tmp_path / "first.parquet")  # imports
    small, large = peak(10**6), peak(4 * 10**6)
    assert large < 64 * 2**20
    assert large < 1.5 * small


def test_a_coordinate_that_tables_have_is_refused(tmp_path):
    rows = xr.DataArray(
        np.zeros((3, 2)), dims=("sample", "feature"), coords={"split": ("sample", [0, 1, 2])}
    )
    result = dkde.score(rows, np.ones((4, 2)), 1.0)
    with pytest.raises(dkde.InputError, match="coordinate 'split', which is a column"):
        dkde.export(result, tmp_path / "r.csv")
    assert not list(tmp_path.iterdir())
    dkde.export(result, tmp_path / "r.nc")
