"""What of a Dataset are features, weights and coordinates, and what a result's store can hold."""

import sys

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
import zarr

import dkde
from dkde.rows import row_source
from dkde.rows.boxes import Grain
from dkde.rows.places import Place, open_variables
from dkde.rows.variables import in_memory

H = 0.7


@pytest.fixture
def query():
    return np.random.default_rng(1).normal(size=(5, 2))


@pytest.fixture
def field():
    """Two features along time and x, and an area along x alone."""
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {name: (("time", "x"), rng.normal(size=(30, 4))) for name in "uv"},
        coords={"time": np.arange(30), "area": ("x", np.array([1, 5, 0, 2]))},
    )


@pytest.fixture
def cast():
    """Temperatures of points, whose places and times are coordinates."""
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {"temp": ("obs", rng.normal(size=40))},
        coords={
            "lat": ("obs", rng.uniform(-80, 80, 40)),
            "lon": ("obs", rng.uniform(-170, 170, 40)),
            "when": ("obs", pd.date_range("2020-01-01", periods=40)),
        },
    )


def flat(dataset, names=("u", "v")):
    columns = xr.broadcast(*(dataset[name] for name in names))
    return np.stack([np.asarray(column.values, float).ravel() for column in columns], axis=1)


def close(found, query, train, weights=None):
    truth = reference.log_density(query, train, [H], weights=weights)[0]
    np.testing.assert_allclose(np.asarray(found), np.asarray(truth, float), rtol=1e-9)


def in_netcdf(array, path):
    """The same, in a file that is not read yet."""
    array.rename("w").to_netcdf(path)
    return xr.open_dataset(path).w


class TestWeights:
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("form", ["memory", "dask", "file"])
    @pytest.mark.parametrize("dims", [("time", "x"), ("x", "time"), ("x",), ("time",)])
    def test_go_by_the_names_of_their_dims(self, field, query, tmp_path, form, dims):
        w = xr.DataArray(np.arange(120.0).reshape(30, 4), dims=("time", "x"))
        w = w.isel({dim: 1 for dim in w.dims if dim not in dims}).transpose(*dims)
        given = {
            "memory": lambda: w,
            "dask": lambda: w.chunk(dict.fromkeys(dims, 3)),
            "file": lambda: in_netcdf(w, tmp_path / "w.nc"),
        }[form]()
        expected = w.broadcast_like(field.u).transpose("time", "x").values.ravel()
        close(dkde.log_density(query, field, H, weights=given), query, flat(field), expected)
        scored = dkde.score(query, field, H, weights=given).log_density[0]
        close(scored, query, flat(field), expected)

    def test_as_a_variable_of_that_name(self, field, query):
        catalog = dkde.Catalog(features=["u", "v"])
        named = dkde.score(query, field, H, weights="area", source=catalog)
        given = dkde.score(query, field, H, weights=field.area, source=catalog)
        np.testing.assert_array_equal(named.log_density, given.log_density)

    def test_of_a_file_s_rows(self, field, query, tmp_path):
        field.to_netcdf(tmp_path / "t.nc")
        catalog = dkde.Catalog(features=["u", "v"])
        found = dkde.log_density(
            query, str(tmp_path / "t.nc"), H, source=catalog,
            weights=field.area * xr.ones_like(field.time),  # whose dims come the other way round
        )  # fmt: skip
        close(found, query, flat(field), np.tile(field.area.values, 30))

    def test_groups_too(self, field):
        place = xr.DataArray(np.arange(4), dims="x") + 0 * field.time
        found = dkde.log_density(field, field, H, groups=place, train_groups=place)
        numbers = np.tile(np.arange(4), 30)
        rows = flat(field)
        truth = reference.log_density(
            rows, rows, [H], query_groups=numbers, train_groups=numbers
        )[0]  # fmt: skip
        np.testing.assert_allclose(found.values.ravel(), np.asarray(truth, float), rtol=1e-9)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (xr.DataArray(np.ones(7), dims="z"), r"weights have dims \(z: 7\), and the rows \(ti"),
            (xr.DataArray(np.ones(29), dims="time"), r"dims \(time: 29\), and the rows"),
            (
                xr.DataArray(np.ones(30), {"time": np.arange(30)[::-1]}, "time"),
                "different values of time; bring them into one order",
            ),
            (
                xr.DataArray(xr.Variable("time", pd.interval_range(0, 30))),
                r"weights must be real numbers, not (interval|object)",
            ),
            (-xr.DataArray(np.ones((4, 30)), dims=("x", "time")), "weight of row 0.* is -1"),
        ],
    )
    def test_of_other_places_are_refused(self, field, query, weights, message):
        with pytest.raises(dkde.InputError, match=message) as error:
            dkde.log_density(query, field, H, weights=weights)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("value", "nan", "message"),
        [
            (0.0, "raise", "all weights are zero"),
            (0.0, "drop", "no training row counts"),
            (-1.0, "raise", "weight of row 3.* is -1"),
            (np.nan, "raise", "weight of row 3.* is nan"),
        ],
    )
    @pytest.mark.parametrize("dims", [("x",), ("time", "x")])
    def test_in_memory_are_looked_at_before_the_rows(self, field, query, dims, value, nan, message):
        field["w"] = xr.DataArray([0.0, 0.0, 0.0, value], dims="x")
        if "time" in dims:
            field["w"] = field.w.broadcast_like(field.u)
        for weights in (field.w, "w"):
            with pytest.raises(dkde.InputError, match=message):
                dkde.log_density(
                    da.from_array(query), field, H, weights=weights, nan=nan,
                    source=dkde.Catalog(features=["u", "v"]),
                )  # fmt: skip

    def test_rows_without_dims_take_one_dim_of_any_name(self, field, query):
        rows, w = flat(field), xr.DataArray(np.arange(120.0), dims="anything")
        close(dkde.log_density(query, rows, H, weights=w), query, rows, w.values)
        with pytest.raises(dkde.InputError, match=r"weights have shape \(30, 4\)"):
            dkde.log_density(query, rows, H, weights=w.data.reshape(30, 4))


class TestFeatures:
    def test_a_curvilinear_grid_s_x_and_y_are_variables(self, query):
        rng = np.random.default_rng(0)
        grids = {name: (("j", "i"), rng.normal(size=(6, 7))) for name in "xy"}
        grid = xr.Dataset(grids)
        for given in (grid, grid.set_coords(["x", "y"]), grid.set_coords("y")[["y", "x"]]):
            found = dkde.log_density(
                query, given, H, source=dkde.Catalog(features=["x", "y"])
            )  # fmt: skip
            close(found, query, flat(grid, ["x", "y"]))

    def test_an_x_along_time_and_station_is_a_variable(self):
        x = xr.Dataset({"x": (("time", "station"), np.random.default_rng(0).normal(size=(9, 4)))})
        call = {"source": dkde.Catalog(features=["x"]), "row_dim": ["time", "station"]}
        found = dkde.log_density(x, x, H, **call)
        assert found.dims == ("time", "station")
        rows = x.x.values.reshape(-1, 1)
        close(found.values.ravel(), rows, rows)

    def test_coordinates_among_the_features_are_told_of(self, cast):
        mixed = cast.to_dataframe()[["lat", "lon", "temp"]].to_xarray().set_coords(["lat", "lon"])
        assert mixed.identical(mixed[["temp"]])  # the order is no content
        said = "the features are lat, lon, temp; of these lat, lon are coordinates"
        with pytest.warns(UserWarning, match=said), pytest.warns(UserWarning, match="were flat"):
            dkde.log_density(np.zeros((1, 3)), mixed, H)
        with pytest.warns(UserWarning, match="the features are temp; lat, lon, as coordinates"):
            dkde.log_density(np.zeros((1, 1)), mixed[["temp"]], H)

    @pytest.mark.parametrize("names", [["temp", "when"], ["when", "temp"]])
    def test_times_that_were_selected_are_told_of(self, cast, names):
        with pytest.warns(UserWarning, match=r"features are temp; .*\bwhen\b.*, as coordinates"):
            dkde.log_density(np.zeros((1, 1)), cast[names], H)

    def test_nothing_is_said_where_it_is_plain(self, cast, field):
        with_times = cast.drop_vars(["lat", "lon"]).swap_dims(obs="when")
        dkde.log_density(np.zeros((1, 1)), with_times, H)
        dkde.log_density(np.zeros((1, 2)), field.drop_vars("area"), H)
        dkde.log_density(np.zeros((1, 1)), cast, H, source=dkde.Catalog(features=["temp"]))

    def test_an_axis_adds_no_dim_to_a_field(self, cast, tmp_path):
        cast.assign_coords(depth=("z", np.arange(10.0))).to_netcdf(tmp_path / "c.nc")
        for names in (["temp", "depth"], ["depth", "temp"]):
            with pytest.raises(dkde.InputError, match="do not have the same dims"):
                dkde.Catalog(features=names).rows(str(tmp_path / "c.nc"))

    @pytest.mark.parametrize(
        ("values", "remedy"),
        [
            (np.array(list("abcd")), "; it is text, which has no distances: leave it out"),
            (np.array(list("abcd"), object), "; it is text, times of another calendar or other"),
        ],
    )
    def test_what_is_no_number_is_refused_with_a_remedy(self, values, remedy):
        train = xr.Dataset({"a": ("obs", values)})
        with pytest.raises(dkde.InputError, match=f"are real numbers of at most 64 bits.*{remedy}"):
            dkde.log_density(np.zeros((1, 1)), train, H, source=dkde.Catalog(features=["a"]))


class TestSharedRows:
    def test_overlapping_parts_of_one_dataset(self, field):
        early, late = field.isel(time=slice(20)), field.isel(time=slice(10, 30))
        catalog = dkde.Catalog(features=["u", "v"])
        with pytest.raises(dkde.InputError, match="share rows"):
            dkde.sweep(train=early, valid=late, bandwidths=[H], source=catalog)
        with pytest.warns(UserWarning, match="share rows"):
            dkde.score(late, early, H, source=catalog)

    def test_parts_that_share_an_axis_alone_do_not(self, field):
        catalog = dkde.Catalog(features=["u", "v", "area"])
        early, late = field.isel(time=slice(20)), field.isel(time=slice(20, 30))
        dkde.sweep(train=early, valid=late, bandwidths=[H], source=catalog)

    def test_through_chosen_columns(self):
        names = xr.DataArray(["a", "b", "c"], dims="feature")
        rows = xr.DataArray(
            np.random.default_rng(0).normal(size=(30, 3)), {"feature": names}, ("row", "feature")
        )
        with pytest.raises(dkde.InputError, match="share rows"):
            dkde.sweep(train=rows[:20], valid=rows[10:, ::-1], bandwidths=[H])


class TestCoordinates:
    @pytest.mark.parametrize("kind", ["coordinate", "level"])
    def test_one_called_run_is_kept(self, field, query, tmp_path, kind):
        ensemble = field.drop_vars(["area", "time"]).rename(x="run").assign_coords(run=np.arange(4))
        if kind == "level":
            ensemble = ensemble.stack(place=("time", "run"))
        assert "run" in dkde.score(ensemble, query, H, output=tmp_path / "r.zarr").coords
        assert "run" in dkde.score(ensemble, query, H).coords

    def test_of_pandas_own_dtypes(self, query, tmp_path):
        times = pd.date_range("2020-01-01", periods=6, tz="Europe/Vienna")
        rows = pd.DataFrame({"a": np.arange(6.0), "b": 1.0}, times.rename("t")).to_xarray()
        rows["kind"] = "t", pd.Categorical(list("xyzxyz"))
        rows["bin"] = "t", pd.interval_range(0, 6)
        rows = rows.set_coords(["kind", "bin"])
        call = {"source": dkde.Catalog(features=["a", "b"])}
        lazy = dkde.log_density(rows, query, H, **call)
        close(lazy, flat(rows, ["a", "b"]), query)
        assert {"t", "kind", "bin"} <= set(lazy.coords)
        with pytest.warns(UserWarning, match=r"'bin' holds objects \(Interval\)"):
            dkde.score(rows, query, H, output=tmp_path / "r.zarr", **call)
        with xr.open_zarr(tmp_path / "r.zarr") as stored:
            assert list(stored.kind.values) == list("xyzxyz")
            assert list(pd.DatetimeIndex(stored.t.values).tz_localize("UTC")) == list(times)
        weighted = dkde.log_density(query, rows, H, weights=rows.a.drop_vars("bin"), **call)
        close(weighted, query, flat(rows, ["a", "b"]), rows.a.values)

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize("calendar", ["noleap", "360_day"])
    @pytest.mark.parametrize("opened", [False, True])
    def test_times_of_other_calendars_are_kept(self, field, query, tmp_path, calendar, opened):
        pytest.importorskip("cftime")
        model = field.drop_vars("area").assign_coords(
            time=xr.date_range("2000-02-01", periods=30, calendar=calendar, use_cftime=True)
        )
        given = model
        if opened:
            model.to_netcdf(tmp_path / "m.nc")
            given = str(tmp_path / "m.nc")
        call = {"source": dkde.Catalog(features=["u", "v"])}
        plain = dkde.score(given, query, H, **call)
        dkde.score(given, query, H, output=tmp_path / "r.zarr", **call)
        with xr.open_zarr(tmp_path / "r.zarr") as stored:
            for found in (plain, stored):
                assert list(found.time.values) == list(model.time.values)
        for name in ("csv", "parquet", "nc"):
            dkde.export(tmp_path / "r.zarr", tmp_path / f"r.{name}")
        assert list(xr.open_dataset(tmp_path / "r.nc").time.values) == list(model.time.values)
        for table in (pd.read_csv(tmp_path / "r.csv"), pd.read_parquet(tmp_path / "r.parquet")):
            assert list(table.time[::4]) == [str(time) for time in model.time.values]

    def test_a_range_of_a_grid_says_which_rows(self, field, query, tmp_path):
        field.drop_vars(["time", "area"]).to_netcdf(tmp_path / "f.nc")
        path, catalog = str(tmp_path / "f.nc"), dkde.Catalog(features=["u", "v"])
        found = dkde.score(f"{path}[10:15]+{path}[50:52]", query, H, source=catalog)
        assert found.source_row.dims == ("sample",)
        time, x = np.unravel_index(found.source_row.values, (30, 4))
        whole = dkde.score(path, query, H, source=catalog)
        assert "source_row" not in whole.variables
        np.testing.assert_array_equal(found.log_density, whole.log_density.values[:, time, x])


class TestStores:
    def test_what_is_decoded_otherwise_is_another_content(self, query, tmp_path):
        path = str(tmp_path / "p.zarr")
        packed = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -32768}
        xr.Dataset({"a": ("obs", np.arange(9.0))}).to_zarr(
            path, zarr_format=2, consolidated=True, encoding={"a": packed}
        )
        call = {"output": tmp_path / "r.zarr"}
        dkde.score(query[:, :1], path, H, source=dkde.Catalog(features=["a"]), **call)
        metadata = tmp_path / "p.zarr" / ".zmetadata"
        text = metadata.read_text()
        assert text.count('"scale_factor": 0.1') == 1
        metadata.write_text(text.replace('"scale_factor": 0.1', '"scale_factor": 10.0'))
        with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
            dkde.score(query[:, :1], path, H, source=dkde.Catalog(features=["a"]), **call)

    @pytest.mark.parametrize("kind", ["zarr", "hdf5", "classic"])
    @pytest.mark.parametrize("renamed", [False, True])
    def test_what_is_opened_is_not_in_memory(self, field, tmp_path, monkeypatch, kind, renamed):
        path = str(tmp_path / "f")
        if kind == "zarr":
            field.to_zarr(path, consolidated=False)
        else:
            field.to_netcdf(path, engine="h5netcdf" if kind == "hdf5" else "scipy")
        if renamed:  # as the next xarray may have it
            owner = next(cls for cls in xr.Variable.__mro__ if "_in_memory" in vars(cls))
            monkeypatch.delattr(owner, "_in_memory")
        opened = open_variables(Place(path, kind), "f").variables
        assert not in_memory(opened["u"])
        assert not in_memory(field.u.variable.chunk(time=3))
        assert in_memory(field.u.variable)

    def test_long_chunks_are_read_once_for_each_piece(self, tmp_path, monkeypatch):
        """Of chunks that are long along the first dim and short along the second."""
        shape, chunks = (64, 64), (64, 8)
        path = str(tmp_path / "t.zarr")
        xr.Dataset({"a": (("time", "x"), np.random.default_rng(0).normal(size=shape))}).to_zarr(
            path, consolidated=False, encoding={"a": {"chunks": chunks}}
        )
        monkeypatch.setattr(row_source, "SLAB_BYTES", 8192)
        monkeypatch.setattr(row_source, "READ_BYTES", 1024)
        rows = dkde.Catalog(features=["a"], row_dim=["time", "x"]).rows(path)
        read = []
        get = zarr.storage.LocalStore.get

        async def counted(store, key, *args, **kwargs):
            if "/c/" in key:
                read.append(key)
            return await get(store, key, *args, **kwargs)

        monkeypatch.setattr(zarr.storage.LocalStore, "get", counted)
        for start, stop in rows.ranges(0, rows.n_rows):
            rows.read(start, stop, decode=True)
        assert len(set(read)) == 8
        assert len(read) == 8 * (64 * 64 * 8 // 8192)

    def test_pieces_of_a_store_in_chunks_of_time_series(self):
        """A day of ten years, on a grid of a degree by two, in chunks of all years."""
        sizes, chunks = (3650, 180, 360), (3650, 20, 20)
        borders = [range(0, n, step) for n, step in zip(sizes, chunks, strict=True)]
        grain = Grain.of(sizes, borders, most=2**26 // 4, worth=2**23 // 4)
        n_bytes = 4 * 3650 * 180 * 360
        assert len(grain.borders) <= n_bytes / 2**26 + 1
        assert grain.longest * 4 <= 2**26


def test_cftime_is_no_requirement(monkeypatch, field, query):
    monkeypatch.setitem(sys.modules, "cftime", None)
    assert "time" in dkde.score(field.drop_vars("area"), query, H).coords
