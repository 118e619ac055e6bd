"""Axes of tensor grids, as rows have them."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import operand
from dkde.numerics.linear import Product, Scaling
from dkde.rows.grid import GridAxes, axes_of
from dkde.rows.side import Rows


def rows_of(dataset: xr.Dataset, *features: str) -> Rows:
    return operand(dataset, "query", Catalog(features=list(features))).rows


def axes(**sides: Any) -> xr.Dataset:
    return xr.Dataset(coords={name: (name, np.asarray(values)) for name, values in sides.items()})


def points(found: GridAxes) -> np.ndarray:
    grid = np.meshgrid(*found.lines, indexing="ij")
    return np.stack([found.as_rows(values) for values in grid], axis=1)


def assert_same(rows: Rows, origin: Any = None) -> GridAxes:
    found = axes_of(rows, origin)
    assert found is not None
    expected = np.asarray(rows.read(0, rows.n_rows, decode=True, origin=origin), np.float64)
    assert points(found).tobytes() == expected.tobytes()
    assert found.n_rows == rows.n_rows
    assert all((np.diff(lines) >= 0).all() for lines in found.lines)
    return found


@settings(max_examples=40)
@given(d=st.integers(2, 3), seed=st.integers(0, 2**32 - 1))
def test_axes_give_the_rows_to_the_bit(d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    names = ["x", "y", "z"][:d]
    dtypes = random.choice(["f8", "f4", "i4", "i8"], d)
    sides = {
        name: (100 * random.standard_normal(random.integers(1, 6))).astype(dtype)
        for name, dtype in zip(names, dtypes, strict=True)
    }
    dataset = axes(**sides)
    features = [*random.permutation(names)]
    rows = rows_of(dataset, *features)
    found = assert_same(rows)
    for linear in (Scaling(d, np.arange(d), random.uniform(0.5, 2, d)),):
        assert_same(rows.mapped(linear), None)
        assert_same(rows.mapped(linear), random.standard_normal(d))
    n, inner = found.sizes[0], found.inner
    first, last = sorted(random.integers(0, n + 1, 2) * inner)
    if first < last:
        whole = rows.read(first, last, decode=True)
        assert points(found.part(first, last)) == pytest.approx(np.asarray(whole, float), abs=0)
        assert_same(rows[first:last])
    if inner > 1:
        with pytest.raises(ValueError, match="not whole"):
            found.part(1, 1 + inner)
        assert axes_of(rows[1 : 1 + inner]) is None


def test_values_at_descending_axes_come_back_in_the_order_of_rows() -> None:
    dataset = axes(lat=[50.0, 40.0, 30.0], lon=[3.0, -1.0])
    found = assert_same(rows_of(dataset, "lon", "lat"))
    assert found.lines[0].tolist() == [-1, 3]
    assert found.lines[1].tolist() == [30, 40, 50]
    assert found.sizes in {(3, 2), (2, 3)}


def test_coordinates_along_dims_of_other_names_and_times() -> None:
    hours = np.arange(3) * np.timedelta64(1, "h")
    dataset = xr.Dataset(
        coords={
            "when": ("t", np.datetime64("2020-01-01", "ns") + hours),
            "depth": ("level", np.array([0, 50, 20, 10], np.int16)),
            "t": np.arange(3),
            "level": np.arange(4),
        }
    )
    with pytest.warns(UserWarning, match="when is taken as days"):
        rows = rows_of(dataset, "when", "depth")
    assert_same(rows)


def test_a_feature_of_one_value_is_an_axis_of_one_line() -> None:
    dataset = xr.Dataset(coords={"x": [3.0, 2.0], "y": [0.0, 1.0, 5.0], "depth": 10.0})
    for features in (["x", "y", "depth"], ["depth", "y", "x"], ["depth", "x"]):
        found = assert_same(rows_of(dataset, *features))
        assert [len(lines) for lines in found.lines] == [
            {"x": 2, "y": 3, "depth": 1}[name] for name in features
        ]
    assert_same(rows_of(axes(x=[1.0], y=[0.0, 2.0]), "x", "y"))


MEASURED = {"x": [0, 1], "y": [0, 1]}
LAZY = xr.Dataset(coords={"a": ("x", [1.0, 2.0]), "b": ("y", [0.0, 2.0]), **MEASURED}).chunk()


@pytest.mark.parametrize(
    "dataset",
    [
        xr.Dataset(coords={"a": ("x", [1.0, 2.0]), "b": ("x", [0.0, 2.0])}),
        xr.Dataset(coords={"a": ("x", [1.0, 2.0]), "b": (("x", "y"), np.eye(2)), **MEASURED}),
        xr.Dataset(coords={"a": ("a", [1.0, 2.0])}),
        axes(a=[1, 2.0], b=[1, 2.0], c=[1, 2.0], d=[1, 2.0]),
        axes(a=[1.0, np.nan], b=[0.0, 2.0]),
        axes(a=[1.0, np.inf], b=[0.0, 2.0]),
        axes(a=[1, 2**53 + 1], b=[0, 2]),
        LAZY,
    ],
    ids=["points", "field", "one", "four", "missing", "infinite", "beyond 2**53", "lazy"],
)
def test_others_are_no_tensor_grid(dataset: xr.Dataset) -> None:
    features = [name for name in "abcd" if name in dataset.coords]
    assert axes_of(rows_of(dataset, *features)) is None


def test_maps_that_mix_or_drop_features_leave_no_axes() -> None:
    rows = rows_of(axes(x=[1.0, 2.0], y=[0.0, 2.0]), "x", "y")
    assert axes_of(rows.mapped(Product(np.array([[1.0, 0.5], [0.5, 1.0]])))) is None
    assert axes_of(rows.mapped(Scaling(2, np.array([1]), np.array([2.0])))) is None
    assert axes_of(Rows(rows.parts * 2)) is None
    assert axes_of(operand(np.eye(3), "query", Catalog()).rows) is None
