"""Virtual stores, references to chunks in other files, as xarray opens them."""

import json
import os

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli
from numpy.testing import assert_array_equal

import dkde

pytest.importorskip("h5netcdf")

H = 0.5
FEATURES = {"train": ["a", "b"]}
# Libraries that write references warn of what will change in them.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Rows in a NetCDF file, in chunks."""
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(size=(500, 2))
    found = xr.Dataset({"a": ("row", values[:, 0]), "b": ("row", values[:, 1])})
    encoding = {name: {"chunksizes": (100,), "zlib": True} for name in "ab"}
    found.to_netcdf("x.nc", engine="h5netcdf", encoding=encoding)
    return values


@pytest.fixture
def references(rows):
    """The same rows as references of kerchunk."""
    hdf = pytest.importorskip("kerchunk.hdf")
    found = hdf.SingleHdf5ToZarr("x.nc", inline_threshold=0).translate()
    with open("ref.json", "w") as file:
        json.dump(found, file)
    return "ref.json"


@pytest.fixture
def virtual(rows):
    """The same rows as a Dataset of VirtualiZarr."""
    virtualizarr = pytest.importorskip("virtualizarr")
    parsers = pytest.importorskip("virtualizarr.parsers")
    registry = pytest.importorskip("obspec_utils.registry")
    stores = pytest.importorskip("obstore.store")
    known = registry.ObjectStoreRegistry({"file://": stores.LocalStore()})
    place = f"file://{os.getcwd()}/x.nc"
    with virtualizarr.open_virtual_dataset(place, registry=known, parser=parsers.HDFParser()) as d:
        yield d


def check(side, rows):
    query = np.random.default_rng(1).normal(size=(20, 2))
    found = dkde.log_density(query, side, H, features=FEATURES, block_rows=7)
    assert_array_equal(found, dkde.log_density(query, rows, H, block_rows=7))


@pytest.mark.parametrize("chunks", [None, {}])
def test_references_in_json(references, rows, chunks):
    check(xr.open_dataset(references, engine="kerchunk", chunks=chunks), rows)


def test_references_in_parquet(references, rows):
    pytest.importorskip("fastparquet")
    from kerchunk.df import refs_to_dataframe

    refs_to_dataframe(references, "ref.parq")
    check(xr.open_dataset("ref.parq", engine="kerchunk"), rows)
    with pytest.raises(dkde.InputError, match="references to chunks in other files"):
        check("ref.parq", rows)


def test_references_through_fsspec(references, rows):
    pytest.importorskip("fsspec")
    options = {"fo": references, "remote_protocol": "file"}
    found = xr.open_dataset(
        "reference://", engine="zarr", consolidated=False, chunks=None,
        backend_kwargs={"storage_options": options},
    )  # fmt: skip
    check(found, rows)


def test_references_that_virtualizarr_wrote(virtual, rows):
    pytest.importorskip("kerchunk")
    virtual.vz.to_kerchunk("v.json", format="json")
    check(xr.open_dataset("v.json", engine="kerchunk"), rows)


def test_a_repository_of_virtual_chunks(virtual, rows):
    icechunk = pytest.importorskip("icechunk")
    icechunk.set_logs_filter("error")
    here = f"{os.getcwd()}/"
    config = icechunk.RepositoryConfig.default()
    store = icechunk.local_filesystem_store(here)
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(f"file://{here}", store))
    storage, allowed = icechunk.local_filesystem_storage(f"{here}R"), {f"file://{here}": None}
    found = icechunk.Repository.create(storage, config, authorize_virtual_chunk_access=allowed)
    session = found.writable_session("main")
    virtual.vz.to_icechunk(session.store)
    session.commit("references")
    check(found.readonly_session("main"), rows)
    with pytest.raises(dkde.DataSetError, match="only where you allow it") as raised:
        check("R", rows)  # a repository may come from others: no other file is opened
    assert "\n" not in str(raised.value)


def test_a_dataset_that_was_not_written(virtual, rows):
    with pytest.raises(dkde.InputError, match=r"train: a says where values lie, and has none"):
        check(virtual, rows)


@pytest.mark.parametrize("command", ["info", "score"])
def test_commands_say_how_they_are_opened(references, rows, command):
    options = [] if command == "info" else ["--features", "a,b", "--query", "x.nc", "--bandwidth=1"]
    result = CliRunner().invoke(cli, [command, references, *options])
    assert result.exit_code == 2
    assert "xarray.open_dataset" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
