"""Selectors name the rows that users mean, or say what is wrong with them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from dkde.datasets.formats import load_split
from dkde.errors import DataSetError, InputError
from dkde.inputs import opening
from dkde.inputs.importing import import_dataset
from dkde.inputs.selectors import Catalog


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "digits.zarr"
    import_dataset("digits", path)
    return str(path)


def read(rows):
    return rows.read(0, rows.n_rows, decode=True)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("selector", "n_rows"),
    [("train", 1078), ("train[:10]", 10), ("train[-10:]", 10), ("valid+test[5:9]", 363)],
)
def test_splits_ranges_and_sums(store, selector, n_rows):
    assert Catalog(store).rows(selector).n_rows == n_rows


@pytest.mark.slow
def test_a_source_may_be_a_path(store):
    catalog = Catalog(Path(store))
    assert catalog.rows("train[:10]").n_rows == 10
    assert list(catalog.splits(Path(store))) == list(catalog.splits()) == ["train", "valid", "test"]


def test_columns_are_chosen_of_the_parts_that_are_selected(tmp_path):
    np.savetxt(tmp_path / "t.csv", np.eye(3), delimiter=",", header="a,b,c", comments="")
    import_dataset(tmp_path / "t.csv", tmp_path / "t.zarr")
    both = Catalog(tmp_path / "t.zarr", features=["c", "a"]).rows(f"train+{tmp_path / 't.csv'}")
    assert [part.features for part in both.parts] == [("c", "a")] * 2
    np.testing.assert_array_equal(read(both), np.tile(np.eye(3)[:, [2, 0]], (2, 1)))
    catalog = Catalog(tmp_path / "t.zarr", features=["z"])
    assert list(catalog.splits()) == ["train"]
    with pytest.raises(InputError, match="has no split 'dev'"):
        catalog.rows("dev")
    with pytest.raises(InputError, match="::train: has no feature 'z'; it has a, b, c"):
        catalog.rows("train")


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


@pytest.mark.sampled(3)
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
        ("train[-:]", "cannot be read"),
        ("train[:-]", "cannot be read"),
        ("train[\u0661:]", "cannot be read"),
        (f"train[:{'9' * 5000}]", "cannot be read"),
        ("x" * 5000, "has no split"),
        ("", "cannot be read"),
        (" ", "cannot be read"),
        ("digits::", "cannot be read"),
        ("digits:: ", "cannot be read"),
        ("::train", r"write \[SOURCE::\]SPLIT\[a:b\] or SPLIT\[label=7\], several joined by \+"),
        (" ::train", "cannot be read"),
        ("train+ +test", "cannot be read"),
        ("+train", "cannot be read"),
        ("train+", "cannot be read"),
        ("all[:5]", "all takes no range"),
    ],
)
def test_what_is_wrong_is_said(store, selector, message):
    with pytest.raises(InputError, match=message):
        Catalog(store).rows(selector)


@pytest.mark.parametrize(
    ("selector", "n_rows"),
    [
        ("train [:5]", 5),
        ("  train[ -5 : ] + test ", 365),
        ("digits :: valid [:3]", 3),
        ("train[:]", 1078),
    ],
)
def test_spaces_around_names_are_no_part_of_them(store, selector, n_rows):
    assert Catalog(store).rows(selector).n_rows == n_rows


@pytest.fixture
def odd(tmp_path, store, monkeypatch):
    """Names that hold what the grammar is made of; the rows of each are its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for first, name in enumerate(("a+b.npy", "a[1].npy", "e::f.npy", "g h.npy", "plain.npy")):
        np.save(name, 100.0 * first + np.arange(12.0).reshape(4, 3))
    np.savez("d+e.zarr.npz", train=np.zeros((2, 3)), test=np.full((3, 3), 7.0))
    import_dataset("d+e.zarr.npz", "d+e.zarr")
    import_dataset("d+e.zarr.npz", "s::t.zarr")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("selector", "values"),
    [
        ("a+b.npy", [0, 3, 6, 9]),
        ("a+b.npy[:2]", [0, 3]),
        ("a[1].npy[2:3]", [106]),
        ("a[1].npy", [100, 103, 106, 109]),
        ("e::f.npy [1:]", [203, 206, 209]),
        ("g h.npy[-1:]", [309]),
        ("d+e.zarr::test", [7, 7, 7]),
        ("d+e.zarr::test[:1]+train[:0]+a+b.npy[3:]", None),
        ("d+e.zarr::test[:1]+a+b.npy[3:]+plain.npy[:1]", [7, 9, 400]),
        ("s::t.zarr::train+s::t.zarr::test[1:2]", [0, 0, 7]),
        ("s::t.zarr::all", [0, 0, 7, 7, 7]),
        ("plain.npy[1:2] + a+b.npy [1:2]", [403, 3]),
        ("~/a+b.npy[1:2]", [3]),
        ("~/d+e.zarr::test[:1]", [7]),
        ("a+b.npy+a+b.npy", [0, 3, 6, 9, 0, 3, 6, 9]),
    ],
)
def test_names_may_hold_what_the_grammar_is_made_of(odd, selector, values):
    if values is None:
        with pytest.raises(InputError, match="no such file, and no data set"):
            Catalog().rows(selector)
    else:
        assert read(Catalog().rows(selector))[:, 0].tolist() == values


@pytest.mark.slow
def test_a_default_source_may_begin_at_home(odd):
    assert Catalog("~/d+e.zarr").rows("test").n_rows == 3


@pytest.mark.slow
def test_the_splits_of_the_data_set_come_before_files(odd, tmp_path, store):
    np.save("train", np.zeros((4, 3)))
    (tmp_path / "train.npy").rename("train")
    assert Catalog(store).rows("train").n_rows == 1078
    assert Catalog().rows("train").n_rows == 4


def test_only_the_selected_split_is_loaded_and_once(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", train=np.ones((5, 3)), test=np.zeros((2, 3)))
    loaded = []

    def load(split):
        loaded.append(split.name)
        return load_split(split)

    monkeypatch.setattr(opening, "load_split", load)
    monkeypatch.chdir(tmp_path)
    catalog = Catalog("x.npz")
    assert list(catalog.splits()) == ["train", "test"]
    assert "train" in catalog.splits()
    assert "dev" not in catalog.splits()
    with pytest.raises(InputError, match=r"has no split 'dev'.*it has train, test"):
        catalog.rows("dev")
    assert loaded == []
    monkeypatch.chdir("/")
    catalog.rows("test[:1]")
    catalog.rows("test[1:]")
    assert loaded == ["test"]
    catalog.rows("all")
    assert loaded == ["test", "train"]


@pytest.mark.parametrize(
    ("values", "value_range"),
    [
        (np.full((3, 2), np.nan), None),
        (np.array([[np.nan, 2.0], [np.inf, -1.0]]), (-1.0, 2.0)),
        (np.array([[True, False]]), (0.0, 1.0)),
    ],
)
def test_the_range_is_of_finite_values(tmp_path, values, value_range):
    np.save(tmp_path / "x.npy", values)
    np.savez(tmp_path / "x.npz", train=values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("x.npy", "x.npz"):
            (part,) = Catalog().rows(str(tmp_path / name)).parts
            assert part.value_range == value_range


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


@pytest.mark.parametrize(("units", "warns"), [
    (("m", "km", "km"), 1), (("m", None, "km"), 1), ((None, "m", "m"), 0),
    (("degrees", "degrees_north", "degree_north"), 0),
])  # fmt: skip
def test_sources_in_different_units_are_warned_of_once(tmp_path, monkeypatch, units, warns):
    monkeypatch.chdir(tmp_path)
    for number, unit in enumerate(units):
        lat = ("row", np.arange(3.0), {} if unit is None else {"units": unit})
        xr.Dataset({"lat": lat}).to_netcdf(f"{number}.nc")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        Catalog(None, features=["lat"]).rows("0.nc+1.nc+2.nc")
    assert len(said) == warns
    for each in said:
        assert f"{units.index('km')}.nc: lat is in km, and in 0.nc in m" in str(each.message)
