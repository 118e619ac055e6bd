"""Moments of nodes in blocks: made where they are worth it, counted in the plan, right in maps."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
import xarray as xr

import dkde
from dkde.engine import block_plan, leaf_blocks, leaves
from dkde.numerics.node_moments import has_moments, make_moments, n_moments
from dkde.numerics.tree import make_tree

Array = npt.NDArray[Any]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("power", "d"), [(0, 1), (1, 2), (1, 6), (3, 3)])
def test_moments_take_what_the_plan_counts(power: int, d: int) -> None:
    assert has_moments(power, d)
    tree = make_tree(np.random.default_rng(0).normal(size=(20_000, d)))
    moments = make_moments(tree, power, bandwidth=100.0)
    side = block_plan.SideSize(rows=20_000, itemsize=8, read_rows=20_000, decoded_itemsize=8)
    sizes = [
        block_plan.make_plan(
            side, side, n_features=d, n_bandwidths=1, in_leaves=True, node_moments=each
        ).resident_bytes
        for each in (0, n_moments(power, d))
    ]
    assert 0.99 * moments.nbytes <= sizes[1] - sizes[0] <= 1.3 * moments.nbytes + 20_000


@pytest.mark.slow
def test_a_map_of_few_rows_is_right_and_few_queries_take_no_moments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def counted(*given: Any, **options: Any) -> Any:
        made.append(options["power"])
        return make_moments(*given, **options)

    monkeypatch.setattr(leaves, "make_moments", counted)
    train = np.random.default_rng(0).normal(size=(1500, 2))
    lines = np.linspace(-2, 2, 9), np.linspace(-1, 1, 7)
    cells = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = xr.Dataset(coords={"x": lines[0], "y": lines[1]}).reset_coords()
    source = dkde.Catalog(features=["x", "y"])
    for kernel in ("epanechnikov", "biweight"):
        found = np.asarray(dkde.log_density(grid, train, 2.5, kernel=kernel, source=source))
        expected = reference.log_density(cells, train, [2.5], kernel=kernel)[0]
        np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=1e-9)
    assert made == [1, 2]
    monkeypatch.setattr(leaf_blocks, "_MOMENTS", 1)
    dkde.log_density(cells, train, 2.5, kernel="epanechnikov")
    assert made == [1, 2]


@pytest.mark.slow
def test_rows_of_many_features_have_no_moments() -> None:
    # Their boxes lie along other axes: a node may seem inside a support that it is not inside.
    rng = np.random.default_rng(0)
    train = rng.normal(size=(9000, 20)) * np.linspace(1, 0.9, 20)
    query = train[:300:10] + 0.1
    for h in (4.0, 7.0, 30.0):
        found = dkde.log_density(np.repeat(query, 10, axis=0), train, h, kernel="epanechnikov")
        expected = reference.log_density(query[:3], train, [h], kernel="epanechnikov")[0]
        np.testing.assert_allclose(found[:30:10], expected, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_pairs_of_rows_that_are_summed_again_count_once() -> None:
    rng = np.random.default_rng(3)
    train, query = rng.normal(size=(100, 3)), rng.normal(size=(256, 3))
    bandwidths = np.array([5.83, 1e-3])
    found = dkde.score(query, train, bandwidths, kernel="triweight", tol=1e-12)
    assert found.pairs_evaluated.max() <= len(train)
