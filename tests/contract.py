"""The accuracy that dkde promises, as assertions."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

TOLERANCE = 1e-9
TOLERANCE_32 = 1e-4


def assert_within(actual: Array, expected: Array, scale: Array | None = None) -> None:
    """float64: ``|error| <= 1e-9 max(1, |log p|)``; NaN and infinities where expected."""
    largest = np.maximum(1, np.abs(expected) if scale is None else scale)
    _assert_errors_below(actual, expected, TOLERANCE * largest)


def assert_within_32(actual: Array, expected: Array, exponents: Array) -> None:
    """float32: ``|error| <= 1e-4 max(1, nearest exponent)``."""
    _assert_errors_below(actual, expected, TOLERANCE_32 * np.maximum(1, exponents))


def _assert_errors_below(actual: Array, expected: Array, bound: Array) -> None:
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    error = np.abs(actual[finite] - expected[finite])
    wrong = ~(error <= bound[finite])  # so that NaN is wrong
    assert not wrong.any(), (
        f"{wrong.sum()} of {wrong.size} miss: {actual[finite][wrong][:3]} instead of "
        f"{expected[finite][wrong][:3]}, errors {error[wrong][:3]}, "
        f"{(error / bound[finite])[wrong].max():.3g} times the tolerance"
    )
