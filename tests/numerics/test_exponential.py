"""The two exponentials, over all they may be given."""

from math import exp, inf
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from dkde.numerics.exponential import LEAST, NEAR_ZERO, SLOPE, exp32, exp64

Array = npt.NDArray[Any]

# From here on down they are 0.
VANISHED = {"float64": -709.0, "float32": -88.0}


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


def assert_within_its_bound(x: Array, precision: str) -> None:
    bound = NEAR_ZERO[precision] - SLOPE[precision] * x.astype(np.float64)
    assert (relative_error(x, precision) <= bound).all()


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_accuracy_over_the_range(precision: str) -> None:
    spread = np.linspace(LEAST[precision], 0, 1_000_001)
    near = np.linspace(-2, 0, 1_000_001)  # every remainder, and no product rounded much
    fine = -np.geomspace(1e-30, 1, 20_001)
    assert_within_its_bound(np.concatenate([spread, near, fine]).astype(precision), precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_at_the_borders_between_powers_of_two(precision: str) -> None:
    k = np.arange(0, int(-LEAST[precision] / np.log(2)))
    half = (-(k + 0.5) * np.log(2)).astype(precision)
    assert_within_its_bound(np.concatenate([np.nextafter(half, s) for s in (-inf, 0)]), precision)


@pytest.mark.slow
def test_every_float32_of_two_octaves() -> None:
    bits = np.arange(np.float32(0.25).view(np.int32), np.float32(1).view(np.int32), dtype=np.int32)
    for part in np.array_split(bits, 64):
        assert_within_its_bound(-part.view(np.float32), "float32")


@given(st.floats(max_value=0, allow_nan=False))
def test_agrees_with_the_c_library(x: float) -> None:
    assert evaluate(x, "float64")[0] == pytest.approx(exp(x), rel=2e-13, abs=4e-308)


@given(st.floats(allow_nan=False), st.sampled_from(["float64", "float32"]))
def test_is_a_weight_between_zero_and_one(x: float, precision: str) -> None:
    with np.errstate(over="ignore"):
        argument = np.asarray(x, precision)
    value = evaluate(argument, precision)[0]
    assert 0 <= value <= 1
    assert value == 0 or argument > VANISHED[precision]
    assert value > 0 or argument < LEAST[precision]


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_special_arguments(precision: str) -> None:
    tiny = np.finfo(precision).smallest_subnormal
    largest = np.finfo(precision).max
    x = [-inf, -largest, -tiny, -0.0, 0.0, tiny, 1e-10, 1.0, 1e30, largest, inf]
    expected = [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    np.testing.assert_array_equal(evaluate(x, precision), expected)
