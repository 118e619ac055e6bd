"""Zarr stores and NetCDF files of others, and Datasets, scored as they are."""

import gc
import os
import pickle
import subprocess
import sys
import tracemalloc

import dask
import numpy as np
import pytest
import reference
import xarray as xr
import zarr
from click.testing import CliRunner
from dkde_cli.main import cli
from work import work_of

import dkde
from dkde.engine.shelf import SHELF
from dkde.rows.side import Side

N, H = 90, 0.7
FEATURES = ["a", "b", "c"]
PACKED = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 1.0, "_FillValue": -32768}
KINDS = ["hdf5", "classic", "zarr 2", "zarr 3"]


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, N))
    return xr.Dataset(
        {
            "a": ("obs", values[0], {"units": "m"}),
            "b": ("obs", values[1].astype(np.float32)),
            "c": ("obs", np.round(values[2], 2)),
            "w": ("obs", rng.uniform(size=N)),
            "when": ("obs", np.datetime64("2020-01-01", "ns") + np.arange(N)),
            "flag": ("obs", np.array(["good", "bad"], object)[np.arange(N) % 2]),
            "other": ("z", np.arange(4.0)),
        }
    )


@pytest.fixture
def grid():
    """Of which a and b are axes, and c a field."""
    return xr.Dataset(
        {"c": (("b", "a"), np.linspace(-1, 1, 20).reshape(4, 5))},
        coords={
            "b": ("b", np.linspace(-1, 1, 4), {"units": "m", "long_name": "the other"}),
            "a": np.linspace(-2, 2, 5),
            "month": 3,
        },
    )


def written(dataset, path, kind):
    """The Dataset in a file or a store, c packed, in chunks of unlike sizes."""
    if kind == "classic":
        dataset.to_netcdf(f"{path}.nc", engine="scipy", encoding={"c": PACKED})
        return f"{path}.nc"
    if kind == "hdf5":
        chunks = {"c": {**PACKED, "chunksizes": (32,)}, "a": {"chunksizes": (20,)}}
        dataset.to_netcdf(f"{path}.nc", engine="h5netcdf", encoding=chunks)
        return f"{path}.nc"
    chunks = {"c": {**PACKED, "chunks": (32,)}, "a": {"chunks": (20,)}}
    version = int(kind[-1])
    dataset.to_zarr(f"{path}.zarr", zarr_format=version, encoding=chunks, consolidated=False)
    return f"{path}.zarr"


@pytest.fixture(params=KINDS)
def files(request, tmp_path, monkeypatch, points, grid):
    """Names of the points' file or store, and the grid's, in the working directory."""
    monkeypatch.chdir(tmp_path)
    grid.to_netcdf("grid.nc", engine="h5netcdf")
    return written(points, "points", request.param), "grid.nc"


def opened(path):
    kind = {"engine": "zarr", "consolidated": False} if path.endswith("zarr") else {}
    return xr.open_dataset(path, **kind)


def rows_of(dataset, names=FEATURES):
    """What xarray itself makes of it, broadcast, in float64."""
    columns = xr.broadcast(*(dataset[name] for name in names))
    return np.stack([np.asarray(column.values, np.float64).ravel() for column in columns], axis=1)


def expected(dataset, grid, names=FEATURES, weights=None):
    """Along b and a."""
    both = [rows_of(grid.transpose(..., "b", "a"), names), rows_of(dataset, names)]
    dims = xr.broadcast(*(grid[name] for name in names))[0].sizes
    found = reference.log_density(*both, [H], weights=weights)
    return xr.DataArray(found[0].reshape(tuple(dims.values())), dims=list(dims)).transpose("b", "a")


def close(result, truth):
    found = result.transpose("b", "a").values
    np.testing.assert_allclose(found, np.asarray(truth.values, float), rtol=1e-9, atol=1e-9)


class TestStoresAndFiles:
    @pytest.mark.sampled(4)
    def test_a_grid_comes_back_as_a_grid(self, files, grid):
        points, query = files
        catalog = dkde.Catalog(features=FEATURES)
        result = dkde.score(query, points, H, source=catalog).isel(bandwidth=0)
        close(result.log_density, expected(opened(points), grid))
        assert result.log_density.dims == ("b", "a")
        xr.testing.assert_identical(
            result.b.drop_vars(["bandwidth", "month"]), grid.b.drop_vars("month")
        )
        assert int(result.month) == 3
        close(dkde.log_density(query, points, H, source=catalog), result.log_density)

    @pytest.mark.sampled(4)
    def test_weights_are_a_variable(self, files, grid):
        points, query = files
        catalog = dkde.Catalog(features=FEATURES)
        result = dkde.score(query, points, H, source=catalog, weights="w").isel(bandwidth=0)
        close(result.log_density, expected(opened(points), grid, weights=opened(points).w.values))

    @pytest.mark.sampled(4)
    def test_ranges_and_several_stores(self, files):
        points, _ = files
        catalog = dkde.Catalog(features=FEATURES)
        train = f"{points}[:30]+{points}[50:]"
        with pytest.warns(UserWarning, match="weights 'w' apply to train and to query"):
            result = dkde.score(f"{points}[30:50]", train, H, source=catalog, weights="w")
        rows, w = rows_of(opened(points)), opened(points).w.values
        kept = np.r_[:30, 50:N]
        truth = reference.log_density(rows[30:50], rows[kept], [H], weights=w[kept])
        np.testing.assert_allclose(result.log_density, np.asarray(truth, float), rtol=1e-9)
        assert result.log_density.dims == ("bandwidth", "obs")

    @pytest.mark.slow
    def test_a_run_is_gone_on_with_verified_and_done_in_parts(self, files, grid, tmp_path):
        points, query = files
        call = {
            "bandwidth": [H], "weights": "w", "block_rows": 7, "panel_rows": 40,
            "source": dkde.Catalog(features=FEATURES),
        }  # fmt: skip
        plain = dkde.score(query, points, **call)
        with dkde.init_only():
            dkde.score(query, points, output="r.zarr", **call)
        for part in range(2):
            dkde.run_part("r.zarr", part, 2)
        dkde.finish("r.zarr")
        again = dkde.score(query, points, output="r.zarr", **call)
        assert again.log_density.dims == ("bandwidth", "b", "a")
        np.testing.assert_array_equal(again.log_density, plain.log_density)
        assert dkde.verify("r.zarr", blocks=9)["blocks"] == 3
        with xr.open_zarr("r.zarr") as stored:
            np.testing.assert_array_equal(stored.b, grid.b)
            assert stored.b.attrs == grid.b.attrs

    @pytest.mark.slow
    def test_a_run_with_the_rows_own_numbers_goes_on(self, files, grid):
        points, query = files
        call = {"weights": "source_row", "output": "r.zarr"}
        results = [
            dkde.score(points, f"{query}[2:9]", H, source=dkde.Catalog(features=FEATURES), **call)
            for _ in range(2)
        ]
        truth = reference.log_density(
            rows_of(opened(points)), rows_of(grid, ["c", "a", "b"])[2:9, [1, 2, 0]], [H],
            weights=np.arange(2, 9),
        )  # fmt: skip
        for result in results:
            np.testing.assert_allclose(result.log_density, np.asarray(truth, float), rtol=1e-9)
        with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
            dkde.score(points, f"{query}[1:8]", H, source=dkde.Catalog(features=FEATURES), **call)

    @pytest.mark.slow
    def test_another_content_is_another_run(self, files, points):
        path, query = files
        call = {"source": dkde.Catalog(features=FEATURES), "output": "r.zarr"}
        dkde.score(query, path, H, **call)
        if path.endswith("zarr"):
            zarr.open_group(path)["c"][3] = 77
        else:
            points["c"][3] = 77
            points.to_netcdf("new.nc", engine="h5netcdf")
            os.replace("new.nc", path)
        call["source"] = dkde.Catalog(features=FEATURES)
        with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
            dkde.score(query, path, H, **call)

    def test_a_side_pickles_small_and_reads_the_same(self, files):
        points, _ = files
        source = dkde.Catalog(features=FEATURES).rows(points).parts[0].source
        content = pickle.dumps(source)
        assert len(content) < 8000
        there = pickle.loads(content)
        rows = source.read(0, N)
        assert rows.dtype == np.float64
        np.testing.assert_array_equal(rows, rows_of(opened(points)))
        np.testing.assert_array_equal(there.read(11, 77), rows[11:77])

    def test_shared_rows_are_found(self, files):
        points, _ = files
        with pytest.raises(dkde.InputError, match="share rows"):
            dkde.sweep(
                train=points, valid=f"{points}[:9]", bandwidths=[H],
                source=dkde.Catalog(features=FEATURES),
            )  # fmt: skip

    @pytest.mark.slow
    def test_workers_in_another_folder(self, files, grid, tmp_path):
        points, query = files
        code = (
            "import os, dkde, numpy as np\n"
            "if __name__ == '__main__':\n"
            "    with dkde.connect(workers=1):\n"
            f"        r = dkde.score({query!r}, {points!r}, {H}, "
            f"source=dkde.Catalog(features={FEATURES!r}))\n"
            "    np.save('r.npy', r.log_density.transpose('bandwidth', 'b', 'a').values[0])\n"
        )
        (tmp_path / "r.py").write_text(code)
        subprocess.run([sys.executable, "-W", "ignore", "r.py"], check=True, timeout=120)
        close(xr.DataArray(np.load("r.npy"), dims=("b", "a")), expected(opened(points), grid))

    @pytest.mark.slow
    def test_groups_are_splits(self, tmp_path, points, grid):
        for kind in ("hdf5", "zarr"):
            path = str(tmp_path / f"tree.{kind}")
            for group in ("train", "deep/valid"):
                if kind == "zarr":
                    points.to_zarr(path, group=group, mode="a", consolidated=False)
                else:
                    points.to_netcdf(path, group=group, mode="a", engine="h5netcdf")
            catalog = dkde.Catalog(path, features=FEATURES)
            result = dkde.score("deep/valid[:9]", f"{path}::train", H, source=catalog)
            truth = reference.log_density(rows_of(points)[:9], rows_of(points), [H])
            np.testing.assert_allclose(result.log_density, np.asarray(truth, float), rtol=1e-9)
            with pytest.raises(dkde.InputError, match=r"no split 'test'.*deep/valid"):
                catalog.rows("test")

    def test_the_order_of_variables_is_not_the_folders(self, tmp_path, monkeypatch):
        axes = {name: (name, np.arange(2.0)) for name in ("lat", "lon", "time")}
        xr.Dataset(coords=axes).to_zarr(tmp_path / "axes.zarr", consolidated=False)
        listed = zarr.storage.LocalStore.list_dir

        async def backwards(store, prefix):
            for name in sorted([name async for name in listed(store, prefix)], reverse=True):
                yield name

        monkeypatch.setattr(zarr.storage.LocalStore, "list_dir", backwards)
        catalog = dkde.Catalog(str(tmp_path / "axes.zarr"), features=list(axes))
        assert catalog.rows("all").parts[0].source.dims == ("lat", "lon", "time")

    @pytest.mark.slow
    def test_in_a_bucket(self, bucket, points, grid, tmp_path):
        from dkde.stores.store import open_store

        grid.to_netcdf(tmp_path / "grid.nc")
        for version in (2, 3):
            url = f"{bucket}/p{version}.zarr"
            points.to_zarr(open_store(url), zarr_format=version, consolidated=False)
            catalog = dkde.Catalog(url, features=FEATURES)
            result = dkde.score(str(tmp_path / "grid.nc"), url, H, source=catalog, weights="w")
            close(
                result.log_density.isel(bandwidth=0),
                expected(points, grid, weights=points.w.values),
            )

    def test_a_store_that_is_gone_is_no_missing_values(self, tmp_path, points):
        import shutil

        path = written(points, tmp_path / "p", "zarr 3")
        source = dkde.Catalog(features=FEATURES).rows(path).parts[0].source
        shutil.rmtree(path)
        with pytest.raises(
            dkde.DataSetError, match=r"was removed after it was opened|could not be read"
        ):
            source.read(0, 5)

    def test_on_the_sphere(self, tmp_path, points):
        rng = np.random.default_rng(1)
        points["lat"] = ("obs", rng.uniform(-80, 80, N), {"units": "degrees_north"})
        points["lon"] = ("obs", rng.uniform(-170, 170, N), {"units": "degrees_east"})
        path = written(points, tmp_path / "p", "zarr 3")
        call = {"kernel": "vonmises_fisher"}
        found = dkde.log_density(
            f"{path}[40:]", f"{path}[:40]", 0.3, source=dkde.Catalog(features=["lon", "lat"]),
            **call,
        )  # fmt: skip
        places = rows_of(points, ["lat", "lon"])
        plain = dkde.log_density(places[40:], places[:40], 0.3, **call)
        np.testing.assert_allclose(found.values, plain, rtol=1e-9)


class TestDatasets:
    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["in memory", "lazy", "dask", "one of each"])
    def test_any_kind_of_dataset(self, files, grid, form):
        path, query = files
        train, rows = opened(path), opened(query)
        if form == "in memory":
            train, rows = train.load(), rows.load()
        elif form == "dask":
            train, rows = train.chunk(obs=17), rows.chunk(a=2)
        elif form == "one of each":
            train["a"] = train["a"].chunk(obs=13)
            train["b"] = train["b"].load()
        with dask.config.set(scheduler="synchronous"):
            found = dkde.log_density(rows, train[FEATURES], H)
            assert found.chunks is not None
            close(found, expected(opened(path), grid))
        weighted = dkde.score(rows, train[[*FEATURES, "w"]], H, weights="w",
                              source=dkde.Catalog(features=FEATURES))  # fmt: skip
        truth = expected(opened(path), grid, weights=opened(path).w.values)
        close(weighted.log_density.isel(bandwidth=0), truth)

    def test_building_reads_nothing(self, points, grid):
        def refuse(*_, **__):
            raise AssertionError("computed")

        with dask.config.set(scheduler=refuse):
            dkde.log_density(grid.chunk(), points[FEATURES].chunk(obs=10), H)

    def test_features_that_were_selected_as_coordinates(self, points, grid):
        train = points.set_coords(["a", "b"])[FEATURES]
        with pytest.warns(UserWarning, match="a, b, c; of these a, b are coordinates"):
            found = dkde.log_density(grid, train, H)
        close(found, expected(points, grid))

    def test_left_coordinates_are_told_of(self, points, grid):
        train = points.set_coords(["a", "b"])[["c", "a", "b"]]
        with pytest.warns(UserWarning, match="features are c; a, b, as coordinates, are not"):
            dkde.log_density(grid[["c"]], train, H, row_dim=["b", "a"])
        found = dkde.log_density(grid, train, H, source=dkde.Catalog(features=FEATURES))
        close(found, expected(points, grid))

    def test_axes_alone_make_a_grid(self, points, grid):
        found = dkde.log_density(grid[["b", "a"]], points[["a", "b"]], H)
        assert found.dims == ("b", "a")
        close(found, expected(points, grid, ["a", "b"]))

    def test_a_grid_as_training_rows_with_weights(self, points, grid):
        grid["area"] = np.cos(grid.b)
        found = dkde.log_density(
            points[["a", "b"]], grid, H, weights="area",
            source=dkde.Catalog(features=["a", "b"]),
        )  # fmt: skip
        both = rows_of(points, ["a", "b"]), rows_of(grid, ["a", "b"])
        weights = grid.area.broadcast_like(grid.a * grid.b).transpose("a", "b").values.ravel()
        truth = reference.log_density(*both, [H], weights=weights)[0]
        np.testing.assert_allclose(found.values, np.asarray(truth, float), rtol=1e-9)

    def test_cross_validation_of_a_grid_has_its_shape(self, grid):
        catalog = dkde.Catalog(features=FEATURES)
        result = dkde.cross_validate(grid, [0.1, 0.5, 2.0], folds=4, source=catalog)
        assert result.held_out_in.dims == ("b", "a")
        columns = (column.transpose("b", "a") for column in xr.broadcast(grid.a, grid.b, grid.c))
        rows = np.stack([column.values.ravel() for column in columns], axis=1)
        plain = dkde.cross_validate(rows, [0.1, 0.5, 2.0], folds=4)
        np.testing.assert_array_equal(result.held_out_in.values.ravel(), plain.held_out_in)
        np.testing.assert_allclose(result.mean_log_likelihood, plain.mean_log_likelihood)

    def test_sweep_keeps_the_shapes_of_both(self, points, grid, tmp_path):
        call = {"train": points[FEATURES], "valid": grid, "test": grid.isel(a=slice(3)) + 0.1}
        result = dkde.sweep(**call, bandwidths=[0.1, 0.5, 2.0], output=tmp_path / "r.zarr")
        assert result.log_density.dims == ("bandwidth", "b", "a")
        assert result.test_log_density.dims == ("test_b", "test_a")
        assert result.sizes["test_a"] == 3

    def test_a_run_with_a_dataset_goes_on(self, points, grid, tmp_path):
        call = {"output": tmp_path / "r.zarr", "block_rows": 8}
        first = dkde.score(grid, points[FEATURES], H, **call)
        again = dkde.score(grid, points[FEATURES].copy(deep=True), H, **call)
        xr.testing.assert_identical(first.log_density.load(), again.log_density.load())
        points["a"][3] += 1
        with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
            dkde.score(grid, points[FEATURES], H, **call)

    def test_a_dataarray_of_several_dims(self, points, grid):
        names = xr.DataArray(FEATURES, dims="feature", name="feature")
        stacked = xr.concat(xr.broadcast(grid.a, grid.b, grid.c), names)
        for query in (stacked, stacked.chunk(a=2)):
            found = dkde.log_density(query, points[FEATURES], H)
            close(found, expected(points, grid))
        with pytest.raises(dkde.InputError, match=r'say row_dim="column" .* or row_dim='):
            dkde.log_density(stacked.rename(feature="column"), points[FEATURES], H)


REFUSED = [
    (["a", "nope"], {}, r"has no variable 'nope'; it has .*w \(obs\)"),
    (["a", "flag"], {}, r"variable 'flag' is of dtype .*; features are real numbers .* text"),
    (["a", "other"], {}, r"a \(obs\) and other \(z\) do not have the same dims"),
    (["a"], {"weights": "other"}, r"weights other \(z\) and the rows \(obs\)"),
    (["a"], {"weights": "nope"}, "has no variable 'nope'"),
    (["a", "a"], {}, "features name 'a' more than once"),
    ([], {}, "they are names of variables"),
]


class TestRefusals:
    @pytest.mark.sampled(6)
    @pytest.mark.parametrize(("features", "options", "message"), REFUSED)
    def test_in_a_line(self, files, features, options, message):
        path, _ = files

        def call():
            catalog = dkde.Catalog(features=features)
            dkde.score(f"{path}[:5]", f"{path}[5:]", H, source=catalog, **options)

        with pytest.raises(dkde.InputError, match=message) as error:
            call()
        assert "\n" not in str(error.value)

    @pytest.mark.sampled(4)
    def test_without_features_the_variables_are_listed(self, files):
        path, _ = files
        with pytest.raises(dkde.InputError, match=r"which of its variables .*a \(obs\)"):
            dkde.score(path, path, H)

    def test_what_cannot_be_decoded(self, tmp_path, points):
        points["a"].attrs["scale_factor"] = "much"
        points["when"] = ("obs", np.arange(N), {"units": "days since never"})
        path = str(tmp_path / "p.nc")
        points.to_netcdf(path, engine="h5netcdf")
        with pytest.raises(dkde.InputError, match="variable 'a' cannot be decoded"):
            dkde.Catalog(features=["a"]).rows(path)
        assert dkde.Catalog(features=["b"]).rows(path).n_rows == N

    def test_damage(self, tmp_path):
        path = tmp_path / "p.nc"
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
        with pytest.raises(dkde.DataSetError, match="could not be opened by xarray"):
            dkde.Catalog(features=["b"]).rows(str(path))


class TestInfo:
    @pytest.mark.sampled(4)
    def test_figures_are_those_of_the_values(self, files, points):
        path, _ = files
        described = dkde.describe(path)
        values = opened(path)
        for name in FEATURES:
            found = described["variables"][name]
            np.testing.assert_allclose(
                found["mean"], float(values[name].astype("f8").mean()), rtol=1e-6
            )
            deviation = float(values[name].astype("f8").std(ddof=1))
            np.testing.assert_allclose(found["standard_deviation"], deviation, rtol=1e-6)
            assert found["dims"] == {"obs": N}
        assert described["variables"]["a"]["units"] == "m"
        assert described["variables"]["c"]["stored_dtype"] in ("int16", ">i2")
        assert described["advice"] is None

    def test_missing_values_and_unlike_scales(self, tmp_path, points):
        points["a"][:7] = np.nan
        points["b"] = points["b"] * 1000
        points.to_netcdf(tmp_path / "p.nc")
        described = dkde.describe(tmp_path / "p.nc", ["a", "b"])
        assert described["variables"]["a"]["missing"] == 7
        assert described["ratio_of_standard_deviations"] > 500
        assert "b spreads" in described["advice"]
        result = CliRunner().invoke(cli, ["info", str(tmp_path / "p.nc"), "--features", "a,b"])
        assert result.exit_code == 0
        assert "--covariance diag" in result.output


@pytest.mark.slow
def test_commands(files, grid):
    points, query = files

    def command(*arguments):
        result = CliRunner().invoke(cli, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    names = ("--features", "a,b,c")
    command("score", points, *names, "--query", query, "--bandwidth", "0.7", "--weights", "w",
            "--output", "r.zarr")  # fmt: skip
    with xr.open_zarr("r.zarr") as result:
        truth = expected(opened(points), grid, weights=opened(points).w.values)
        close(result.log_density.isel(bandwidth=0), truth)
    assert "pairs" in command("plan", points, *names, "--query", query, "--bandwidths", "1")
    command("cv", points, *names, "--bandwidths", "0.4,0.7,1.2")
    command("sweep", points, *names, "--train", f"{points}[:60]", "--valid", f"{points}[60:]",
            "--bandwidths", "0.4,0.7,1.2")  # fmt: skip
    command("sample", points, *names, "--bandwidth", "1", "-n", "5", "-o", "s.zarr",
            "--weights", "w")  # fmt: skip
    assert dkde.describe("s.zarr")["splits"]["samples"]["features"] == 3


def stored_rows(path, kind, dtype, names, n):
    """Rows of a file or a store, in chunks of 3000."""
    rng = np.random.default_rng(0)
    points = xr.Dataset({name: ("obs", rng.uniform(-9, 9, n)) for name in names})
    form = PACKED if dtype == "packed" else {"dtype": dtype}
    key = "chunksizes" if kind == "hdf5" else "chunks"
    encoding = {name: {**form, key: (3000,)} for name in names}
    if kind == "hdf5":
        points.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    else:
        points.to_zarr(path, zarr_format=int(kind[-1]), consolidated=False, encoding=encoding)
    rows = dkde.Catalog(features=names).rows(str(path))
    assert rows.parts[0].source.dtype == ("f4" if dtype == "f4" else "f8")
    return rows


def allocated(call):
    """Peak bytes of a call, everything it loads once being loaded."""
    call()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["hdf5", "zarr 2", "zarr 3"])
@pytest.mark.parametrize("dtype", ["packed", "f4", "f8"])
class TestMemory:
    @pytest.mark.slow
    @pytest.mark.parametrize("n_features", [4, 16])
    def test_a_block_takes_what_is_planned(self, tmp_path, kind, dtype, n_features):
        names = list("abcdefghijklmnop")[:n_features]
        rows = stored_rows(tmp_path / "p", kind, dtype, names, 20_000)
        work = work_of(Side(rows[:4000]), Side(rows[4000:]), [1000.0], query_rows=4000)
        survey = work.survey()

        def block():
            SHELF.drop(survey.key)  # as for the first block
            return work.block(survey, 0, 0)

        planned = work.plan.worker_bytes()
        ratio = allocated(block) / planned
        assert 0.6 <= ratio <= 1.25, f"{ratio:.2f} of the {planned} bytes planned"

    @pytest.mark.slow
    @pytest.mark.parametrize("n_features", [1, 2, 3])
    def test_reading_takes_the_copies_that_the_plan_counts(self, tmp_path, kind, dtype, n_features):
        rows = stored_rows(tmp_path / "p", kind, dtype, list("abc")[:n_features], 300_000)
        work = work_of(Side(rows), Side(rows), [1.0])
        source = rows.parts[0].source
        n_bytes = 300_000 * n_features * source.dtype.itemsize
        taken = allocated(lambda: source.read(0, 300_000)) / n_bytes
        assert taken <= 1 + work.plan.train.copies


def test_rows_are_held_where_every_variable_is_in_memory(points, tmp_path):
    chosen = points[["a", "b"]]  # of two dtypes: values take more than what they follow from
    chosen.to_netcdf(tmp_path / "points.nc")
    half = chosen.assign(b=chosen.b.chunk(obs=10))
    with xr.open_dataset(tmp_path / "points.nc") as opened:
        for rows, is_held in ((chosen, True), (half, False), (opened, False)):
            model = dkde.KernelDensity(bandwidth=H).fit(rows)
            assert model._train.rows.is_held == is_held
            assert model.score_samples(rows).shape == (N,)


def test_leaves_of_the_coordinates_of_a_grid_are_not_held():
    cells = xr.Dataset(coords={name: np.linspace(0, 1, 40) for name in "xyz"})
    model = dkde.KernelDensity(bandwidth=H).fit(cells)
    assert model._train.rows.n_rows == 64_000
    assert not model._train.rows.is_held


def test_weights_that_lie_in_a_file_may_be_others_at_the_next_call(tmp_path):
    rng = np.random.default_rng(0)
    rows = xr.Dataset({name: ("obs", rng.normal(size=3000)) for name in "ab"})

    def kept(weights):
        rows.assign(w=("obs", weights)).to_zarr(tmp_path / "x.zarr", mode="w", consolidated=False)

    def fitted():
        opened = xr.open_zarr(tmp_path / "x.zarr", chunks=None, consolidated=False)
        opened = opened.assign({name: opened[name].load() for name in "ab"})
        model = dkde.KernelDensity(features=["a", "b"], bandwidth=H)
        return model.fit(opened, sample_weight="w")

    def found(model):
        return np.asarray(model.score_samples(rows.isel(obs=slice(400))))

    first = np.where(rows.a > 0, 1.0, 1e-3)
    kept(first)
    model = fitted()
    assert model._train.rows.is_held
    found(model)
    kept(first[::-1].copy())
    np.testing.assert_allclose(found(model), found(fitted()))


def test_a_coordinate_that_is_damaged_is_named(points, tmp_path):
    rows = points[["a", "b"]].assign_coords(t=("obs", np.arange(N, dtype="f4")))
    rows.to_zarr(tmp_path / "x.zarr", consolidated=False)
    described = tmp_path / "x.zarr/t/zarr.json"
    described.write_text(described.read_text().replace("float32", "float64"))
    np.save(tmp_path / "train.npy", np.zeros((3, 2)))
    with pytest.raises(dkde.DataSetError, match="variable t: rows 0 to 90 could not be read"):
        dkde.score(f"{tmp_path}/x.zarr", f"{tmp_path}/train.npy", H, features=["a", "b"])
