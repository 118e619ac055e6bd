"""What is gone, damaged or elsewhere is said, and never read as zeros."""

import pickle
import shutil

import dask
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

from dkde.datasets.dataset import open_dataset, open_split
from dkde.errors import DataSetError
from dkde.inputs.importing import import_dataset
from dkde.inputs.selectors import Catalog
from dkde.rows.sources import NpySource, ZarrSource
from dkde.stores.door import absolute

X = np.arange(1, 13.0).reshape(4, 3)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a file and a data set, the working directory."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    import_dataset("x.npy", "d.zarr")
    return tmp_path


@pytest.fixture
def elsewhere(tmp_path_factory):
    return tmp_path_factory.mktemp("elsewhere")


# ---- relative paths ----


@pytest.mark.parametrize("selector", ["d.zarr::train", "x.npy"])
def test_rows_by_a_relative_path_are_the_same_elsewhere(here, elsewhere, monkeypatch, selector):
    rows = pickle.loads(pickle.dumps(Catalog().rows(selector)))
    monkeypatch.chdir(elsewhere)
    np.testing.assert_array_equal(rows.read(0, 4, decode=True), X)


@pytest.mark.parametrize("make", [str, lambda name: LocalStore(name, read_only=True)])
def test_a_data_set_by_a_relative_path_is_the_same_elsewhere(here, elsewhere, monkeypatch, make):
    split, tree = open_split(make("d.zarr"), "train"), open_dataset(make("d.zarr"))
    monkeypatch.chdir(elsewhere)
    np.testing.assert_array_equal(split.x[:], X)
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(tree["train"]["x"].values, X)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("path", ["", "a/b"])
def test_a_users_array_is_opened_again_by_its_whole_path(
    here, elsewhere, monkeypatch, zarr_format, path
):
    mine = zarr.create_array(
        LocalStore("mine.zarr"), name=path, shape=X.shape, dtype="f8", zarr_format=zarr_format
    )
    mine[:] = X
    again = absolute(mine)
    monkeypatch.chdir(elsewhere)
    np.testing.assert_array_equal(ZarrSource(again).read(0, 4), X)
    assert again.read_only
    assert absolute(again) is again
    with pytest.raises(DataSetError, match=r"relative path, and no array is at .*elsewhere"):
        absolute(mine)
    in_memory = zarr.create_array(MemoryStore(), shape=(3,), dtype="f8")
    assert absolute(in_memory) is in_memory


# ---- missing ----


@pytest.fixture
def chunked(here):
    """A data set of three chunks, the last two rows long."""
    n_rows = 3 * 4096 - 1
    np.save("big.npy", np.ones((n_rows, 256), np.float32))
    import_dataset("big.npy", "big.zarr")
    assert open_split("big.zarr", "train").x.chunks == (4096, 256)
    return here / "big.zarr"


@pytest.mark.slow
def test_a_missing_chunk_is_refused_where_it_is_read(chunked):
    (chunked / "train/x/c/1/0").unlink()
    rows = Catalog().rows("big.zarr::train")
    np.testing.assert_array_equal(rows.read(0, 4096, decode=True), 1)
    np.testing.assert_array_equal(rows.read(8192, rows.n_rows, decode=True), 1)
    for start, stop in ((4095, 4097), (8191, 8192), (0, rows.n_rows)):
        with pytest.raises(DataSetError, match=r"big\.zarr/train/x: chunk c/1/0 is missing; the "):
            rows.read(start, stop, decode=True)


def test_a_missing_label_is_refused(here):
    np.savez("l.npz", train=X, train_label=np.arange(4))
    import_dataset("l.npz", "l.zarr")
    (here / "l.zarr/train/label/c/0").unlink()
    with pytest.raises(DataSetError, match=r"l\.zarr/train/label: chunk c/0 is missing"):
        Catalog().rows("l.zarr::train").coordinates()


def test_opening_for_xarray_refuses_a_missing_chunk(chunked):
    (chunked / "train/x/c/2/0").unlink()
    with pytest.raises(DataSetError, match=r"big\.zarr/train/x: chunk c/2/0 is missing"):
        open_dataset("big.zarr")


@pytest.mark.parametrize("complete", [False, True])
def test_a_missing_chunk_elsewhere_than_in_a_folder(complete):
    array = zarr.create_array(
        MemoryStore(), name="a", shape=(4, 3), chunks=(2, 3), dtype="f8", fill_value=7
    )
    array[:2] = X[:2]
    source = ZarrSource(array, complete=complete)
    np.testing.assert_array_equal(source.read(0, 2), X[:2])
    if not complete:  # nobody wrote it: the fill value is what it holds
        with pytest.warns(UserWarning, match="1 chunk is not in the store"):
            np.testing.assert_array_equal(source.read(2, 4), 7)
        return
    with pytest.raises(DataSetError, match=r"memory://.*/a: chunk c/1/0 is missing"):
        source.read(1, 3)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_that_vanished_is_not_zeros(here, zarr_format):
    array = zarr.create_array(
        here / "mine.zarr", shape=X.shape, dtype="f8", zarr_format=zarr_format
    )
    source = ZarrSource(array)
    with pytest.warns(UserWarning, match="read as the fill value"):
        np.testing.assert_array_equal(source.read(0, 4), 0)
    shutil.rmtree(here / "mine.zarr")
    with pytest.raises(DataSetError, match=r"mine\.zarr: .*(removed after|could not be read)"):
        source.read(0, 4)


# ---- damaged ----


def test_a_damaged_chunk_names_store_split_and_rows(here):
    chunk = here / "d.zarr/train/x/c/0/0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(DataSetError, match=r"d\.zarr/train/x: rows 1 to 3 .*checksum") as caught:
        Catalog().rows("d.zarr::train").read(1, 3, decode=True)
    assert "\n" not in str(caught.value)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("change", ["shorter", "wider", "another dtype", "cut", "text", "gone"])
def test_an_npy_that_changed_is_named(here, change):
    source = NpySource.open(here / "x.npy")
    whole = (here / "x.npy").read_bytes()
    changed = {"shorter": X[:2], "wider": np.ones((4, 5)), "another dtype": X.astype("f4")}
    if change in changed:
        np.save("x.npy", changed[change])
    elif change == "gone":
        (here / "x.npy").unlink()
    else:
        (here / "x.npy").write_bytes(whole[:-8] if change == "cut" else b"hello")
    with pytest.raises(DataSetError, match=r"/x\.npy: (was float64|rows 0 to 4)") as caught:
        source.read(0, 4)
    assert "\n" not in str(caught.value)


def test_running_out_of_memory_is_no_damage(here, monkeypatch):
    def full(*arguments, **keywords):
        raise MemoryError

    monkeypatch.setattr(np, "load", full)
    with pytest.raises(MemoryError):
        NpySource(here / "x.npy", (4, 3), np.dtype("f8")).read(0, 4)
