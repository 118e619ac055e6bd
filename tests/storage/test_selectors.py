"""Selectors name the rows that users mean, or say what is wrong with them."""

import numpy as np
import pytest

from dkde.errors import DataSetError, InputError
from dkde.storage.importing import import_dataset
from dkde.storage.selectors import Catalog


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "digits.zarr"
    import_dataset("digits", path)
    return str(path)


def read(rows):
    return rows.read(0, rows.n_rows, decode=True)


@pytest.mark.parametrize(
    ("selector", "n_rows"),
    [("train", 1078), ("train[:10]", 10), ("train[-10:]", 10), ("valid+test[5:9]", 363)],
)
def test_splits_ranges_and_sums(store, selector, n_rows):
    assert Catalog(store).rows(selector).n_rows == n_rows


def test_all_is_every_split_in_order(store):
    rows = Catalog(store).rows("all")
    apart = [read(Catalog(store).rows(name)) for name in ("train", "valid", "test")]
    np.testing.assert_array_equal(read(rows), np.concatenate(apart))


def test_a_source_is_named_before_colons(store):
    there = Catalog(None).rows(f"{store}::valid[3:5]")
    np.testing.assert_array_equal(read(there), read(Catalog(store).rows("valid[3:5]")))


def test_a_bare_file_is_its_only_split(tmp_path, store):
    np.save(tmp_path / "a+b.npy", np.arange(12.0).reshape(4, 3))
    rows = Catalog(store).rows(str(tmp_path / "a+b.npy"))
    np.testing.assert_array_equal(read(rows), np.arange(12.0).reshape(4, 3))
    np.save(tmp_path / "c.npy", np.arange(12.0).reshape(4, 3))
    assert Catalog(store).rows(f"{tmp_path / 'c.npy'}[1:3]").n_rows == 2


def test_a_file_of_several_splits_wants_one_named():
    with pytest.raises(InputError, match=r"digits: has several splits.*write digits::train"):
        Catalog(None).rows("digits")
    assert Catalog(None).rows("digits::test").n_rows == 360


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("train[:2000]", r"train\[:2000\] is out of range: it has 1078 rows"),
        ("train[-2000:]", "out of range"),
        ("train[5:5]", "holds no rows"),
        ("train[7:5]", "holds no rows"),
        ("trian", "has no split 'trian', nor is there such a file; it has train, valid, test"),
        ("train[3]", "cannot be read"),
        ("train[::2]", "cannot be read"),
        ("", "cannot be read"),
        ("train+", "cannot be read"),
        ("all[:5]", "all takes no range"),
    ],
)
def test_what_is_wrong_is_said(store, selector, message):
    with pytest.raises(InputError, match=message):
        Catalog(store).rows(selector)


def test_unlike_widths_do_not_join(tmp_path, store):
    np.save(tmp_path / "wide.npy", np.zeros((4, 65)))
    with pytest.raises(InputError, match=r"features differ: .*has 64.*has 65"):
        Catalog(store).rows(f"train+{tmp_path / 'wide.npy'}")


def test_a_missing_source(tmp_path):
    with pytest.raises(DataSetError, match="no such"):
        Catalog(None).rows(f"{tmp_path}/nothing.zarr::train")


def test_overlap_is_of_rows_not_of_names(store):
    catalog = Catalog(store)
    first, second, again = (
        catalog.rows(name).parts[0] for name in ("train[:10]", "train[10:20]", "train[9:11]")
    )
    assert not first.overlaps(second)
    assert first.overlaps(again)
    assert second.overlaps(again)
