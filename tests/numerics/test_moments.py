"""Moments come out the same however the rows are cut."""

from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import borders

from dkde.numerics.moments import Moments, Weight

RELATIVE = 1e-10


def exact_covariance(values, weights=None):
    """Mean and unbiased covariance in extended precision."""
    weights = np.ones(len(values), np.longdouble) if weights is None else weights
    shares = weights.astype(np.longdouble) / weights.astype(np.longdouble).sum()
    mean = shares @ values.astype(np.longdouble)
    centred = values.astype(np.longdouble) - mean
    return mean, (centred * shares[:, None]).T @ centred / (1 - shares @ shares)


def gathered(values, weights, cuts, *, full):
    pieces = [
        Moments.of(values[a:b], None if weights is None else weights[a:b], full=full)
        for a, b in pairwise(cuts)
    ]
    return reduce(Moments.merge, [piece for piece in pieces if piece is not None])


def assert_covariance(actual, expected):
    """To 1e-10 of the product of the two standard deviations."""
    variances = np.diag(expected)
    if actual.ndim == 1:
        np.testing.assert_array_less(np.abs(actual - variances), RELATIVE * variances)
    else:
        bound = RELATIVE * np.sqrt(np.outer(variances, variances))
        np.testing.assert_array_less(np.abs(actual - expected), bound)


@st.composite
def cut_rows(draw):
    """Rows, weights and borders; the rows of a piece may be unlike those of others."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_rows, n_features = draw(st.integers(2, 80)), draw(st.integers(1, 5))
    offset = draw(st.sampled_from([0.0, 0.1, -1e3]))  # larger ones are gather_moments' to take away
    values = rng.normal(size=(n_rows, n_features)) * 10.0 ** rng.uniform(-1, 3, n_features)
    if draw(st.booleans()):
        values.sort(axis=0)
    weights = None
    if draw(st.booleans()):
        weights = rng.uniform(0.1, 3, n_rows)
        weights[rng.random(n_rows) < 0.4] = 0
        weights[rng.choice(n_rows, 2, replace=False)] = [1.0, 2.0]
    return values + offset, weights, draw(borders(n_rows))


@given(cut_rows())
def test_any_cut_gives_the_covariance_of_all_rows(problem):
    values, weights, cuts = problem
    mean, expected = exact_covariance(values, weights)
    for full in (False, True):
        moments = gathered(values, weights, cuts, full=full)
        assert_covariance(moments.covariance, expected)
        np.testing.assert_allclose(moments.mean, mean.astype(float), rtol=1e-14, atol=1e-12)


@given(cut_rows())
def test_covariances_are_numpys(problem):
    values, weights, cuts = problem
    centred = values - values.mean(axis=0)  # NumPy does less well with an offset
    expected = np.atleast_2d(np.cov(centred, rowvar=False, aweights=weights))
    np.testing.assert_allclose(
        gathered(centred, weights, cuts, full=True).covariance,
        expected,
        rtol=RELATIVE,
        atol=RELATIVE * expected.diagonal().max(),
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 400))
def test_an_offset_of_1e8_costs_no_digit_in_one_piece(seed, n_rows):
    values = np.random.default_rng(seed).normal(size=(n_rows, 3)) + 1e8
    for full in (False, True):
        moments = Moments.of(values, None, full=full)
        assert_covariance(moments.covariance, exact_covariance(values)[1])


@given(st.integers(0, 2**32 - 1), st.data())
def test_about_an_origin_nor_does_it_between_pieces_that_are_unlike(seed, data):
    values = np.sort(np.random.default_rng(seed).normal(size=(100, 3)), axis=0) + 1e8
    about = gathered(values - values[7], None, data.draw(borders(100)), full=True)
    mean, expected = exact_covariance(values)
    moments = about.shifted(values[7])
    assert_covariance(moments.covariance, expected)
    np.testing.assert_allclose(moments.mean, mean.astype(float), rtol=1e-15)
    np.testing.assert_array_equal(moments.low, values.min(axis=0))
    np.testing.assert_array_equal(moments.high, values.max(axis=0))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4), cut_rows())
def test_constants_have_exactly_no_variance(constants, problem):
    values, weights, cuts = problem
    constants = np.broadcast_to([0.1, *constants], (len(values), len(constants) + 1))
    both = np.hstack([values, constants])
    d = values.shape[1]
    for full in (False, True):
        covariance = gathered(both, weights, cuts, full=full).covariance
        assert (covariance[d:] == 0).all()
        if full:
            assert (covariance[:, d:] == 0).all()
        assert (np.diag(covariance[:d, :d]) if full else covariance[:d]).all()


def test_a_feature_constant_but_in_rows_of_weight_zero_is_constant():
    values = np.array([[0.1, 1.0], [0.1, 2.0], [7.0, 3.0]])
    moments = Moments.of(values, np.array([1.0, 1.0, 0.0]), full=False)
    np.testing.assert_array_equal(moments.covariance, [0.0, 0.5])
    np.testing.assert_array_equal(moments.low, [0.1, 1.0])
    np.testing.assert_array_equal(moments.high, [0.1, 2.0])


def test_a_feature_that_varies_between_pieces_only_is_not_constant():
    values = np.array([[3.0], [3.0], [5.0], [5.0]])
    moments = gathered(values, None, [0, 2, 4], full=False)
    assert moments.covariance == pytest.approx([4 / 3], rel=1e-15)


def test_rows_none_of_which_counts_have_no_moments():
    assert Moments.of(np.ones((3, 2)), np.zeros(3), full=True) is None
    assert Moments.of(np.ones((0, 2)), None, full=False) is None


class TestWeight:
    def test_rows_without_weights_count_as_one_each(self):
        weight = Weight.of(7, None)
        assert weight.effective_size == 7
        assert weight.degrees == 6

    @given(st.lists(st.floats(0.01, 100), min_size=2, max_size=50), st.data())
    def test_disjoint_sets_add_up(self, weights, data):
        weights = np.array(weights)
        at = data.draw(st.integers(1, len(weights) - 1))
        both = Weight.of(at, weights[:at]) + Weight.of(len(weights) - at, weights[at:])
        assert both.in_units(0).total == pytest.approx(weights.sum(), rel=1e-14)
        expected = weights.sum() ** 2 / (weights**2).sum()
        assert both.effective_size == pytest.approx(expected, rel=1e-13)

    @pytest.mark.parametrize("order", [1, -1])
    def test_sets_of_any_magnitude_add_up(self, order):
        magnitudes = [1e-300, 1e-160, 1e300][::order]
        pieces = [Weight.of(2, np.array([1.0, 3.0]) * magnitude) for magnitude in magnitudes]
        both = pieces[0] + pieces[1] + pieces[2]
        assert both.effective_size == pytest.approx(1.6)
        assert both.degrees * 2.0**both.exponent == pytest.approx(1.5e300)
        low = Weight.of(2, np.array([1.0, 3.0]) * 1e-300) + Weight.of(1, np.array([1e-300]))
        assert low.effective_size == pytest.approx(25 / 11)

    def test_one_row_that_counts_leaves_no_degrees(self):
        assert Weight.of(1, np.array([0.3])).degrees == 0
        assert Weight.of(3, np.array([0.0, 1.0, 0.0])).degrees == 0
