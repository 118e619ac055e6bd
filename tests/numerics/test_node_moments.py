"""Moments of nodes say what their rows add, to within what they say they may be off by."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dkde.numerics.compiling import compiled
from dkde.numerics.node_moments import has_moments, higher, log_errors, make_moments, n_moments
from dkde.numerics.node_sums import add_node, farthest
from dkde.numerics.tree import LEAF, make_query, make_tree

Number = np.longdouble
CASES = [(0, 1), (0, 3), (0, 16), (1, 1), (1, 2), (1, 3), (1, 5), (1, 16)]
CASES += [(power, d) for power in (2, 3) for d in (1, 2, 3)]


# What is tested is for compiled callers.
@compiled()
def call_add_node(*arguments):
    add_node(*arguments)


@compiled()
def call_farthest(*arguments):
    return farthest(*arguments)


def rows_of(tree, k):
    """The numbers of a node's rows."""
    return tree.order[tree.first[k] * LEAF : (tree.first[k] + tree.count[k]) * LEAF]


def true_sum(power, row, values, weights, inverse):
    """A node's sum for one row, in extended precision."""
    squared = ((row.astype(Number) - values.astype(Number)) ** 2).sum(axis=1)
    u2 = squared * Number(inverse)
    assert (u2 < 1).all()
    return (weights * (1 - u2) ** power).sum()


def summary(moments):
    return moments.arrays


def shares_of_doubts(power, values, weights, query, bandwidths):
    """Errors over doubts, of each node that is inside each row's support at some bandwidths."""
    tree, leaves = make_tree(values, weights), make_query(query)
    moments = make_moments(tree, power, bandwidth=float(max(bandwidths)))
    inverse = np.sort(1 / np.asarray(bandwidths, float) ** 2)
    heavy = np.ones(len(values), Number) if weights is None else weights.astype(Number)
    own = np.ascontiguousarray(leaves.rows[:, : values.shape[1]])
    shares = []
    for k in np.flatnonzero(moments.units):
        for i in range(leaves.n_rows):
            k_to = int((call_farthest(own, own, i, tree.low, tree.high, k) * inverse < 1).sum())
            sums, doubts = np.zeros((2, len(inverse), len(own)))
            added = summary(moments), np.empty(values.shape[1]), sums, doubts, np.zeros(len(own))
            call_add_node(power, higher(power), leaves.rows, i, i + 1, inverse, 0, k_to, k, *added)
            assert (sums[k_to:] == 0).all()
            assert (np.delete(sums, i, axis=1) == 0).all()
            mine = rows_of(tree, k)
            for b in range(k_to):
                true = true_sum(power, own[i], values[mine], heavy[mine], inverse[b])
                error = abs(Number(sums[b, i]) - true)
                shares.append(float(error / doubts[b, i]) if error else 0.0)
    return shares


@st.composite
def neighbourhoods(draw):
    """Rows, weights, and query rows amid them; bandwidths at which most nodes are inside."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    power, d = draw(st.sampled_from(CASES))
    n = draw(st.sampled_from([1, 2, 100, 129, 300]))
    values = rng.normal(size=(n, d))
    kind = draw(st.sampled_from(["normal", "equal", "lattice", "line", "uneven"]))
    if kind == "equal":
        values[:] = values[0]
    elif kind == "lattice":
        values = rng.integers(0, 3, (n, d)).astype(float)
    elif kind == "line":
        values = values[:, :1] * np.linspace(0.5, 1, d)
    elif kind == "uneven":
        values *= 10.0 ** rng.uniform(-6, 0, d)
    query = values[rng.integers(0, n, 4)] * rng.uniform(0.5, 1.5, (4, 1))
    reach = float(np.sqrt(((np.abs(values).max(axis=0) * 3) ** 2).sum())) + 1e-3
    scale = 10.0 ** draw(st.sampled_from([-100, -3, 0, 3, 100]))
    offset = draw(st.sampled_from([0.0, 1.0, 1e3, 1e6, 1e12])) * scale
    weights = None
    if draw(st.booleans()):
        weights = np.exp(rng.normal(size=n) * draw(st.sampled_from([1, 30])))
    bandwidths = reach * scale * np.array([2.0, 1.0, 0.5, 0.2])
    return power, values * scale + offset, weights, query * scale + offset, bandwidths


@pytest.mark.slow
@given(neighbourhoods())
@settings(max_examples=40, deadline=None)
def test_sums_are_right_to_within_their_doubts(case):
    assert max(shares_of_doubts(*case), default=0.0) <= 1


@pytest.mark.slow
@given(neighbourhoods())
@settings(max_examples=1500, deadline=None)
def test_many_sums_are_right_to_within_their_doubts(case):
    assert max(shares_of_doubts(*case), default=0.0) <= 1


@pytest.mark.sampled(15)
@pytest.mark.parametrize(("power", "d"), CASES)
def test_rows_amid_the_data_meet_nodes_of_all_sizes(power, d):
    # Lest the test above has nothing to look at, and a doubt is mistaken for an error's size.
    rng = np.random.default_rng(power + 10 * d)
    values = rng.normal(size=(1000, d))
    radius = float(np.sqrt((np.ptp(values, axis=0) ** 2).sum()))
    shares = shares_of_doubts(power, values, rng.uniform(1, 2, 1000), values[:3], [1.01 * radius])
    assert len(shares) == 3 * 15
    assert 0 < max(shares) < 0.2


@pytest.mark.parametrize("power", [1, 2, 3])
def test_rows_at_the_edge_add_next_to_nothing_and_never_less(power):
    values = np.random.default_rng(0).uniform(0.0, 1e-3, (300, 2))
    query = np.array([[-1.0, 0.0], [-1.0 + 1e-6, 5e-4], [-1 + 1e-12, 1e-9]])
    tree = make_tree(values)
    moments = make_moments(tree, power, bandwidth=2.0)
    corner = np.sqrt(call_farthest(query, query, 0, tree.low, tree.high, 0))
    for bandwidth in corner * (1 + np.array([1e-15, 1e-12, 1e-6, 1e-3])):
        inverse = np.array([1 / bandwidth**2])
        for i in range(len(query)):
            if call_farthest(query, query, i, tree.low, tree.high, 0) * inverse[0] < 1:
                sums, doubts = np.zeros((2, 1, len(query)))
                added = summary(moments), np.empty(2), sums, doubts, np.zeros(len(query))
                call_add_node(power, higher(power), query, i, i + 1, inverse, 0, 1, 0, *added)
                true = true_sum(power, query[i], values, np.ones(300, Number), inverse[0])
                assert sums[0, i] >= 0
                assert abs(Number(sums[0, i]) - true) <= doubts[0, i]


def test_rows_are_counted_exactly_and_many_leaves_add_no_rounding():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300_000, 1))
    counted = make_moments(tree := make_tree(values), 0, bandwidth=100.0)
    assert counted.moments[0, 0] == 300_000
    assert (counted.doubts == 0).all()
    np.testing.assert_array_equal(counted.moments[:, 0], tree.mass)
    weights = rng.uniform(0.5, 1, 300_000)
    weighed = make_moments(make_tree(values, weights), 0, bandwidth=100.0)
    true = weights.astype(Number).sum()
    # One by one, 2,344 leaves would be off by some tens of roundings; by pairs within a leaf.
    assert abs(Number(weighed.moments[0, 0]) - true) <= 8 * 2.0**-53 * true
    assert abs(Number(weighed.moments[0, 0]) - true) <= weighed.doubts[0]


def test_nodes_too_wide_for_the_bandwidth_have_no_moments():
    values = np.random.default_rng(0).normal(size=(10_000, 2))
    tree = make_tree(values)
    moments = make_moments(tree, 1, bandwidth=0.5)
    radii = np.sqrt((((tree.high - tree.low) / 2) ** 2).sum(axis=1))
    np.testing.assert_array_equal(moments.units > 0, radii <= 0.5)
    assert 0 < (moments.units > 0).sum() < len(radii)
    assert (moments.moments[moments.units == 0] == 0).all()


@pytest.mark.filterwarnings("error")
def test_one_far_row_takes_the_moments_of_its_nodes_alone():
    values = np.random.default_rng(0).normal(size=(1000, 2))
    values[500] = 1e200
    moments = make_moments(make_tree(values), 1, bandwidth=30.0)
    assert (moments.units == 0).sum() == 4  # down to its leaf
    assert np.isfinite(moments.moments).all()


def test_a_box_of_a_few_floats_has_moments_only_about_its_middle():
    one = np.nextafter(1e9, 2e9)
    values = np.array([[1e9], [one]] * 64)
    assert make_moments(make_tree(values), 1, bandwidth=1.0).units[0] == 0
    assert make_moments(make_tree(values[::2]), 1, bandwidth=1.0).units[0] > 0


@given(neighbourhoods())
@settings(max_examples=30, deadline=None)
def test_no_pair_of_rows_is_farther_than_their_boxes(case):
    _, values, _, query, _ = case
    assume(np.isfinite(values).all())
    tree, leaves = make_tree(values), make_query(query)
    for k in range(len(tree.first)):
        bound = call_farthest(leaves.low, leaves.high, 0, tree.low, tree.high, k)
        away = query.astype(Number)[:, None] - values[rows_of(tree, k)].astype(Number)
        assert (away**2).sum(axis=2).max() <= bound


def test_threads_make_no_difference():
    values = np.random.default_rng(0).normal(size=(100_000, 3))
    tree = make_tree(values)
    alone = make_moments(tree, 2, bandwidth=3.0)
    with ThreadPoolExecutor(4) as pool:
        shared = make_moments(tree, 2, bandwidth=3.0, pool=pool)
    for one, other in zip(summary(alone), summary(shared), strict=True):
        assert one.tobytes() == other.tobytes()


def test_which_kernels_have_moments():
    assert [has_moments(p, d) for p, d in CASES] == [True] * len(CASES)
    assert not any(
        has_moments(p, d) for p, d in ((-1, 1), (0, 17), (1, 17), (2, 4), (3, 4), (4, 1))
    )
    # As many as there are monomials of the terms of (b . z - g |z|^2)^k, k up to the power.
    assert [n_moments(3, d) for d in (1, 2, 3)] == [10, 20, 35]


def test_errors_of_logs_hold_the_sums_on_either_side():
    sums, doubts = (
        np.array([1.0, 5.0, 1e-9, 1e-12, 0.0, 0.0]),
        np.array([0, 1e-9, 9e-10, 1e-9, 0, 1.0]),
    )
    errors = log_errors(sums, doubts)
    assert errors[0] == 0
    assert errors[4] == 0
    assert np.isposinf(errors[[3, 5]]).all()
    for i in (1, 2):
        least = -np.log1p(-Number(doubts[i]) / Number(sums[i]))
        assert least <= errors[i] <= least * (1 + Number(1e-12))
