"""Rows in leaves: each is there once, boxes hold them, and threads make no difference."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import borders

from dkde.numerics import tree as trees
from dkde.numerics.distances import GROUP, LEAF
from dkde.numerics.leaf_axes import LeafAxes
from dkde.numerics.leaf_order import PART
from dkde.numerics.tree import QUERY_LEAF, TreeRows, make_query, make_tree

N_FEATURES = (1, 2, 3, 4, 5, 8, 9, 16, 17, 40)
KINDS = ("normal", "equal", "lattice", "far", "line", "offset", "whole numbers", "sorted", "huge")


def rows_of(kind, n, d, rng):
    """Rows of a kind that trees find hard."""
    values = rng.normal(size=(n, d))
    if kind == "equal":
        return np.full((n, d), 0.1)
    if kind == "lattice":
        return rng.integers(0, 3, (n, d)).astype(float)
    if kind == "far":
        values[rng.integers(n)] = 1e150
    if kind == "line":
        return values[:, :1] * np.linspace(1, 2, d)
    if kind == "offset":
        return values + 1e9
    if kind == "whole numbers":
        return rng.integers(-100, 100, (n, d)).astype(np.int16)
    if kind == "sorted":
        return np.sort(values, axis=0)
    return values * 1e100 if kind == "huge" else values


@st.composite
def tables(draw):
    """Rows of any kind, around the sizes at which leaves and parts begin."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.sampled_from([1, 2, 4, 5, 63, 64, 65, 127, 128, 129, 256, 257, 300, 1000]))
    return rows_of(draw(st.sampled_from(KINDS)), n, draw(st.sampled_from(N_FEATURES)), rng), rng


def placed_rows(tree):
    """The tree's rows (places, n_features), read back from its tiles."""
    width = tree.n_features
    by_place = tree.tiles.reshape(-1, width, LEAF).transpose(0, 2, 1).reshape(-1, width)
    assert (by_place[:, tree.n_features :] == 0).all()
    return by_place[:, : tree.n_features]


def assert_nodes(tree):
    """Each node has the leaves of its two children, which have about half each."""
    assert (tree.first[0], tree.count[0]) == (0, tree.n_leaves)
    assert len(tree.first) == 2 * tree.n_leaves - 1
    for k in np.flatnonzero(tree.count > 1):
        left, right = k + 1, k + 2 * ((tree.count[k] + 1) // 2)
        assert tree.first[left] == tree.first[k]
        assert tree.first[right] == tree.first[left] + tree.count[left]
        assert tree.count[left] + tree.count[right] == tree.count[k]
        assert 0 <= tree.count[left] - tree.count[right] <= 1
    assert sorted(tree.first[tree.count == 1]) == list(range(tree.n_leaves))


def places_of(tree, k):
    """The places of a node's rows."""
    stop = (tree.first[k] + tree.count[k]) * LEAF
    return slice(tree.first[k] * LEAF, min(stop, tree.n_rows))


def along(values, axes):
    """Coordinates on a tree's axes, in extended precision."""
    seen = values.astype(np.longdouble)
    return (seen - axes.origin) @ axes.directions.T.astype(np.longdouble)


@given(tables())
@settings(max_examples=150)
def test_each_row_has_one_place_in_full_leaves(table):
    values, _ = table
    tree = make_tree(values)
    assert sorted(tree.order) == list(range(len(values)))
    np.testing.assert_array_equal(tree.order[tree.places], np.arange(len(values)))
    placed = placed_rows(tree)
    np.testing.assert_array_equal(placed[: len(values)], values[tree.order])
    assert len(placed) - len(values) < LEAF
    assert np.isposinf(placed[len(values) :]).all()
    assert tree.n_leaves == -(-len(values) // LEAF)
    assert_nodes(tree)


@given(tables())
@settings(max_examples=100)
def test_boxes_are_the_extreme_values_themselves(table):
    values, _ = table
    tree = make_tree(values)
    for k in range(len(tree.first)):
        mine = values[tree.order[places_of(tree, k)]]
        np.testing.assert_array_equal(tree.low[k], mine.min(axis=0))
        np.testing.assert_array_equal(tree.high[k], mine.max(axis=0))


@given(tables())
@settings(max_examples=100)
def test_query_rows_are_in_leaves_and_groups(table):
    values, _ = table
    query = make_query(values)
    n, d = values.shape
    assert sorted(query.order) == list(range(n))
    assert query.rows.shape == (-(-n // GROUP) * GROUP, d)
    np.testing.assert_array_equal(query.rows[:n, :d], values[query.order])
    np.testing.assert_array_equal(
        query.rows[n:, :d], values[query.order[-1:]].repeat(-n % GROUP, 0)
    )
    assert (query.rows[:, d:] == 0).all()
    for low, high, size in (
        (query.low, query.high, QUERY_LEAF), (query.group_low, query.group_high, GROUP)
    ):  # fmt: skip
        assert len(low) == -(-n // size)
        for k in range(len(low)):
            mine = query.rows[k * size : min((k + 1) * size, n), :d]
            np.testing.assert_array_equal(low[k], mine.min(axis=0))
            np.testing.assert_array_equal(high[k], mine.max(axis=0))


@given(tables())
def test_weights_codes_and_their_ranges_go_with_the_rows(table):
    values, rng = table
    n = len(values)
    weights, codes = rng.uniform(0.1, 3, n), rng.integers(0, 7, n).astype(np.int32)
    tree = make_tree(values, weights, codes, shift=-3)
    np.testing.assert_array_equal(tree.weights[:n], weights[tree.order])
    assert (tree.weights[n:] == 0).all()
    np.testing.assert_array_equal(tree.codes[:n], codes[tree.order])
    assert (tree.codes[n:] == -1).all()
    assert (tree.shift, tree.is_weighted) == (-3, True)
    assert tree.total == pytest.approx(float(weights.astype(np.longdouble).sum()), rel=1e-14)
    for k in range(len(tree.first)):
        mine = tree.order[places_of(tree, k)]
        assert tree.mass[k] == pytest.approx(weights[mine].sum(), rel=1e-14)
        assert (tree.code_low[k], tree.code_high[k]) == (codes[mine].min(), codes[mine].max())


def test_without_weights_the_mass_is_the_number_of_rows():
    tree = make_tree(np.arange(1000.0)[:, None])
    assert (tree.total, tree.is_weighted, len(tree.codes)) == (1000.0, False, 0)
    for k in range(len(tree.first)):
        places = places_of(tree, k)
        assert tree.mass[k] == places.stop - places.start


def bytes_of(made):
    return [each.tobytes() for each in vars(made).values() if isinstance(each, np.ndarray)]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 20])
def test_threads_and_ranges_make_no_difference(kind, d):
    rng = np.random.default_rng(3)
    values = rows_of(kind, 5000, d, rng)
    weights, codes = rng.uniform(1, 2, 5000), rng.integers(0, 9, 5000).astype(np.int32)
    axes = LeafAxes.of(values[::7])
    with mock.patch.object(trees, "PART", 512):  # many parts of few rows
        expected = bytes_of(make_tree(values, weights, codes, axes=axes))
        in_query = bytes_of(make_query(values, axes=axes))
        for n_threads in (1, 4):
            with ThreadPoolExecutor(n_threads) as pool:
                made = make_tree(values, weights, codes, axes=axes, pool=pool)
                assert bytes_of(made) == expected
                assert bytes_of(make_query(values, axes=axes, pool=pool)) == in_query
        for room in (0, 700, 5000, 20000):
            rows = TreeRows(d, room, axes)
            for start in range(0, 5000, 300):
                rows.add(values[start : start + 300])
            assert len(rows) == 5000
            assert bytes_of(rows.tree(weights, codes)) == expected
            assert len(rows) == 0


@given(tables(), st.data())
@settings(max_examples=50)
def test_parts_are_split_as_leaves_are(table, data):
    # Whether rows are moved or an index of them, each side has the rows on its side of the border.
    values, _ = table
    cuts = data.draw(borders(len(values)))
    rows = TreeRows(values.shape[1])
    with mock.patch.object(trees, "PART", 128):
        for a, b in pairwise(cuts):
            rows.add(values[a:b])
        tree = rows.tree()
    assert sorted(tree.order) == list(range(len(values)))
    np.testing.assert_array_equal(placed_rows(tree)[: len(values)], values[tree.order])
    for k in np.flatnonzero(tree.count > 1):
        left, right = k + 1, k + 2 * ((tree.count[k] + 1) // 2)
        # Rows are apart on one axis at least; those on the border may be on either side.
        assert (tree.high[left] <= tree.low[right]).any()


def test_leaves_of_rows_in_the_plane_are_small():
    # A tree that splits along one axis only, or by the wrong values, has larger boxes.
    values = np.random.default_rng(0).uniform(size=(LEAF * 1024, 2))
    tree = make_tree(values)
    sides = (tree.high - tree.low)[tree.count == 1]
    assert sides.max() < 4 / 32
    assert np.median(sides.prod(axis=1)) < 1.1 / 1024
    query = make_query(values[: 64 * 1024])
    assert np.median((query.high - query.low).prod(axis=1)) < 1.1 / 1024
    assert np.median((query.group_high - query.group_low).prod(axis=1)) < 0.6 / (16 * 1024)


@pytest.mark.parametrize("d", [3, 20])
def test_rows_and_their_tree_are_in_memory_once(d):
    n, step = 200_000, 10_000
    make_tree(np.zeros((20_000, d)))  # compiled
    pieces = (np.full((step, d), float(i)) for i in range(n // step))
    rows = TreeRows(d, n)
    tracemalloc.start()
    try:
        for piece in pieces:
            rows.add(piece)
        tree = rows.tree()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Values are counted where TreeRows was made. Beside them: order and two rooms for keys, a
    # part, what becomes weights and boxes.
    assert tree.tiles.nbytes >= 8 * n * d
    of_part = 3 * PART * 8 * d
    assert peak <= tree.nbytes - tree.tiles.nbytes + 16 * n + of_part + 2**20
    assert tree.tiles.base is None
