"""Means of rows and their standard errors, with equal weights or given ones."""

import numpy as np

from dkde.typing import FloatArray

# The smallest scaled weight: 0 times an infinite value would be NaN.
_LEAST = float(np.finfo(np.float64).tiny)


def shares(weights: FloatArray) -> FloatArray:
    """Return positive weights divided by the greatest of them."""
    found: FloatArray = np.maximum(weights / weights.max(), _LEAST)
    return found


def mean(values: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return the mean of each row of an array, Σ wᵢ xᵢ / Σ wᵢ.

    Parameters
    ----------
    values : array (..., n)
        At least one along the last axis; infinite ones make an infinite mean.
    weights : array (n,), optional
        Positive, on any scale; by default all are equal.

    Examples
    --------
    >>> mean(np.array([[1.0, 4.0]]), np.array([2.0, 1.0]))
    array([2.])
    """
    if weights is None:
        plain: FloatArray = values.mean(axis=-1)
        return plain
    w = shares(weights)
    total = w.sum()
    rows = values.reshape(-1, len(w))
    # Row by row: no second array of all values.
    means = np.array([(row * w).sum() / total for row in rows])
    return means.reshape(values.shape[:-1])


def effective_number(weights: FloatArray) -> float:
    """Return the effective number of rows: (Σ wᵢ)² / Σ wᵢ².

    Examples
    --------
    >>> effective_number(np.array([3.0, 3.0])), round(effective_number(np.array([1.0, 1e-9])), 6)
    (2.0, 1.0)
    """
    w = shares(weights)
    return float(w.sum() ** 2 / (w * w).sum())


def standard_error(values: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return the standard error of the mean of each row of an array.

    It is √(Σ wᵢ (xᵢ − m)² / Σ wᵢ / (n_eff − 1)), where n_eff = (Σ wᵢ)² / Σ wᵢ²; with equal
    weights, std (ddof = 1) over the root of the number.

    Parameters
    ----------
    values : array (n_means, n)
        Finite.
    weights : array (n,), optional
        Positive, on any scale.

    Returns
    -------
    array (n_means,)
        NaN where n_eff is 1 or less.
    """
    n = values.shape[1]
    if weights is None:
        if n < 2:
            return np.full(len(values), np.nan)
        error: FloatArray = values.std(axis=1, ddof=1) / np.sqrt(n)
        return error
    number = effective_number(weights)
    if n < 2 or number <= 1:
        return np.full(len(values), np.nan)
    centres = mean(values, weights)
    spreads = [mean((row - m) ** 2, weights) for row, m in zip(values, centres, strict=True)]
    return np.sqrt(np.array(spreads) / (number - 1))
