"""What is left out of a tile could not have mattered, and what is kept is exact."""

from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st

from dkde.numerics import near as near_module
from dkde.numerics.axes import Projected, leading_axes
from dkde.numerics.frame import Frame, Points, reference_row
from dkde.numerics.kernels import KERNELS, get_kernel
from dkde.numerics.near import Near

SHARE = 1e-10


def clusters(rng: Any, rows: int, d: int, spread: float, scale: float, offset: float) -> Any:
    """Rows about three centres, most of their length along few directions."""
    centres = spread * rng.standard_normal((3, d))
    lengths = np.geomspace(1, 1e-3, d)
    rows_at = centres[rng.integers(3, size=rows)] + lengths * rng.standard_normal((rows, d))
    return scale * rows_at + offset


@st.composite
def sides(draw: Any) -> tuple[Any, Any, Frame]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d = draw(st.integers(1, 40))
    spread = draw(st.sampled_from([0.0, 1.0, 1e6]))
    scale = draw(st.sampled_from([1.0, 1e-30, 1e30]))
    offset = scale * draw(st.sampled_from([0.0, 1e6]))
    n_query, n_train = draw(st.integers(1, 40)), draw(st.integers(1, 200))
    values = clusters(rng, n_query + n_train, d, spread, scale, offset)
    if draw(st.booleans()):
        values = rng.integers(0, 256, values.shape, dtype=np.uint8)
    integer = values.dtype == np.uint8
    train = values[n_query:]
    return values[:n_query], train, Frame(reference_row(train, integer), 1.0, integer, "float64")


def projected(values: Any, frame: Frame, n_axes: int, of: Any) -> tuple[Points, Projected, Any]:
    points = Points.of(values, frame)
    axes = leading_axes(Points.of(of, frame).coordinates, n_axes)
    return points, Projected.of(points, axes), axes


def exact(query: Any, train: Any) -> Any:
    difference = query[:, None].astype(np.longdouble) - train[None].astype(np.longdouble)
    return (difference**2).sum(axis=2)


@settings(max_examples=few(300), deadline=None)
@given(sides=sides(), n_axes=st.integers(1, 50))
def test_no_bound_is_above_the_distance(sides: Any, n_axes: int) -> None:
    query, train, frame = sides
    _, q, axes = projected(query, frame, n_axes, train)
    _, t, _ = projected(train, frame, n_axes, train)
    products = q.coordinates @ t.coordinates.T
    bounds = 2 * (q.halves[:, None] + t.halves.astype(np.float32) - products)
    assert (bounds <= exact(query, train) * np.longdouble(axes.scale) ** 2).all()


@pytest.mark.slow
@settings(max_examples=few(300), deadline=None)
@given(
    sides=sides(),
    n_axes=st.integers(1, 50),
    name=st.sampled_from(sorted(KERNELS)),
    log_h=st.floats(-3, 3),
    weighted=st.booleans(),
)
def test_what_is_left_out_does_not_matter(
    sides: Any, n_axes: int, name: str, log_h: float, weighted: bool
) -> None:
    query, train, frame = sides
    points, _, axes = projected(query, frame, n_axes, train)
    others = Points.of(train, frame)
    d2 = exact(query, train)
    h = np.sqrt(np.median(d2) + np.longdouble(1e-300)) * np.array([4, 1]) * 10**log_h
    h = h.astype(np.float64)
    rng = np.random.default_rng(0)
    weights = rng.choice([0, 1e-6, 1, 3], len(train)) if weighted else np.ones(len(train))
    counts = weights > 0
    if not counts.any():
        return
    with mock.patch.object(near_module, "_FEW", 1.0):  # however many they are
        near = Near(get_kernel(name), axes, points, h**-2.0, SHARE, len(train))
        found, out = tile_of(near, others, weights)
    with np.errstate(divide="ignore"):
        kept = np.isfinite(out)
        np.testing.assert_array_equal(found, kept.sum(axis=1))
        assert not kept[:, ~counts].any()
        np.testing.assert_allclose(out[kept], d2[kept].astype(float), rtol=1e-13)
        for bandwidth in h:
            logs = log_kernel(name, d2 / np.longdouble(bandwidth) ** 2) + np.log(weights)
            inside, outside = (
                np.logaddexp.reduce(np.where(mask, logs, -np.inf), axis=1) for mask in (kept, ~kept)
            )
            assert (outside <= inside + np.log(SHARE)).all()


def log_kernel(name: str, u2: Any) -> Any:
    if "gaussian" in name:
        return -u2 / 2
    if name == "exponential":
        return -np.sqrt(u2)
    return np.where(u2 < 1, 0.0, -np.inf)  # whatever it is inside


@pytest.mark.parametrize("n_axes", [1, 5, 12, 20])
def test_axes_are_orthonormal_and_the_same_again(n_axes: int) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 12)) * np.geomspace(1e3, 1e-3, 12)
    axes = leading_axes(rows, n_axes)
    n = min(n_axes, 12)
    np.testing.assert_allclose(axes.directions.T @ axes.directions, np.eye(n), atol=1e-14)
    np.testing.assert_array_equal(axes.directions, leading_axes(rows, n_axes).directions)
    assert axes.is_complete == (n_axes >= 12)
    if n_axes == 5:
        kept = np.square(rows @ axes.directions).sum()
        best = np.sort(np.linalg.eigvalsh(rows.T @ rows))[-5:].sum()
        assert kept >= 0.999 * best


def test_leaves_out_most_of_what_is_far() -> None:
    rng = np.random.default_rng(0)
    train = rng.standard_normal((512, 100)) * np.geomspace(10, 0.01, 100)
    query = train[:256] + 0.01 * rng.standard_normal((256, 100))
    frame = Frame(np.zeros(100), 1.0, False, "float64")
    points, _, axes = projected(query, frame, 16, train)
    near = Near(get_kernel("gaussian"), axes, points, np.array([0.1**-2]), SHARE, 512)
    found, _ = tile_of(near, Points.of(train, frame), np.ones(512))
    assert found.min() >= 1
    assert found.mean() < 0.02 * 512


def test_a_tile_of_which_most_can_matter_is_left_to_the_product() -> None:
    rng = np.random.default_rng(0)
    train, query = rng.standard_normal((2, 100, 30))
    frame = Frame(np.zeros(30), 1.0, False, "float64")
    points, _, axes = projected(query, frame, 8, train)
    near = Near(get_kernel("gaussian"), axes, points, np.array([1.0]), SHARE, 100)
    assert tile_of(near, Points.of(train, frame), np.ones(100))[0] is None


def tile_of(near: Near, train: Points, weights: Any) -> tuple[Any, Any]:
    """How many pairs of each row are kept, and the distances that go on to be summed."""
    rows = len(near.query)
    d2 = np.full((rows, len(train)), np.inf)

    def accumulate(tile: Any, *_: Any) -> None:
        d2[:] = tile

    near.loop = SimpleNamespace(accumulate=accumulate)
    heaviest, lightest = weights.max(), weights[weights > 0].min()
    train = Points(train.values, train.coordinates, np.where(weights > 0, train.norms, np.inf))
    tile = near.tile(train, (weights / heaviest, heaviest, lightest, 1.0))
    nearest, sums = np.full(rows, np.inf), np.zeros((len(near.inverse), rows))
    return tile.add(slice(0, rows), None, nearest, sums), d2
