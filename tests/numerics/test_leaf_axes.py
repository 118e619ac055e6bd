"""Boxes along leading axes hold their rows, and no pair is nearer than they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dkde.numerics import leaf_axes
from dkde.numerics.distances import GROUP, LEAF
from dkde.numerics.leaf_axes import MAX_BOX, LeafAxes
from dkde.numerics.tree import QUERY_LEAF, make_query, make_tree

Number = np.longdouble


@st.composite
def tables(draw):
    """Query and training rows of many features, and some rows to find axes by."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d, n = draw(st.sampled_from([17, 24, 40])), draw(st.sampled_from([1, 5, 130, 300]))
    values = rng.normal(size=(n + 70, d)) * 10.0 ** rng.uniform(-3, 0, d)
    kind = draw(st.sampled_from(["any", "few directions", "equal", "far", "whole numbers"]))
    if kind == "few directions":
        values = values[:, :3] @ rng.normal(size=(3, d))
    elif kind == "equal":
        values[:] = values[0]
    elif kind == "far":
        values[rng.integers(len(values))] = 1e150
    elif kind == "whole numbers":
        values = np.rint(100 * values)
    scale = 10.0 ** draw(st.sampled_from([-100, 0, 100])) if kind != "far" else 1.0
    values = (values + draw(st.sampled_from([0.0, 1.0, 1e6, 1e12]))) * scale
    sample = values[:: draw(st.sampled_from([1, 7, 1000]))]
    return values[:70], values[70:], sample


def gaps(low, high, box_low, box_high):
    """Squared distances of boxes (n, m), in extended precision."""
    low, high = (each.astype(Number)[:, None] for each in (low, high))
    apart = np.maximum(box_low.astype(Number) - high, low - box_high.astype(Number))
    return (np.maximum(apart, 0) ** 2).sum(axis=2)


@given(tables())
@settings(max_examples=40, deadline=None)
def test_no_pair_of_rows_is_nearer_than_its_boxes(table):
    values, train, sample = table
    axes = LeafAxes.of(sample)
    tree, query = make_tree(train, axes=axes), make_query(values, axes=axes)
    away = values[query.order].astype(Number)[:, None] - train[tree.order].astype(Number)
    squared = (away**2).sum(axis=2)
    for low, high, size in (
        (query.low, query.high, QUERY_LEAF), (query.group_low, query.group_high, GROUP)
    ):  # fmt: skip
        bounds = gaps(low, high, tree.low, tree.high)
        for i in range(len(low)):
            for k in range(len(tree.first)):
                mine = slice(tree.first[k] * LEAF, (tree.first[k] + tree.count[k]) * LEAF)
                assert bounds[i, k] <= squared[i * size : (i + 1) * size, mine].min()


@given(tables())
@settings(max_examples=40, deadline=None)
def test_boxes_hold_rows_and_are_hardly_wider(table):
    _, train, sample = table
    axes = LeafAxes.of(sample)
    tree = make_tree(train, axes=axes)
    placed = train[tree.order][:, axes.columns]
    seen = placed.astype(Number) - axes.origin
    true = seen @ axes.directions.T.astype(Number)
    assert tree.low.shape == (len(tree.first), MAX_BOX)
    for k in range(len(tree.first)):
        mine = slice(tree.first[k] * LEAF, (tree.first[k] + tree.count[k]) * LEAF)
        low, high = true[mine].min(axis=0), true[mine].max(axis=0)
        slack = 1e-13 * np.abs(seen[mine]).max() * train.shape[1] + 3e-300
        assert (tree.low[k] <= low).all()
        assert (tree.low[k] >= low - slack).all()
        assert (tree.high[k] >= high).all()
        assert (tree.high[k] <= high + slack).all()


@given(tables())
@settings(max_examples=40, deadline=None)
def test_columns_are_in_the_order_of_the_axes(table):
    values, train, sample = table
    axes = LeafAxes.of(sample)
    d = train.shape[1]
    assert sorted(axes.columns) == list(range(d))
    tree, query = make_tree(train, axes=axes), make_query(values, axes=axes)
    width = d
    placed = tree.tiles.reshape(-1, width, LEAF).transpose(0, 2, 1).reshape(-1, width)
    np.testing.assert_array_equal(placed[: len(train), :d], train[tree.order][:, axes.columns])
    assert np.isposinf(placed[len(train) :, :d]).all()
    np.testing.assert_array_equal(query.rows[:70, :d], values[query.order][:, axes.columns])


@pytest.mark.parametrize("d", [17, 64, 96])
def test_no_vector_is_longer_along_the_axes(d):
    rng = np.random.default_rng(d)
    longest = Number(0)
    for _ in range(20):
        axes = LeafAxes.of(rng.normal(size=(300, d)))
        directions = axes.directions.astype(Number)
        # Vectors in their span are as long along them as they are, but for rounding.
        vectors = rng.normal(size=(50, MAX_BOX)) @ axes.directions
        lengths = (vectors.astype(Number) ** 2).sum(axis=1)
        longest = max(longest, (((vectors @ directions.T) ** 2).sum(axis=1) / lengths).max())
    assert 1 - 1e-12 < longest < 1


def test_columns_that_vary_most_come_first_and_few_need_no_axes():
    rng = np.random.default_rng(0)
    spread = rng.permutation(20) + 1.0
    sample = rng.normal(size=(5000, 20)) * spread * 3.0 ** np.arange(20) + 1e8
    axes = LeafAxes.of(sample)
    variances = sample.var(axis=0)[axes.columns]
    assert (np.diff(variances) < 0).all()
    assert LeafAxes.of(sample[:, :MAX_BOX]) is None
    assert LeafAxes.of(np.full((3, 20), np.nan)) is not None


def test_other_metrics_have_boxes_along_the_features():
    values = np.random.default_rng(0).normal(size=(300, 20))
    axes = LeafAxes.of(values, euclidean=False)
    tree = make_tree(values, axes=axes)
    ordered = values[:, axes.columns]
    np.testing.assert_array_equal(tree.low[0], ordered.min(axis=0))
    np.testing.assert_array_equal(tree.high[0], ordered.max(axis=0))


def test_rows_of_few_directions_have_small_boxes():
    # Axes that are no principal ones would say little.
    rng = np.random.default_rng(0)
    values = rng.normal(size=(LEAF * 64, 2)) @ np.linalg.qr(rng.normal(size=(40, 2)))[0].T
    tree = make_tree(values, axes=LeafAxes.of(values[::100]))
    sides = np.sort((tree.high - tree.low)[tree.count == 1], axis=1)
    assert np.median(sides[:, -1]) < 1.5
    assert sides[:, :-2].max() < 1e-12
    assert leaf_axes.MAX_BOX == 16
