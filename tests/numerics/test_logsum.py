"""The monoid of log-sums."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dkde.numerics.logsum import Densities, combine, finalise, identity, mixed, split

Array = npt.NDArray[Any]

SHAPE = (8, 4)  # of two bandwidths
numbers = st.one_of(
    st.just(-np.inf), st.floats(-1e12, 1e12), st.floats(-50, 50), st.floats(-1e-9, 1e-9)
)
counts = st.integers(0, 10**9).map(float)


def _partial(sums: Array, errors: Array, pairs: Array) -> Array:
    errors[np.isneginf(sums[:-1])] = 0.0
    return np.concatenate([sums, errors, pairs])


partials = st.builds(
    _partial,
    arrays(np.float64, (3, 4), elements=numbers),
    arrays(np.float64, (2, 4), elements=st.floats(0, 1e-3)),
    arrays(np.float64, (3, 4), elements=counts),
)


def assert_equal_to_rounding(a: Array, b: Array) -> None:
    (sums, errors), (others, other_errors) = (((*x[:3], *x[5:]), x[3:5]) for x in (a, b))
    np.testing.assert_allclose(sums, others, rtol=1e-15, atol=1e-14)
    # Each merging adds its own rounding to the bounds, which differ by as much.
    roundings = np.where(np.isfinite(a[:2]), 1e-15 * (1 + np.abs(a[:2])), 0.0)
    assert (np.abs(errors - other_errors) <= roundings * 2 + 1e-12 * errors).all()


@given(partials)
def test_identity_changes_nothing(part: Array) -> None:
    nothing = identity(2, SHAPE[1])
    np.testing.assert_array_equal(combine([nothing, part]), part)
    np.testing.assert_array_equal(combine([part, nothing]), part)


@given(partials, partials)
def test_combining_commutes(a: Array, b: Array) -> None:
    assert_equal_to_rounding(combine([a, b]), combine([b, a]))


@given(partials, partials, partials)
def test_combining_associates(a: Array, b: Array, c: Array) -> None:
    together = combine([a, b, c])
    assert_equal_to_rounding(together, combine([combine([a, b]), c]))
    assert_equal_to_rounding(together, combine([a, combine([b, c])]))


@given(partials)
def test_one_part_is_itself(part: Array) -> None:
    np.testing.assert_array_equal(combine([part]), part)


@given(partials, partials)
def test_parts_are_left_as_they_were(a: Array, b: Array) -> None:
    before = a.copy(), b.copy()
    finalise(combine([a, b]), [0.0, 0.0])
    np.testing.assert_array_equal((a, b), before)


def test_many_small_parts_add_up() -> None:
    part = np.array([[np.log(1e-3)], [np.log(1e-3)], [1e-9], [7.0], [9.0], [2.0]])
    log_sums, log_weight, errors, pairs, read, missing = split(combine([part] * 1000))
    np.testing.assert_allclose((log_sums[0], log_weight), 0, atol=1e-12)
    np.testing.assert_allclose(errors, 1e-9, rtol=2e-3)
    assert (pairs, read, missing) == (7000, 9000, 2000)


def test_finalise_subtracts_the_normaliser_and_the_eligible_weight() -> None:
    sums, errors = [[1, 2], [3, 4], [0.25, 0.5]], [[1e-9, 0], [0, 1e-8]]
    effort = [[5, 6], [7, 8], [0, 1]]
    values, errors, found = finalise(np.array([*sums, *errors, *effort]), [10.0, 20.0])
    np.testing.assert_array_equal(values, [[-9.25, -8.5], [-17.25, -16.5]])
    np.testing.assert_allclose(errors, [[1e-9, 0], [0, 1e-8]], atol=1e-13)
    assert (errors > 0).all()
    np.testing.assert_array_equal(found, effort)


def test_zero_density_and_no_density_are_told_apart() -> None:
    partial = np.array([[-np.inf, -np.inf], [0.0, -np.inf], [0.0, 0.0], [3.0, 0.0], [3, 4], [0, 0]])
    values, errors, _ = finalise(partial, [0.0])
    np.testing.assert_array_equal(values, [[-np.inf, np.nan]])
    np.testing.assert_array_equal(errors, [[0.0, np.nan]])


@settings(max_examples=few(50))
@given(partials, partials, st.data())
def test_the_error_of_a_union_covers_those_of_its_parts(
    a: Array, b: Array, data: st.DataObject
) -> None:
    # Both sums are wrong by as much as they may be, in drawn directions.
    true = a.astype(np.longdouble), b.astype(np.longdouble)
    for part in true:
        direction = data.draw(st.sampled_from([-1, 1]))
        part[:2] += direction * part[3:5]
    both = combine([a, b])
    there = np.isfinite(both[:2])
    with np.errstate(invalid="ignore"):
        off = np.abs(both[:2] - np.logaddexp(true[0][:2], true[1][:2]))
    oracle = 1e-17 * (1 + np.abs(both[:2][there]))
    assert (off[there] <= both[3:5][there] + oracle).all()


@given(partials, partials)
def test_a_query_with_missing_values_stays_one(a: Array, b: Array) -> None:
    a[:, 1] = np.nan
    for parts in ([a, b], [b, a]):
        found = finalise(combine(parts), [0.0, 0.0])
        assert found.missing.tolist() == [False, True, False, False]
        assert np.isnan(found.values[:, 1]).all()
        assert np.isnan(found.errors[:, 1]).all()
        assert found.scored.shape == (2, 3)
        again = Densities.of(found.stacked())
        np.testing.assert_array_equal(again.values, found.values)
        np.testing.assert_array_equal(again.effort, found.effort)


def test_no_pair_and_missing_values_are_told_apart() -> None:
    nothing = identity(1, 1)
    assert np.isnan(finalise(nothing, [0.0]).values).all()
    assert not finalise(nothing, [0.0]).missing.any()


@pytest.mark.parametrize("seed", range(20))
def test_densities_under_parts_are_mixed_within_their_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_parts, n_rows = int(rng.integers(2, 5)), 40
    weights = rng.exponential(size=(n_parts, 1)) * np.ones(n_rows)
    weights[rng.random(weights.shape) < 0.1] = 0.0  # no pair of the part counts
    scale = 10.0 ** rng.integers(-2, 3)
    true = scale * rng.normal(size=(n_parts, 2, n_rows)) - scale
    true[rng.random(true.shape) < 0.1] = -np.inf
    bounds = 10.0 ** rng.uniform(-12, -3, true.shape)
    bounds[np.isneginf(true)] = 0.0
    off = np.where(np.isneginf(true), 0.0, bounds * rng.uniform(-1, 1, true.shape))
    parts = []
    for of_weight, values, errors in zip(weights, true + off, bounds, strict=True):
        nothing = of_weight == 0
        values[:, nothing] = errors[:, nothing] = np.nan
        stacked = np.concatenate([values, errors, rng.integers(0, 9, (3, n_rows))])
        with np.errstate(divide="ignore"):
            parts.append((Densities.of(stacked), np.log(of_weight)))
    found = mixed(parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        wide = weights[:, None].astype(np.longdouble)
        sums = (wide * np.exp(true.astype(np.longdouble))).sum(axis=0)
        expected = np.log(sums / wide.sum(axis=0)).astype(float)
    np.testing.assert_array_equal(np.isnan(found.values), np.isnan(expected))
    np.testing.assert_array_equal(np.isneginf(found.values), np.isneginf(expected))
    there = np.isfinite(expected)
    off = np.abs(found.values[there] - expected[there])
    assert (off <= found.errors[there]).all()
    # No wider than the widest part, but for rounding.
    widest = np.nanmax(np.where(np.isnan(bounds), 0, bounds), axis=0)
    assert (found.errors <= widest + 1e-14 * (1 + 8 * scale))[there].all()
    np.testing.assert_array_equal(found.effort.read, sum(each.effort.read for each, _ in parts))


def test_a_density_below_the_range_of_floats_adds_nothing_but_its_bound() -> None:
    one, two = (
        Densities.of(np.array([[value], [error], [1.0], [1.0], [0.0]]))
        for value, error in ((-np.inf, np.inf), (-3.0, 1e-9))
    )
    found = mixed([(one, np.zeros(1)), (two, np.zeros(1))])
    assert found.values == pytest.approx(-3.0 - np.log(2))
    assert 1e-9 <= found.errors[0, 0] < 1.1e-9
    both = mixed([(one, np.zeros(1)), (one, np.zeros(1))])
    assert np.isneginf(both.values[0, 0])
    assert np.isinf(both.errors[0, 0])
