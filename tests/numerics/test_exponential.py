"""The two exponentials, over all they may be given."""

from math import exp, inf
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from dkde.numerics.exponential import exp32, exp64

Array = npt.NDArray[Any]

LOWEST = {"float64": -708.0, "float32": -87.0}


# In a loop and with the hot loop's flags, so that it is the vectorised code that is tested.
@njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
def _exp64(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = exp64(x[i])


@njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
def _exp32(x: Array, out: Array) -> None:
    for i in range(x.size):
        out[i] = exp32(x[i])


def evaluate(x: Any, precision: str) -> Array:
    x = np.atleast_1d(np.asarray(x, precision))
    out = np.full(x.shape, np.nan, precision)
    (_exp64 if precision == "float64" else _exp32)(x, out)
    return out


def relative_error(x: Array, precision: str) -> Array:
    exact = np.exp(x.astype(np.longdouble))
    return np.asarray(np.abs(evaluate(x, precision) - exact) / exact, np.float64)


@pytest.mark.parametrize(
    ("precision", "near_zero", "slope"),
    # The slope: rounding of x / ln 2 and of k ln 2, relative to x.
    [("float64", 1e-14, 2.3e-16), ("float32", 1e-6, 1.2e-7)],
)
def test_accuracy_over_the_range(precision: str, near_zero: float, slope: float) -> None:
    lowest = LOWEST[precision]
    spread = np.linspace(np.nextafter(lowest, 0), 0, 200_001)
    fine = -np.geomspace(1e-30, 1, 20_001)
    x = np.concatenate([spread, fine]).astype(precision)
    x = x[x > lowest]
    assert (relative_error(x, precision) <= near_zero - slope * x).all()


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_at_the_borders_between_powers_of_two(precision: str) -> None:
    k = np.arange(0, int(-LOWEST[precision] / np.log(2)))
    half = -(k + 0.5) * np.log(2)
    x = np.concatenate([np.nextafter(half.astype(precision), side) for side in (-inf, 0)])
    x = x.astype(precision)
    bound = 1e-14 - 2.3e-16 * x if precision == "float64" else 1e-6 - 1.2e-7 * x
    assert (relative_error(x, precision) <= bound).all()


@given(st.floats(max_value=0, allow_nan=False))
def test_agrees_with_the_c_library(x: float) -> None:
    assert evaluate(x, "float64")[0] == pytest.approx(exp(x), rel=2e-13, abs=4e-308)


@given(st.floats(allow_nan=False), st.sampled_from(["float64", "float32"]))
def test_is_a_weight_between_zero_and_one(x: float, precision: str) -> None:
    with np.errstate(over="ignore"):
        argument = np.asarray(x, precision)
    value = evaluate(argument, precision)[0]
    assert 0 <= value <= 1
    assert (value == 0) == (argument <= LOWEST[precision])


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_special_arguments(precision: str) -> None:
    tiny = np.finfo(precision).smallest_subnormal
    largest = np.finfo(precision).max
    x = [-inf, -largest, -tiny, -0.0, 0.0, tiny, 1e-10, 1.0, 1e30, largest, inf]
    expected = [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    np.testing.assert_array_equal(evaluate(x, precision), expected)
