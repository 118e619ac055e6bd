"""Arrays of Zarr and HDF5 without names of dims, and AnnData's matrices, as sides."""

import dask.array as da
import numpy as np
import pytest
import reference
import xarray as xr
import zarr
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde
from dkde.results.rereading import read_back
from dkde.runs.scored_rows import scored_rows

h5py = pytest.importorskip("h5py")

H, N = 0.8, 30

pytestmark = pytest.mark.filterwarnings("ignore:train .* share rows")


@pytest.fixture
def table():
    return np.random.default_rng(5).normal(size=(N, 2))


@pytest.fixture
def annotated(tmp_path, table):
    """A file as AnnData writes it."""
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.attrs["encoding-type"] = "anndata"
        file["X"] = table.astype("float32")
        obsm = file.create_group("obsm")
        obsm["X_umap"], obsm["X_pca"] = table, np.zeros((N, 5))
        frame = obsm.create_group("places")
        frame.attrs.update({"encoding-type": "dataframe", "_index": "_index"})
        frame.attrs["column-order"] = np.array(["v", "u"], object)
        frame["u"], frame["v"] = table[:, 0], table[:, 1]
        frame["_index"] = np.array([f"c{i}" for i in range(N)], object)
        sparse = file.create_group("S")
        sparse.attrs["encoding-type"] = "csr_matrix"
        sparse["data"], sparse["indices"], sparse["indptr"] = [1.0], [0], [0, 1]
    return str(tmp_path / "a.h5ad")


def close(found, rows):
    truth = np.asarray(reference.log_density(rows, rows, [H])[0], float)
    np.testing.assert_allclose(np.asarray(found).ravel(), truth, rtol=1e-9)


@pytest.fixture(params=["root 2", "root 3", "group", "hdf5", "obsm"])
def side(request, tmp_path, table, annotated):
    if request.param == "hdf5":
        with h5py.File(tmp_path / "t.h5", "w") as file:
            file["deep/within/t"] = table
        return f"{tmp_path}/t.h5::deep/within/t"
    if request.param == "obsm":
        return f"{annotated}::obsm/X_umap"
    if request.param == "group":
        group = zarr.open_group(tmp_path / "g.zarr", mode="w").create_group("deep")
        group.create_array("t", data=table, chunks=(7, 1))
        return f"{tmp_path}/g.zarr::deep/t"
    version = int(request.param[-1])
    array = zarr.create_array(
        tmp_path / "t.zarr", shape=table.shape, chunks=(8, 2), dtype=float, zarr_format=version
    )
    array[:] = table
    return str(tmp_path / "t.zarr")


@pytest.mark.sampled(5)
def test_two_dims_are_rows_and_features(side, table):
    close(dkde.score(side, side, H).log_density, table)
    close(dkde.log_density(f"{side}[:5] + {side}[5:]", side, H), table)
    assert dkde.describe(side)["rows"] == N
    assert dkde.describe(side)["columns"] == 2
    named = side.rpartition("/")[2].removesuffix(".zarr")
    close(dkde.log_density(side, side, H, source=dkde.Catalog(features=[named])), table)
    columns = dkde.Catalog(features=["x", "y"])
    close(dkde.log_density(side, side, H, source=columns), table)


@pytest.mark.sampled(3)
def test_on_the_command_line(side, table):
    call = ["score", side, "--query", side, "--train", side, "--bandwidth", str(H), "--json"]
    done = CliRunner().invoke(cli, call)
    assert done.exit_code == 0, done.output
    assert "of 2, along" in CliRunner().invoke(cli, ["info", side]).stdout


@pytest.mark.sampled(3)
def test_rows_are_read_again(side, table):
    rows, why = read_back(scored_rows(dkde.score(side, side, H))[0])
    assert why == ""
    np.testing.assert_array_equal(rows.read(0, N, decode=True), table)


def test_what_dask_writes(tmp_path, table):
    da.from_array(table, chunks=(7, 2)).to_zarr(str(tmp_path / "d.zarr"))
    path = str(tmp_path / "d.zarr")
    close(dkde.score(path, path, H).log_density, table)
    array = zarr.open_array(path, mode="r")
    np.testing.assert_array_equal(
        dkde.log_density(path, path, H), dkde.log_density(array, array, H).compute()
    )


@pytest.mark.parametrize("value", [-9.0, "-9.0"])
def test_marked_values_are_missing(tmp_path, table, value):
    marked = table.copy()
    marked[3, 1] = -9.0
    array = zarr.create_array(tmp_path / "m.zarr", shape=(N, 2), dtype=float)
    array[:] = marked
    array.attrs["_FillValue"] = value
    path = str(tmp_path / "m.zarr")
    kept = np.delete(table, 3, axis=0)
    for train in (path, zarr.open_array(path, mode="r")):
        with pytest.raises(dkde.InputError, match=r"row 3, column 1 is nan"):
            dkde.score(kept, train, H)
        found = dkde.score(kept, train, H, nan="drop").log_density
        close(found, kept)


def test_one_dim_is_one_feature_and_three_are_asked_about(tmp_path, table):
    zarr.create_array(tmp_path / "one.zarr", data=table[:, 0])
    one = str(tmp_path / "one.zarr")
    close(dkde.log_density(one, one, H), table[:, :1])
    zarr.create_array(tmp_path / "three.zarr", data=table.reshape(N, 2, 1))
    three = str(tmp_path / "three.zarr")
    with pytest.raises(dkde.InputError, match=r"for 30 rows of 2, or row_dim="):
        dkde.log_density(three, three, H)


class TestAnnData:
    @pytest.mark.parametrize("name", ["X_umap", "places"])
    def test_obsm(self, annotated, table, name):
        side, catalog = f"{annotated}::obsm", dkde.Catalog(features=[name])
        rows = table[:, ::-1] if name == "places" else table
        result = dkde.score(side, side, H, source=catalog)
        close(result.log_density, rows)
        again, why = read_back(scored_rows(result)[0])
        assert why == ""
        np.testing.assert_array_equal(again.read(0, N, decode=True), rows)

    def test_a_dense_x_is_rows_and_a_sparse_one_is_refused(self, annotated, table):
        catalog = dkde.Catalog(features=["X"])
        close(dkde.log_density(annotated, annotated, H, source=catalog), table.astype("float32"))
        with pytest.raises(dkde.InputError, match=r"is a sparse matrix \(csr_matrix\)"):
            dkde.Catalog(features=["S"]).rows(annotated)

    def test_in_zarr(self, tmp_path, table):
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2).create_group("obsm")
        group.create_array("X_umap", data=table)
        group.create_array("X_pca", data=np.zeros((N, 5)))
        side = f"{tmp_path}/a.zarr::obsm"
        close(dkde.log_density(side, side, H, source=dkde.Catalog(features=["X_umap"])), table)


class TestImport:
    @pytest.mark.sampled(5)
    def test_an_array_is_imported(self, side, tmp_path, table):
        dkde.import_dataset(side, tmp_path / "own.zarr")
        own = f"{tmp_path}/own.zarr::train"
        np.testing.assert_array_equal(
            dkde.log_density(own, own, H), dkde.log_density(side, side, H)
        )

    def test_variables_are_imported(self, annotated, tmp_path, table):
        with pytest.raises(dkde.InputError, match=r"say which variables are the feat.*--columns"):
            dkde.import_dataset(annotated, tmp_path / "own.zarr")
        dkde.import_dataset(f"{annotated}::obsm", tmp_path / "own.zarr", columns=["places"])
        own = f"{tmp_path}/own.zarr::train"
        close(dkde.log_density(own, own, H), table[:, ::-1])
        xr.Dataset({"emb": (("cell", "comp"), table)}).to_netcdf(
            tmp_path / "e.nc", engine="h5netcdf"
        )
        call = ["import", str(tmp_path / "e.nc"), str(tmp_path / "e.zarr"), "--columns", "emb"]
        done = CliRunner().invoke(cli, call)
        assert done.exit_code == 2
        assert "(--row-dim cell) for 30 rows of 2" in done.stderr
        done = CliRunner().invoke(cli, [*call, "--row-dim", "cell"])
        assert done.exit_code == 0, done.output
        own = f"{tmp_path}/e.zarr::train"
        close(dkde.log_density(own, own, H), table)
