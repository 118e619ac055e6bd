"""Columns by name, whatever the rows are: some of them, in whatever order, in whatever units."""

import re

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from reference import log_density

import dkde
from dkde.rows.column_steps import Picking
from dkde.rows.row_source import Derived
from dkde.rows.sources import ArraySource

RNG = np.random.default_rng(5)
TRAIN, QUERY = RNG.normal(size=(60, 3)), RNG.normal(size=(20, 3))
NAMES = ["east", "north", "depth"]
H = 0.7


def frame(values, names=NAMES):
    return pd.DataFrame(values, columns=names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same points as a table, as a data set, and without names."""
    folder = tmp_path_factory.mktemp("points")
    for name, values in (("train", TRAIN), ("query", QUERY)):
        frame(values).to_csv(folder / f"{name}.csv", index=False)
        dkde.import_dataset(folder / f"{name}.csv", folder / f"{name}.zarr")
    np.save(folder / "train.npy", TRAIN)
    return folder


def expected(*columns):
    chosen = list(columns)
    return log_density(QUERY[:, chosen], TRAIN[:, chosen], [H])[0]


class TestChosen:
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("kind", ["{}.csv", "{}.zarr::train"])
    @pytest.mark.parametrize("names", [["east"], ["depth", "east"], NAMES])
    def test_of_files_and_data_sets(self, folder, kind, names):
        query, train = (str(folder / kind.format(name)) for name in ("query", "train"))
        found = dkde.log_density(query, train, H, source=dkde.Catalog(features=names))
        np.testing.assert_allclose(found, expected(*map(NAMES.index, names)), rtol=1e-9)

    def test_of_an_opened_split(self, folder):
        query, train = (
            dkde.open_dataset(folder / f"{n}.zarr")["train"] for n in ("query", "train")
        )
        found = dkde.log_density(query, train, H, source=dkde.Catalog(features=["north"]))
        np.testing.assert_allclose(found, expected(1), rtol=1e-9)

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ("train.zarr::train", "has no feature 'salt'; it has east, north, depth"),
            ("train.csv", "has no column 'salt'; it has east, north, depth"),
            ("train.npy", "its 3 features have no names, and cannot be chosen by salt"),
        ],
    )
    def test_what_is_not_there(self, folder, data, words):
        with pytest.raises(dkde.InputError, match=words):
            dkde.log_density(QUERY, str(folder / data), H, source=dkde.Catalog(features=["salt"]))

    @pytest.mark.parametrize("kind", ["frame", "dataarray"])
    def test_of_what_is_in_memory(self, kind):
        query, train = (
            frame(values)
            if kind == "frame"
            else xr.DataArray(values, dims=("sample", "feature"), coords={"feature": NAMES})
            for values in (QUERY, TRAIN)
        )
        catalog = dkde.Catalog(features=["depth", "east"])
        found = dkde.log_density(query, train, H, source=catalog)
        np.testing.assert_allclose(found, expected(2, 0), rtol=1e-9)

    def test_of_a_frame_that_holds_text_beside_them(self):
        query, train = (frame(v).assign(station="a") for v in (QUERY, TRAIN))
        catalog = dkde.Catalog(features=["depth", "east"])
        found = dkde.log_density(query, train, H, source=catalog)
        np.testing.assert_allclose(found, expected(2, 0), rtol=1e-9)

    def test_they_are_the_names_of_columns_that_have_none(self, folder):
        train = f"{folder}/train.csv+{folder}/train.npy"
        found = dkde.log_density(QUERY, train, H, source=dkde.Catalog(features=NAMES))
        both = np.concatenate([TRAIN, TRAIN])
        np.testing.assert_allclose(found, log_density(QUERY, both, [H])[0], rtol=1e-9)

    def test_rows_without_names_are_taken_where_there_are_as_many(self, folder):
        np.save(folder / "two.npy", QUERY[:, [2, 0]])
        catalog = dkde.Catalog(features=["depth", "east"])
        for query in (QUERY[:, [2, 0]], str(folder / "two.npy")):
            found = dkde.log_density(query, str(folder / "train.csv"), H, source=catalog)
            np.testing.assert_allclose(found, expected(2, 0), rtol=1e-9)

    def test_pictures_have_no_names(self):
        with pytest.raises(dkde.InputError, match="its 64 features have no names"):
            dkde.score("test", "train", H, source=dkde.Catalog("digits", features=["east"]))

    def test_an_output_goes_on_with_the_same_columns_alone(self, folder, tmp_path):
        sides = str(folder / "query.zarr::train"), str(folder / "train.zarr::train")
        output = tmp_path / "r.zarr"
        dkde.score(*sides, H, source=dkde.Catalog(features=["east"]), output=output)
        with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
            dkde.score(*sides, H, source=dkde.Catalog(features=["north"]), output=output)

    def test_lazy_results_of_other_columns_have_other_names(self, folder):
        sides = str(folder / "query.zarr::train"), str(folder / "train.zarr::train")
        a, b, again = (
            dkde.log_density(*sides, H, source=dkde.Catalog(features=[name])).data.name
            for name in ("east", "north", "east")
        )
        assert a != b
        assert a == again


class TestWeights:
    """By the name of a column that is no feature, or is one."""

    @pytest.mark.parametrize("kind", ["{}.csv", "{}.zarr::train"])
    def test_of_a_column(self, folder, tmp_path, kind):
        weighted = frame(np.abs(TRAIN))
        weighted.to_csv(tmp_path / "w.csv", index=False)
        dkde.import_dataset(tmp_path / "w.csv", tmp_path / "w.zarr")
        catalog = dkde.Catalog(features=["east", "north"])
        query, train = QUERY[:, :2], str(tmp_path / kind.format("w"))
        for name, column in (("depth", 2), ("north", 1)):
            found = dkde.log_density(query, train, H, weights=name, source=catalog)
            rows = np.abs(TRAIN)
            exact = log_density(query, rows[:, :2], [H], weights=rows[:, column])[0]
            np.testing.assert_allclose(found, exact, rtol=1e-9)

    @pytest.mark.parametrize("kind", ["{}.csv", "{}.zarr::train"])
    def test_of_none(self, folder, kind):
        train = str(folder / kind.format("train"))
        with pytest.raises(dkde.InputError, match=r"has no .* 'mass'.*it has .*east, north"):
            dkde.log_density(QUERY, train, H, weights="mass")


class TestOrder:
    def test_of_parts(self, folder, tmp_path):
        frame(QUERY)[NAMES[::-1]].to_csv(tmp_path / "turned.csv", index=False)
        train = f"{folder}/train.csv+{tmp_path}/turned.csv"
        found = dkde.log_density(QUERY, train, H)
        both = np.concatenate([TRAIN, QUERY])
        np.testing.assert_allclose(found, log_density(QUERY, both, [H])[0], rtol=1e-9)

    def test_of_parts_with_other_names(self, folder, tmp_path):
        frame(QUERY, ["east", "north", "height"]).to_csv(tmp_path / "other.csv", index=False)
        with pytest.raises(dkde.InputError, match=re.escape("other.csv east, north, height")):
            dkde.log_density(QUERY, f"{folder}/train.csv+{tmp_path}/other.csv", H)

    def test_of_parts_with_and_without_names_cannot_be_told(self, folder):
        for selector in (
            f"{folder}/train.csv+{folder}/train.npy",
            f"{folder}/train.npy+{folder}/train.csv",
        ):
            with pytest.raises(
                dkde.InputError, match=r"train.csv have names and .*train.npy have none"
            ):
                dkde.log_density(QUERY, selector, H)

    def test_of_a_split_that_was_reordered(self, folder):
        split = dkde.open_dataset(folder / "train.zarr")["train"].to_dataset()
        turned = split.isel(feature=[2, 0, 1])
        found = dkde.log_density(QUERY[:, [2, 0, 1]], turned, H)
        np.testing.assert_allclose(found, expected(0, 1, 2), rtol=1e-9)

    def test_names_that_are_there_twice_are_none(self):
        twice = frame(TRAIN[:, :2], ["a", "a"])
        found = dkde.log_density(frame(QUERY[:, :2], ["a", "b"]), twice, H)
        np.testing.assert_allclose(found, expected(0, 1), rtol=1e-9)

    @pytest.mark.parametrize("kind", ["frame", "dataarray", "dataset", "file"])
    def test_of_the_two_sides(self, folder, tmp_path, kind):
        turned = frame(QUERY)[["depth", "east", "north"]].assign(station=1.0)
        turned.to_csv(tmp_path / "turned.csv", index=False)
        query = {
            "frame": turned,
            "dataarray": xr.DataArray(
                turned, dims=("sample", "feature"), coords={"feature": list(turned)}
            ),
            "dataset": turned.to_xarray(),
            "file": str(tmp_path / "turned.csv"),
        }[kind]
        for train in (frame(TRAIN), str(folder / "train.zarr::train")):
            with pytest.warns(UserWarning, match=r"left out: station \(train has no such feature"):
                found = dkde.log_density(query, train, H)
            np.testing.assert_allclose(found, expected(0, 1, 2), rtol=1e-9)

    def test_rows_without_names_are_taken_as_they_are(self, folder):
        for query in (QUERY, da.from_array(QUERY, chunks=7)):
            found = dkde.log_density(query, str(folder / "train.csv"), H)
            np.testing.assert_allclose(found, expected(0, 1, 2), rtol=1e-9)


class TestUnits:
    @staticmethod
    def dataset(units):
        return xr.Dataset(
            {n: ("o", TRAIN[:, 0], {"units": u}) for n, u in zip(("x", "y"), units, strict=True)}
        )

    def test_unlike_ones_are_told(self):
        with pytest.warns(UserWarning, match=r"y is in m in train and in km in query"):
            dkde.log_density(self.dataset(["s", "km"]), self.dataset(["s", "m"]), H)

    def test_spellings_of_degrees_are_one(self):
        a, b = (self.dataset(units) for units in (["degrees_east", "m"], ["degreeE", "m"]))
        dkde.log_density(a, b, H)  # no warning, which would be an error here

    def test_those_of_the_training_rows_are_taken_over(self):
        places = np.abs(QUERY[:, :2]) * 20
        units = {"n": {"units": "degrees_north"}, "e": {"units": "degrees_east"}}
        train = xr.Dataset({k: ("o", places[:, i], units[k]) for i, k in enumerate("ne")})
        bare = train.map(lambda variable: variable.drop_attrs())
        call = {"bandwidth": 0.2, "kernel": "vonmises_fisher"}
        exact = dkde.log_density(train, train, **call)
        for query in (bare, frame(places, ["n", "e"]), frame(places[:, ::-1], ["e", "n"])):
            np.testing.assert_allclose(dkde.log_density(query, train, **call), exact, rtol=1e-12)


def test_a_lone_matrix_called_x_is_rows_and_features():
    train, query = (xr.Dataset({"x": (("sample", "pixel"), v)}) for v in (TRAIN, QUERY))
    with pytest.warns(UserWarning, match="rows lie along sample, and features along pixel"):
        found = dkde.log_density(query, train, H)
    np.testing.assert_allclose(found, expected(0, 1, 2), rtol=1e-9)


def test_a_matrix_called_x_among_others_is_a_variable():
    values = {"x": (("time", "station"), TRAIN), "y": ("time", TRAIN[:, 0])}
    points = xr.Dataset(values)
    with pytest.raises(dkde.InputError, match=r'row_dim=\["time", "station"\]'):
        dkde.log_density(points, points, H)
    grid = points.assign_coords(time=np.arange(60), station=np.arange(3))
    assert dkde.log_density(grid, grid, H).dims == ("time", "station")
    labelled = points.drop_vars("y").assign(label=("time", np.arange(60) % 3))
    with pytest.warns(UserWarning, match="rows lie along time, and features along station"):
        assert dkde.log_density(labelled, labelled, H).dims == ("time",)


def test_some_columns_are_read_and_counted():
    source = Derived(ArraySource(TRAIN), Picking((2, 0)))
    np.testing.assert_array_equal(source.read(5, 9), TRAIN[5:9][:, [2, 0]])
    assert source.shape == (60, 2)
    assert source.copies == 2  # all three columns, while two are taken of them
