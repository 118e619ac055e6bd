"""The monoid of log-sums."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dkde.numerics.logsum import combine, finalise, identity

Array = npt.NDArray[Any]

SHAPE = (3, 4)
numbers = st.one_of(
    st.just(-np.inf), st.floats(-1e12, 1e12), st.floats(-50, 50), st.floats(-1e-9, 1e-9)
)
partials = arrays(np.float64, SHAPE, elements=numbers)


def assert_equal_to_rounding(a: Array, b: Array) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-15, atol=1e-14)


@given(partials)
def test_identity_changes_nothing(part: Array) -> None:
    nothing = identity(SHAPE[0] - 1, SHAPE[1])
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
    part = np.log(np.full((2, 1), 1e-3))
    np.testing.assert_allclose(combine([part] * 1000), 0, atol=1e-12)


def test_finalise_subtracts_the_normaliser_and_the_eligible_weight() -> None:
    log_sums = np.array([[1.0, 2.0], [3.0, 4.0], [0.25, 0.5]])
    np.testing.assert_array_equal(
        finalise(log_sums, [10.0, 20.0]), [[-9.25, -8.5], [-17.25, -16.5]]
    )


def test_zero_density_and_no_density_are_told_apart() -> None:
    log_sums = np.array([[-np.inf, -np.inf], [0.0, -np.inf]])
    density = finalise(log_sums, [0.0])
    np.testing.assert_array_equal(density, [[-np.inf, np.nan]])
